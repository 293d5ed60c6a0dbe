"""Trials trained side by side equal the same trials trained alone, and do not touch one another."""

import pytest
import torch

from parrots.compiling import resolved
from parrots.models.stacked import stack, unstack
from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.spec import Trial
from parrots.tasks.store import load
from parrots.training.parallel import prepare
from parrots.training.stacked import groups, obstacle, train_stacked
from parrots.training.trainer import train

from ..conftest import GRAPHS, GROUPED, MOE, PATH, SEQUENCES, make


def varied(*trials: Trial, model: dict | None = None) -> list[Trial]:
    """These with another model: `model` laid over, and an initial deviation of each one's own."""
    more = [{**(model or {}), "init_std": 0.2 + 0.05 * k} for k in range(len(trials))]
    return [t.model_copy(update={"model": t.model.model_copy(update=m)}) for t, m in zip(trials, more, strict=True)]


def four(ffn=None, task=None, model: dict | None = None, **training) -> list[Trial]:
    """Trials that differ in everything in which they may.

    AdamW divides a first gradient by its own size, and so makes of one that is 0 but for rounding (1e-8 beside 3e-3) a step
    of full length; its eps keeps that out of what is compared.
    """
    training = {"eps": 1e-5, **training}
    each = [(1e-2, 0.0, 0), (3e-3, 0.1, 1), (2e-2, 0.5, 2), (1e-2, 0.1, 0)]
    return varied(*(make(ffn, task, seed, lr=lr, weight_decay=wd, **training) for lr, wd, seed in each), model=model)


def built(trial: Trial, backend: str) -> Transformer:
    task = trial.task
    model = Transformer(trial.model, task.vocab_size, task.seq_len - 1, backend, task.input_dim)
    model.initialize(trial.seed)
    return model


def both(trials: list[Trial], place: Placement):
    """(weights, what training left) of each trial, alone and stacked."""
    examples = load(trials[0].task, "train", place.data)
    alone, together = [], [built(trial, place.backend) for trial in trials]
    for trial in trials:
        model = built(trial, place.backend)
        prepare(model, resolved(trial, place))
        alone.append((model, train(model, trial, examples, place)))
    return alone, list(zip(together, train_stacked(together, trials, examples, place), strict=True))


def assert_equal(alone, stacked, weights=1e-5, curves=5e-6):
    """Up to rounding, which a gradient's norm shows thirty times as large as a loss does."""
    for (model, trained), (other, done) in zip(alone, stacked, strict=True):
        assert (done.diverged, done.alarms, done.steps) == (trained.diverged, trained.alarms, trained.steps)
        assert [(m.metric, m.step, m.n) for m in done.curves] == [(m.metric, m.step, m.n) for m in trained.curves]
        for ours, theirs in zip(done.curves, trained.curves, strict=True):
            tolerance = curves * (30 if ours.metric == "gradient_norm" else 1)
            assert ours.value == pytest.approx(theirs.value, rel=tolerance, abs=tolerance), ours
        found = other.state_dict()
        for name, weight in model.state_dict().items():
            assert (weight - found[name]).abs().max() <= weights * (weight.abs().max() + 1), name


CASES = {
    "dense": {},
    "tied": {"model": {"tie_embeddings": True}},
    "qk_norm": {"model": {"qk_norm": "head"}},
    "qk_norm, tied, experts": {"ffn": MOE, "model": {"qk_norm": "projection", "tie_embeddings": True, "n_kv_heads": 4}},
    "experts": {"ffn": MOE},
    "groups, z-loss, shared": {"ffn": {**MOE, "n_shared": 1}, "balance_group": 5, "z_loss": 1e-3, "load_balance": 0.1},
    "switch, ungated": {"ffn": {**MOE, "top_k": 1, "renormalize": False, "activation": "mlp"}},
    "hash": {"ffn": {**MOE, "router": "hash"}},
    "random": {"ffn": {**MOE, "router": "random"}, "z_loss": 1e-3},
    "several answers": {"ffn": MOE, "task": PATH},
    "padding": {"ffn": MOE, "task": GRAPHS, "load_balance": 0.1, "z_loss": 1e-3},
    "padding, dense": {"task": GRAPHS},
    "vectors": {"ffn": MOE, "task": SEQUENCES},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_stacked_trials_equal_the_same_trials_alone(case, tmp_path):
    assert_equal(*both(four(**case), Placement(tmp_path)))


@pytest.mark.parametrize("backend", ["loop", GROUPED, "padded"])
def test_whatever_computes_the_experts(backend, tmp_path):
    assert_equal(*both(four(MOE), Placement(tmp_path, backend=backend)))


def test_activations_may_be_recomputed(tmp_path):
    assert_equal(*both(four(MOE, steps=5), Placement(tmp_path, recompute=True)))


def test_in_bfloat16_they_are_as_close_as_its_rounding(tmp_path):
    assert_equal(*both(four(MOE, precision="bfloat16", steps=5), Placement(tmp_path)), weights=2e-2, curves=2e-2)


@pytest.mark.parametrize("backend", ["loop", GROUPED, "padded"])
def test_one_that_diverges_ends_and_touches_no_other(backend, tmp_path):
    """Its weights overflow in the first step: from there on every activation and gradient of its own is no number."""
    calm = four({**MOE, "n_experts": 5}, steps=60, warmup=0.0, batch_size=4)
    wild = [*calm]
    wild[1] = calm[1].model_copy(update={"training": calm[1].training.model_copy(update={"lr": 1e30})})
    place, examples = Placement(tmp_path, backend=backend), load(calm[0].task, "train", tmp_path)
    models = [[built(trial, backend) for trial in trials] for trials in (calm, wild)]
    beside_calm, beside_wild = (train_stacked(m, t, examples, place) for m, t in zip(models, (calm, wild), strict=True))
    assert "not a finite number" in beside_wild[1].diverged
    assert beside_wild[1].steps < 10
    for k in (0, 2, 3):
        assert beside_wild[k].curves == beside_calm[k].curves
        weights = [models[i][k].state_dict() for i in (0, 1)]
        assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_when_all_have_diverged_training_ends(tmp_path):
    trials = [make(steps=300, warmup=0.0, lr=1e30, seed=seed) for seed in (0, 1)]
    models = [built(trial, "auto") for trial in trials]
    done = train_stacked(models, trials, load(trials[0].task, "train", tmp_path), Placement(tmp_path))
    assert all(trained.diverged and trained.steps < 10 for trained in done)


def test_unstacking_gives_every_model_back():
    trials = four(MOE, model={"qk_norm": "head", "tie_embeddings": True})
    models = [built(trial, "auto") for trial in trials]
    before = [{name: weight.clone() for name, weight in model.state_dict().items()} for model in models]
    whole = stack(models)
    for model in models:
        for weight in model.parameters():
            weight.data.zero_()
    unstack(whole, models)
    for state, model in zip(before, models, strict=True):
        assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())
        assert model.head.weight is model.embedding.weight


def test_groups_are_of_one_shape_in_order_and_of_at_most_so_many(tmp_path):
    small, wide = four(), four(ffn={"kind": "dense", "d_ff": 64})
    trials = [small[0], wide[0], small[1], small[2], wide[1], small[3]]
    assert groups(trials, Placement(tmp_path)) == [[0], [1], [2], [3], [4], [5]]
    assert groups(trials, Placement(tmp_path, stack=8)) == [[0, 2, 3, 5], [1, 4]]
    assert groups(trials, Placement(tmp_path, stack=3)) == [[0, 2, 3], [1, 4], [5]]


def test_the_rule_stacks_small_steps_and_no_large_ones(tmp_path):
    place = Placement(tmp_path, stack=None)
    assert groups([make(batch_size=4, seed=seed) for seed in range(10)], place) == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    assert groups([make(batch_size=1000, seed=seed) for seed in range(3)], place) == [[0], [1], [2]]
    gpu = Placement(tmp_path, stack=None, device="cuda")
    assert groups([make(batch_size=4, seed=seed) for seed in range(2)], gpu) == [[0], [1]]


@pytest.mark.parametrize("other", [{"batch_size": 10}, {"steps": 21}, {"clip_norm": 0.5}, {"beta1": 0.8}, {"task": PATH}])
def test_what_else_differs_is_not_stacked(other, tmp_path):
    trials = [make(), make(**other)]
    assert groups(trials, Placement(tmp_path, stack=2)) == [[0], [1]]
    with pytest.raises(ValueError, match="may differ in learning rate"):
        train_stacked([], trials, load(trials[0].task, "train", tmp_path), Placement(tmp_path))


@pytest.mark.parametrize(
    ("ffn", "how", "why"),
    [
        ({**MOE, "router": "expert_choice", "renormalize": False}, {}, "experts that choose"),
        (None, {"world": 2}, "2 workers"),
        (None, {"micro_batch": 5}, "micro_batch=5"),
    ],
)
def test_what_cannot_be_stacked_is_refused_and_grouped_alone(ffn, how, why, tmp_path):
    place, trials = Placement(tmp_path, stack=2, **how), [make(ffn, seed=seed) for seed in (0, 1)]
    assert why in obstacle(trials[0], place)
    assert groups(trials, place) == [[0], [1]]
    with pytest.raises(ValueError, match=why):
        train_stacked([], trials, load(trials[0].task, "train", tmp_path), place)


def test_progress_tells_all_their_tokens(tmp_path):
    seen, trials = [], four(steps=250)
    place = Placement(tmp_path, progress=seen.append)
    train_stacked([built(trial, "auto") for trial in trials], trials, load(trials[0].task, "train", tmp_path), place)
    assert [p.step for p in seen] == [*range(3, 250, 3), 250]
    assert seen[-1].tokens == sum(trial.tokens for trial in trials)
