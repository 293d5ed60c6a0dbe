"""The memory that a plan foretells, beside the tensors that are alive in a real step."""

from pathlib import Path

import pytest

from parrots.models.memory import Step, memory
from parrots.models.moe import fastest
from parrots.placement import Placement
from parrots.spec import Trial
from parrots.training.live import LiveBytes
from parrots.training.rehearsal import peak_bytes

from ..conftest import PATH, SEQUENCES

BOOK = {"kind": "phonebook", "n_entries": 1000}


def dense(d_ff: int, activation: str = "swiglu") -> dict:
    return {"kind": "dense", "d_ff": d_ff, "activation": activation}


def moe(d_ff: int, n_experts: int, **more) -> dict:
    return {"kind": "moe", "d_ff": d_ff, "n_experts": n_experts, **more}


def trial(d: int, layers: int, ffn: dict, batch: int, task: dict = BOOK, kv: int = 4, **training) -> Trial:
    model = {"d_model": d, "n_layers": layers, "n_heads": 4, "n_kv_heads": kv, "ffn": ffn}
    said = {"steps": 10, "batch_size": batch, "lr": 1e-3, **training}
    return Trial.model_validate({"model": model, "task": task, "training": said})


def foretold(one: Trial, micro: int | None = None, recompute: bool = False, backend: str = "auto"):
    examples, task = micro or one.training.batch_size, one.task
    rows = examples * (task.seq_len - 1) * one.model.top_k
    step = Step(
        examples,
        task.seq_len - 1,
        task.n_counted,
        task.vocab_size,
        task.input_dim,
        one.training.precision == "bfloat16",
        backend=fastest(rows, one.model.n_experts, one.model.d_model, "cpu") if backend == "auto" else backend,
        recompute=recompute,
        accumulate=examples < one.training.batch_size,
    )
    return memory(one.model, step)


TRIALS = {
    "quickstart's smallest": trial(16, 2, dense(16), 100, kv=2),
    "quickstart's mixture": trial(16, 2, moe(16, 16), 100, kv=2),
    "written-out gradients": trial(64, 4, dense(256), 128),
    "the paper's FFN": trial(128, 4, dense(128, "mlp"), 256),
    "more weights than tokens": trial(256, 4, dense(256, "mlp"), 4),
    "eight experts": trial(64, 2, moe(64, 8), 128),
    "the paper's mixture": trial(256, 4, moe(256, 8, activation="mlp"), 32),
    "one expert a token": trial(64, 2, moe(64, 4, top_k=1, renormalize=False), 128),
    "a shared expert": trial(64, 2, moe(32, 16, top_k=4, n_shared=1), 64),
    "experts that choose": trial(64, 2, moe(64, 8, router="expert_choice", renormalize=False), 64),
    "few counted tokens": trial(64, 2, dense(64), 64, PATH),
    "vectors": trial(64, 2, dense(64), 64, SEQUENCES),
    "bfloat16": trial(128, 4, dense(512), 64, precision="bfloat16"),
    "a mixture in bfloat16": trial(128, 4, moe(128, 8), 64, precision="bfloat16"),
}


@pytest.mark.parametrize("name", TRIALS)
@pytest.mark.parametrize(("parts", "recompute"), [(1, False), (4, False), (1, True)], ids=["whole", "micro", "recompute"])
def test_the_peak_is_foretold_within_15_percent(name, parts, recompute):
    one = TRIALS[name]
    micro = one.training.batch_size // parts
    place = Placement(Path(), micro_batch=micro, recompute=recompute)
    assert foretold(one, micro, recompute).peak == pytest.approx(peak_bytes(one, place), rel=0.15)


@pytest.mark.parametrize("backend", ["loop", "grouped", "padded"])
def test_the_peak_is_foretold_for_each_way_to_compute_experts(backend):
    one = TRIALS["eight experts"]
    got = peak_bytes(one, Placement(Path(), backend=backend))
    assert foretold(one, backend=backend).peak == pytest.approx(got, rel=0.15)


def test_workers_share_weights_gradients_and_moments():
    model, step = TRIALS["more weights than tokens"].model, Step(4, 15, 15, 39)
    alone, four = memory(model, step), memory(model, Step(4, 15, 15, 39, workers=4))
    assert four.weights == alone.weights // 4
    assert four.adam == alone.adam // 4
    assert four.peak < alone.peak


def test_live_bytes_are_those_that_somebody_holds():
    import torch

    with LiveBytes() as live:
        held = torch.zeros(1000)
        view = held.view(10, 100)
        assert live.now == 4000
        more = held + 1
        assert live.now == 8000
        del more, held
        assert live.now == 4000
        del view
    assert (live.now, live.peak) == (0, 8000)
