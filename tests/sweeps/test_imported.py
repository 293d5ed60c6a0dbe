"""`parrots import`: somebody's folder, told in our words, or what is wrong with it in a line."""

import json

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from parrots.models.config import Model, count_active
from sweeps.cli import main

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "num_local_experts": 4,
    "sliding_window": None,
}


@pytest.fixture
def theirs(tmp_path):
    """A Mixtral that transformers made and wrote."""
    torch.manual_seed(0)
    MixtralForCausalLM(MixtralConfig(**SIZES)).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def test_a_mixtral_is_told_with_its_parameters_and_as_a_sweep_would_declare_it(theirs, capsys):
    assert main(["import", str(theirs)]) == 0
    told = capsys.readouterr().out
    made = MixtralForCausalLM.from_pretrained(theirs)
    assert f"{sum(weight.numel() for weight in made.parameters()):,}" in told
    assert "d16-E4k2 as mixtral: 50 tokens, sequences of up to 32" in told
    assert main(["import", str(theirs), "--json"]) == 0
    model = Model.model_validate_json(capsys.readouterr().out)
    assert (model.d_model, model.n_kv_heads, model.ffn.n_experts, model.ffn.renormalize) == (16, 2, 4, True)
    assert f"{count_active(model, 50).N:,}" in told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b"{", "config.json: not JSON (Expecting"),
        ("config.json", b"\xff\xfe{", "config.json: not JSON ("),
        ("config.json", b"[]", "config.json: does not describe a model ("),
        ("config.json", json.dumps({"model_type": "mixtral"}).encode(), "config.json: does not describe a model (KeyError: "),
        ("config.json", json.dumps({**SIZES, "model_type": "gpt2"}).encode(), "model_type='gpt2': cannot be loaded; these can"),
        ("model.safetensors", b"nothing", "model.safetensors: not safetensors ("),
        ("model.safetensors", None, "not among the weights"),
        ("config.json", None, "No such file or directory"),
        ("vocab_size", 51, "size mismatch for"),
        ("hidden_act", "relu", "hidden_act='relu': cannot be loaded; only 'silu' can"),
    ],
)
def test_what_cannot_be_imported_is_one_line(theirs, capsys, name, content, said):
    if name.endswith(("json", "safetensors")):
        (theirs / name).unlink()
        if content is not None:
            (theirs / name).write_bytes(content)
    else:
        config = json.loads((theirs / "config.json").read_text())
        (theirs / "config.json").write_text(json.dumps(config | {name: content}))
    capsys.readouterr()
    assert main(["import", str(theirs)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
