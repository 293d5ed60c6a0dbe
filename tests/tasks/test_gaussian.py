"""Vectors in, a sign out: the data, the model that reads them, and a trial that learns them by heart."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from parrots.evaluation.decode import generate
from parrots.execution import run_trial
from parrots.models import hf
from parrots.models.config import count_active, count_total, flops_per_token
from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.tasks.gaussian import Gaussian
from parrots.tasks.store import load
from parrots.tasks.task import Scores
from parrots.training import weights

from ..conftest import MOE, make

TASK = Gaussian(n_sequences=3000, length=3, dim=10, n_test=500)
SMALL = {"kind": "gaussian", "n_sequences": 64, "length": 3, "dim": 8, "n_test": 64}


def test_vectors_are_as_long_as_one_and_labels_are_coins():
    train = TASK.make("train")
    assert train.vectors_NSI.shape == (3000, 3, 10)
    assert train.vectors_NSI.dtype == np.float32
    assert train.vectors_NSI.mean() == pytest.approx(0, abs=4 / math.sqrt(10 * 90_000))
    assert np.square(train.vectors_NSI).sum(2).mean() == pytest.approx(1, abs=0.02)
    labels = train.tokens_NS[:, -1]
    assert labels.mean() == pytest.approx(0.5, abs=2 / math.sqrt(3000))
    assert abs(np.corrcoef(train.vectors_NSI.reshape(3000, -1).T, labels)[-1, :-1]).max() < 4.5 / math.sqrt(3000)


def test_the_test_asks_for_sequences_of_the_training_set_with_their_labels():
    train, test = (
        {x.tobytes(): y[-1] for x, y in zip(s.vectors_NSI, s.tokens_NS, strict=True)} for s in map(TASK.make, ("train", "test"))
    )
    assert len(test) == 500
    assert test.items() <= train.items()


def test_only_the_label_counts_and_each_right_one_is_a_bit():
    test = TASK.make("test")
    assert np.array_equal(TASK.counted(test), np.arange(4) == np.full((500, 1), 3))
    for nll, bits in ((0.0, 3000), (math.log(2), 0), (5.0, 0)):
        scores = Scores(np.full((500, 4), nll, np.float32), np.ones((500, 4), bool))
        found = {m.metric: m.value for m in TASK.measure(test, scores, 1)}
        assert found["memory_bits"] == pytest.approx(bits, abs=1)
        assert found["exact_match"] == 1


def test_vectors_are_stored_and_mapped_as_they_were_made(tmp_path):
    made = TASK.make("train")
    for _ in range(2):
        found = load(TASK, "train", tmp_path)
        assert all(np.array_equal(a, b) for a, b in zip(found, made, strict=True))
    assert not found.vectors_NSI.flags.owndata


@pytest.mark.parametrize("ffn", [None, MOE])
def test_counts_and_flops_are_those_of_the_built_model(ffn):
    trial = make(ffn, SMALL)
    model = Transformer(trial.model, 2, 3, input_dim=8)
    assert model.embedding.weight.shape == (16, 8)
    assert trial.total == count_total(trial.model, 2, 8)
    assert trial.total.all == sum(weight.numel() for weight in model.parameters())
    assert trial.total.embedding == model.embedding.weight.numel()
    assert trial.active == count_active(trial.model, 2, 8)
    if ffn is None:
        with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            model(torch.zeros(1, 3, 8))
        masked = 4 * 16 * 2 * (3 * 3 - 3 * 4 // 2)
        assert flops_per_token(trial.model, 2, 3, 8) * 3 == counter.get_total_flops() - masked
    assert trial.flops == 3 * trial.tokens * flops_per_token(trial.model, 2, 3, 8)


@pytest.mark.parametrize("ffn", [{"kind": "dense", "d_ff": 64}, {"kind": "moe", "d_ff": 32, "n_experts": 4}])
def test_a_small_model_learns_every_label_by_heart(ffn, tmp_path):
    trial = make(ffn, SMALL, steps=200, batch_size=64, lr=1e-2)
    record = run_trial(trial, Placement(tmp_path, tmp_path / "weights"))
    final = {m.metric: m.value for m in record.measurements}
    assert final["exact_match"] == 1
    assert 60 < final["memory_bits"] <= 64
    kept = weights.load(trial, weights.path_of(trial.id, tmp_path / "weights"), record.weights_sha256)
    test = load(trial.task, "test", tmp_path)
    with torch.no_grad():
        said = kept(torch.from_numpy(test.inputs())).logits[:, -1].argmax(-1).numpy()
    assert np.array_equal(said, test.tokens_NS[:, -1])


@pytest.mark.parametrize("how", [{"micro_batch": 7}, {"recompute": True}])
def test_placement_changes_nothing(how, tmp_path):
    one, other = (run_trial(make(MOE, SMALL), Placement(tmp_path, **h)).measurements for h in ({}, how))
    assert [m.value for m in one] == pytest.approx([m.value for m in other], abs=1e-5)


def test_bfloat16_is_close_to_float32(tmp_path):
    one, other = (run_trial(make(None, SMALL, precision=p), Placement(tmp_path)).measurements for p in ("float32", "bfloat16"))
    assert [m.value for m in one if m.metric == "loss"] == pytest.approx(
        [m.value for m in other if m.metric == "loss"], abs=0.02
    )


def test_what_wants_tokens_says_so_in_a_line(tmp_path):
    model = Transformer(make(None, SMALL).model, 2, 3, input_dim=8)
    with pytest.raises(ValueError, match="input_dim=8: a model that reads vectors has no form that others load"):
        hf.export(model, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    with pytest.raises(ValueError, match="input_dim=8: the model reads vectors"):
        generate(model, torch.zeros(1, 2, dtype=torch.int64), torch.tensor([2]), 1)
    with pytest.raises(ValueError, match="router='hash': goes by a token's id"):
        make({**MOE, "router": "hash"}, SMALL)
    with pytest.raises(ValueError, match="tie_embeddings=True: inputs are vectors here"):
        Transformer(make().model.model_copy(update={"tie_embeddings": True}), 2, 3, input_dim=8)
    with pytest.raises(ValueError, match="n_test=1000: at most n_sequences=10"):
        Gaussian(n_sequences=10)
