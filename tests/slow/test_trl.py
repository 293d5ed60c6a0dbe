"""Exports in trl, two steps of each of its trainers. Skipped where trl is not installed (the extra `rl`)."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from parrots.models import hf
from parrots.models.config import Dense, MoE

from ..models.test_hf import VOCABULARY, built

trl = pytest.importorskip("trl", reason="trl is not installed; it comes with the extra rl")

FFNS = [Dense(d_ff=20, activation="mlp"), MoE(d_ff=12, n_experts=4, activation="mlp", router="hash")]
QUIET = {"max_steps": 2, "report_to": [], "use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True}


@pytest.fixture(params=FFNS, ids=["ungated", "hash"])
def exported(request, tmp_path):
    """A model with code of its own, as transformers loads it, its tokenizer, and its weights before any step."""
    folder = tmp_path / "model"
    hf.export(built(request.param), folder, VOCABULARY)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    words = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    words.pad_token = words.eos_token
    return model, words, {name: weight.clone() for name, weight in model.named_parameters()}


def moved(model, before) -> bool:
    return all(torch.isfinite(w).all() for w in model.parameters()) and any(
        not torch.equal(weight, before[name]) for name, weight in model.named_parameters()
    )


def test_an_ungated_export_is_fine_tuned(exported, tmp_path):
    model, words, before = exported
    rows = Dataset.from_dict({"text": ["<bos> a b c", "<bos> c b a", "<bos> b b b", "<bos> a a"]})
    config = trl.SFTConfig(output_dir=str(tmp_path / "out"), per_device_train_batch_size=2, max_length=12, **QUIET)
    trainer = trl.SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=words)
    assert trainer.train().training_loss > 0
    assert moved(model, before)


def test_an_ungated_export_learns_from_rewards(exported, tmp_path):
    """GRPO: four answers a prompt, of which those with later letters are better."""
    model, words, before = exported
    rows = Dataset.from_dict({"prompt": ["<bos> a b", "<bos> c", "<bos> b", "<bos> d e"]})
    config = trl.GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        learning_rate=1e-2,
        **QUIET,
    )

    def letters(completions, **_):
        return [float(sum(map(ord, text))) for text in completions]

    trainer = trl.GRPOTrainer(model=model, reward_funcs=letters, args=config, train_dataset=rows, processing_class=words)
    trainer.train()
    assert moved(model, before)
