"""Alarms: each failure has its sign, and a healthy training has none."""

import re

import numpy as np
import pytest
import torch

from parrots.placement import Placement
from parrots.thresholds import Thresholds
from parrots.training.curves import Alarms, Curves, Step

STEPS = Thresholds().steps
EVEN, SURE = np.ones((2, 8)), np.full(2, 0.9)


def shares(expert: int, share: float) -> np.ndarray:
    share_LE = np.full((2, 8), (8 - share) / 7)
    share_LE[1, expert] = share
    return share_LE


def test_a_healthy_training_raises_nothing():
    alarms = Alarms()
    draw = np.random.default_rng(0)
    for step in range(1, 1000):
        alarms.gradient(step, draw.lognormal(0, 0.5))
        alarms.routing(step, EVEN * draw.uniform(0.5, 2, EVEN.shape), SURE)
    assert alarms.said == ()


@pytest.mark.parametrize(("share", "sign"), [(0.005, "starved"), (5.5, "swamped")])
def test_an_expert_out_of_bounds_for_a_hundred_steps_is_told_once(share, sign):
    alarms = Alarms()
    for step in range(1, STEPS):
        alarms.routing(step, shares(3, share), SURE)
    alarms.routing(STEPS, EVEN, SURE)  # back in bounds just in time
    for step in range(STEPS + 1, 2 * STEPS + 1):
        assert alarms.said == ()
        alarms.routing(step, shares(3, share), SURE)
    for step in range(2 * STEPS + 1, 5 * STEPS):
        alarms.routing(step, shares(3, share), SURE)
    (said,) = alarms.said
    assert f"layer 1 expert 3 {sign}: {share:.3g} of its fair share, 100 steps up to step 200" in said


def test_a_router_that_is_sure_of_everything_has_collapsed():
    alarms = Alarms()
    alarms.routing(7, EVEN, np.array([0.5, 0.09]))
    assert alarms.said == ("layer 1 router collapsed: entropy 0.09 of log E at step 7",)


def test_a_router_without_probabilities_raises_nothing():
    alarms = Alarms()
    alarms.routing(7, EVEN, np.array([np.nan, np.nan]))
    assert alarms.said == ()


def test_an_exploding_gradient_is_told_against_its_running_median():
    alarms = Alarms()
    alarms.gradient(0, 1e9)  # nothing to compare with yet
    for step in range(1, STEPS + 1):
        alarms.gradient(step, 2.0)
    alarms.gradient(STEPS + 1, 19.9)
    assert alarms.said == ()
    alarms.gradient(STEPS + 2, 20.1)
    assert alarms.said == (f"gradient norm 20.1 at step {STEPS + 2}, over 10 times its median 2",)


def test_bounds_are_those_that_were_said():
    alarms = Alarms(Thresholds().but(["steps=3", "starved=.2", "swamped=2.5", "entropy=.5", "gradient=3"]))
    for step in range(1, 4):
        assert not alarms.said
        alarms.gradient(step, 2.0)
        alarms.routing(step, shares(3, 2.6), np.full(2, 0.51))
    alarms.routing(4, EVEN, np.array([0.49, 0.51]))
    alarms.gradient(4, 6.1)
    assert [" ".join(said.split()[:5]) for said in alarms.said] == [
        "layer 1 expert 3 swamped:",
        "layer 0 router collapsed: entropy",
        "gradient norm 6.1 at step",
    ]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("swamped", "'swamped' is not NAME=VALUE, as swamped=8"),
        ("swamp=3", "no field 'swamp'; there are steps, starved, swamped, entropy, gradient"),
        ("swamped=many", "swamped='many': Input should be a valid number"),
        ("swamped=.5", "swamped='.5': Input should be greater than 1"),
        ("starved=-1", "starved='-1': Input should be greater than or equal to 0"),
        ("entropy=1", "entropy='1': Input should be less than 1"),
        ("steps=0", "steps='0': Input should be greater than or equal to 1"),
        ("gradient=nan", "gradient='nan': Input should be"),
    ],
)
def test_a_bound_that_means_nothing_is_refused_in_a_line(said, why):
    with pytest.raises(ValueError, match=f"^{re.escape(why)}") as raised:
        Thresholds().but([said])
    assert "\n" not in str(raised.value)


def test_curves_are_means_over_the_steps_since_the_last_point(tmp_path):
    curves = Curves(Placement(tmp_path))
    for loss, rows in ((1.0, [[6, 2]]), (3.0, [[8, 0]])):
        step = Step(torch.tensor(loss), torch.tensor(rows), torch.tensor([np.log(2) / 2]), torch.zeros(0, 1))
        curves.add(step, torch.tensor(loss))
    assert curves.point() == 2.0
    points = {m.metric: (m.step, m.value) for m in curves.points}
    assert points == {
        "loss": (2, 2.0),
        "gradient_norm": (2, 2.0),
        "router_largest_share_0": (2, 1.75),
        "router_dead_0": (2, 0.5),
        "router_entropy_0": (2, pytest.approx(0.5)),
    }


def test_one_expert_cannot_collapse(tmp_path):
    """Its router is sure of everything, there being nothing to choose."""
    curves = Curves(Placement(tmp_path))
    curves.add(Step(torch.tensor(1.0), torch.tensor([[8]]), torch.tensor([0.0]), torch.zeros(0, 1)), torch.tensor(1.0))
    curves.point()
    assert curves.alarms.said == ()
    assert not any(point.metric.startswith("router_entropy") for point in curves.points)
