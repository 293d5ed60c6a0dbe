"""Exports load in transformers and give the same logits, and the other way round."""

import json

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from parrots.evaluation.decode import generate
from parrots.models import hf
from parrots.models.config import Dense, Model, MoE
from parrots.models.transformer import Transformer

VOCABULARY = ["<bos>", "<eos>", *(chr(c) for c in range(ord("a"), ord("z") + 1))]
SEQ = 14
SPARSE = MoE(d_ff=12, n_experts=5)
NAMED = [
    ("mistral", Dense(d_ff=20), {}),
    ("mistral", Dense(d_ff=20), {"tie_embeddings": True, "n_kv_heads": 4}),
    ("mixtral", SPARSE, {}),
    ("mixtral", MoE(d_ff=12, n_experts=5, router="random"), {"rope_theta": 500.0}),
    ("qwen3", Dense(d_ff=20), {"qk_norm": "head"}),
    ("qwen3_moe", SPARSE, {"qk_norm": "head"}),
    ("qwen3_moe", MoE(d_ff=12, n_experts=5, top_k=1, renormalize=False), {"qk_norm": "head", "tie_embeddings": True}),
    ("olmoe", SPARSE, {"qk_norm": "projection"}),
    ("olmoe", MoE(d_ff=12, n_experts=5, top_k=3, renormalize=False), {"qk_norm": "projection"}),
    ("parrots", Dense(d_ff=20, activation="mlp"), {}),
    ("parrots", Dense(d_ff=20), {"qk_norm": "projection"}),
    ("parrots", MoE(d_ff=12, n_experts=5, activation="mlp"), {"n_kv_heads": 4}),
    ("parrots", MoE(d_ff=12, n_experts=5, top_k=1, renormalize=False), {}),
    ("parrots", MoE(d_ff=12, n_experts=5, router="hash", n_shared=2), {"qk_norm": "head"}),
]


def built(ffn, **options) -> Transformer:
    shape = {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "init_std": 0.3}
    transformer = Transformer(Model(ffn=ffn, **(shape | options)), len(VOCABULARY), SEQ)
    transformer.initialize(0)
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return transformer.eval()


def tokens(B: int = 3, S: int = SEQ) -> torch.Tensor:
    return torch.randint(len(VOCABULARY), (B, S), generator=torch.Generator().manual_seed(0))


def theirs_of(folder):
    """Their own grouped experts want widths of a multiple of 16 bytes."""
    how = {"trust_remote_code": True, "attn_implementation": "eager", "experts_implementation": "eager"}
    return AutoModelForCausalLM.from_pretrained(folder, **how).eval()


@torch.no_grad()
def distance(transformer: Transformer, theirs) -> float:
    return (transformer(tokens()).logits - theirs(tokens()).logits).abs().max().item()


def same(one: Transformer, other: Transformer) -> None:
    assert one.config == other.config
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize(("kind", "ffn", "options"), NAMED)
def test_logits_are_those_of_transformers_in_both_directions(kind, ffn, options, tmp_path):
    ours = built(ffn, **options)
    assert hf.model_type(ours.config) == kind
    hf.export(ours, tmp_path, VOCABULARY)
    theirs = theirs_of(tmp_path)
    assert type(theirs).__name__ == hf.CLASSES[kind]
    assert distance(ours, theirs) < 1e-5
    same(hf.load(tmp_path), ours)


@pytest.mark.parametrize("kind", ["mistral", "mixtral", "qwen3", "qwen3_moe", "olmoe"])
@pytest.mark.parametrize(("n_kv_heads", "tied"), [(2, False), (2, True), (4, False)])
def test_models_that_transformers_wrote_load_here(kind, n_kv_heads, tied, tmp_path):
    common = {"vocab_size": 28, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2, "head_dim": 4}
    common |= {"num_attention_heads": 4, "num_key_value_heads": n_kv_heads, "tie_word_embeddings": tied}
    common |= {"max_position_embeddings": SEQ, "initializer_range": 0.3}
    common |= {"sliding_window": None, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "mixtral":
        common |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    elif kind in ("qwen3_moe", "olmoe"):
        common |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True}
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common), attn_implementation="eager").eval()
    theirs.save_pretrained(tmp_path, max_shard_size="8kB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = hf.load(tmp_path).eval()
    assert (ours.config.n_kv_heads, ours.config.tie_embeddings) == (n_kv_heads, tied)
    assert (ours.head.weight is ours.embedding.weight) == tied
    assert distance(ours, theirs) < 1e-5


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_small_configuration_exports_with_equal_logits_and_loads_as_it_was(data, tmp_path_factory):
    draw = data.draw
    kv = draw(st.sampled_from([1, 2, 4]))
    activation = draw(st.sampled_from(["swiglu", "mlp"]))
    if draw(st.booleans()):
        k = draw(st.integers(1, 4))
        router = draw(st.sampled_from(["top_k", "hash", "random"]))
        renormalize = draw(st.booleans()) if k > 1 else False
        sizes = {"n_experts": draw(st.integers(k, 9)), "d_ff": draw(st.integers(1, 20)), "n_shared": draw(st.integers(0, 2))}
        ffn = MoE(top_k=k, router=router, renormalize=renormalize, activation=activation, **sizes)
    else:
        ffn = Dense(d_ff=draw(st.integers(1, 40)), activation=activation)
    options = {
        "n_layers": draw(st.integers(1, 3)),
        "n_heads": 4,
        "n_kv_heads": kv,
        "d_model": 4 * draw(st.sampled_from([2, 4, 6])),
        "tie_embeddings": draw(st.booleans()),
        "qk_norm": draw(st.sampled_from(["none", "head", "projection"])),
        "norm_eps": draw(st.sampled_from([1e-6, 1e-5])),
        "rope_theta": draw(st.sampled_from([500.0, 1e4, 1e6])),
        "init_std": 0.1,  # of 200 draws the worst is 1.4e-6 apart; at 0.3 rounding alone makes 2.3e-5, half of it theirs
    }
    folder = tmp_path_factory.mktemp("export")
    ours = built(ffn, **options)
    hf.export(ours, folder, VOCABULARY)
    assert distance(ours, theirs_of(folder)) < 1e-5
    same(hf.load(folder), ours)


@pytest.mark.parametrize("ffn", [SPARSE, MoE(d_ff=12, n_experts=5, activation="mlp", router="hash")])
def test_generate_gives_what_our_decoding_gives(ffn, tmp_path):
    """Their cache, ours, and prompts of unequal length, padded on their side to the left."""
    ours = built(ffn)
    hf.export(ours, tmp_path, VOCABULARY)
    theirs = theirs_of(tmp_path)
    prompts, new = tokens(3, 6), 5
    want = generate(ours, prompts, torch.full((3,), 6), new)
    given = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    got = theirs.generate(prompts, attention_mask=torch.ones_like(prompts), **given)
    assert torch.equal(got[:, 6:], want)


def test_the_tokenizer_reads_words(tmp_path):
    hf.export(built(SPARSE), tmp_path, VOCABULARY)
    words = AutoTokenizer.from_pretrained(tmp_path)
    assert words("<bos> b a z", add_special_tokens=False).input_ids == [0, 3, 2, 27]
    assert words.decode([3, 2]) == "b a"
    assert (words.bos_token_id, words.eos_token_id) == (0, 1)


def test_expert_choice_is_refused_by_name(tmp_path):
    choosing = built(MoE(d_ff=12, n_experts=4, router="expert_choice", renormalize=False))
    with pytest.raises(ValueError, match="router='expert_choice': has no form that others load"):
        hf.export(choosing, tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "model_type='gpt2': cannot be loaded; these can: mistral, mixtral"),
        ({"hidden_act": "relu"}, "hidden_act='relu': cannot be loaded; only 'silu' can"),
        ({"sliding_window": 4096}, "sliding_window=4096: cannot be loaded"),
        ({"head_dim": 8}, "head_dim=8: cannot be loaded"),
        ({"num_key_value_heads": 3}, r"config.json: .*n_kv_heads"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_parameters: scaled rotary positions"),
    ],
)
def test_what_cannot_be_loaded_is_named(change, said, tmp_path):
    hf.export(built(Dense(d_ff=20)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["parrots"]
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=said):
        hf.load(tmp_path)


def test_a_folder_without_its_weights_names_the_first(tmp_path):
    hf.export(built(Dense(d_ff=20)), tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match="not among the weights"):
        hf.load(tmp_path)


def test_transformers_is_of_the_fifth_generation():
    assert transformers.__version__.startswith("5.")
