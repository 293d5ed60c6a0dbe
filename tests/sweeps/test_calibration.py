"""What a step takes, measured for a shape and drawn as a line between shapes."""

import json

import pytest

from sweeps import calibration
from sweeps.calibration import Calibration, family, fitted, of, quantities, shape, write
from sweeps.cli import main


def trials(make_trial):
    dense = [make_trial({"kind": "dense", "d_ff": f}, batch_size=b) for f in (8, 16, 64) for b in (10, 40)]
    sparse = [make_trial({"kind": "moe", "d_ff": 16, "n_experts": n}, batch_size=b) for n in (2, 4, 8) for b in (10, 40)]
    return dense, sparse


def test_a_line_finds_the_rates_that_made_the_times(make_trial):
    dense, sparse = trials(make_trial)
    slow = make_trial({"kind": "dense", "d_ff": 32})

    def step(trial, rate) -> float:
        return rate * trial.flops / trial.training.steps + 1e-3

    measured = [(t, step(t, 1e-10)) for t in dense] + [(t, step(t, 9e-10)) for t in sparse]
    made = fitted("machine", "2026-01-01", "a test", measured)
    assert made.seconds(slow) == pytest.approx(step(slow, 1e-10) * slow.training.steps, rel=0.05)
    new = make_trial({"kind": "moe", "d_ff": 24, "n_experts": 4})
    assert made.seconds(new) == pytest.approx(step(new, 9e-10) * new.training.steps, rel=0.2)
    assert made.spread["dense float32"] == pytest.approx((1, 1), abs=0.05)


def test_dense_and_moe_and_precisions_never_share_a_rate(make_trial):
    dense, sparse = trials(make_trial)
    made = fitted("machine", "2026-01-01", "a test", [(t, 1e-3) for t in dense])
    assert made.seconds(dense[0].model_copy(update={"seed": 3})) is not None
    assert made.seconds(sparse[0]) is None
    assert made.seconds(make_trial(precision="bfloat16")) is None
    assert len({family(t) for t in (dense[0], sparse[0], make_trial(precision="bfloat16"))}) == 3


def test_a_shape_that_was_measured_takes_what_was_measured_whatever_the_line_says(make_trial):
    dense, _ = trials(make_trial)
    measured = [(t, 1e-3) for t in dense[:-1]] + [(dense[-1], 7e-2)]
    assert fitted("m", "d", "s", measured).seconds(dense[-1]) == pytest.approx(7e-2 * dense[-1].training.steps)


def test_a_shape_is_what_a_step_depends_on_and_nothing_else(make_trial):
    base = make_trial()
    for same in ({"seed": 4}, {"lr": 0.3}, {"steps": 50}, {"weight_decay": 0.5}):
        assert shape(make_trial(**same)) == shape(base)
    for other in (make_trial(batch_size=30), make_trial({"kind": "dense", "d_ff": 33}), make_trial(precision="bfloat16")):
        assert shape(other) != shape(base)


def test_too_few_shapes_give_no_line(make_trial):
    dense, _ = trials(make_trial)
    made = fitted("m", "d", "s", [(t, 1e-3) for t in dense[: calibration.FEWEST - 1]])
    assert not made.per
    assert len(made.steps) == calibration.FEWEST - 1


def test_one_step_while_the_machine_slept_bends_no_line(make_trial):
    dense, _ = trials(make_trial)
    per_flop = [(t, 1e-10 * t.flops / t.training.steps) for t in dense]
    spoilt = [*per_flop, (dense[0], 100 * per_flop[0][1])]
    new = make_trial({"kind": "dense", "d_ff": 32})
    assert fitted("m", "d", "s", spoilt).seconds(new) == pytest.approx(fitted("m", "d", "s", per_flop).seconds(new), rel=0.1)


def test_the_newest_stands_before_the_older_and_both_before_what_comes_along(make_trial, tmp_path):
    trial = make_trial()
    for date, seconds in (("2026-01-02", 2.0), ("2026-01-01", 1.0)):
        write(Calibration("a machine, 1 threads", date, "a test", steps={shape(trial): seconds}), tmp_path)
    assert of("a machine", tmp_path).seconds(trial) == 2.0 * trial.training.steps
    assert of("another", tmp_path) is None
    assert of("a machine", tmp_path, backend="loop") is None


def test_a_spoilt_file_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/calibration").mkdir(parents=True)
    (tmp_path / "results/calibration/2026.json").write_text("[{}]")
    assert main(["plan", "quickstart"]) == 2
    assert "results/calibration/2026.json: not a calibration" in capsys.readouterr().err


def test_bench_measures_the_shapes_of_a_sweep_and_plans_go_by_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = ("quickstart", "--scale", "smoke", "--where", "task == 'phonebook' and d_ff == 16")
    assert main(["bench", *part, "--seconds", "0.01"]) == 0
    told = capsys.readouterr().out
    assert "[2/2] L2-d16-E4k2 float32: " in told
    (path,) = (tmp_path / "results/calibration").glob("*.json")
    (made,) = json.loads(path.read_text())
    assert len(made["steps"]) == 2
    assert main(["plan", *part]) == 0
    assert "times from `parrots bench quickstart" in capsys.readouterr().out
    assert main(["bench", *part, "--backend", "fast"]) == 2
    assert "--backend fast: one of auto, loop" in capsys.readouterr().err


def test_what_a_time_is_made_of_grows_with_the_steps(make_trial):
    once, twice = quantities(make_trial(steps=10)), quantities(make_trial(steps=20))
    assert {name: 2 * amount for name, amount in once.items()} == twice
