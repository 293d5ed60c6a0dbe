"""Derived axes, and constraints on the cells of a grid."""

import pytest

from sweeps.constraints import exclude, match
from sweeps.spec import grid

from .test_spec import BASE

SPARSE = {**BASE, "model": {**BASE["model"], "ffn": {"kind": "moe", "d_ff": 16, "n_experts": 4}}}


def test_a_derived_field_follows_the_others_and_one_that_was_derived_before():
    cells = grid(BASE, {"model.d_model": [16, 32]}, derived={"model.ffn.d_ff": "4 * d_model", "task.n_entries": "d_ff - 4"})
    assert [(c.trial.model.ffn.d_ff, c.trial.task.n_entries) for c in cells] == [(64, 60), (128, 124)]


def test_an_axis_that_is_no_field_is_there_for_what_derives_from_it():
    axes = {"task.n_entries": [60, 120], "epochs": [1, 5]}
    cells = grid(BASE, axes, derived={"training.steps": "epochs * n_entries // batch_size"})
    assert [c.trial.training.steps for c in cells] == [3, 15, 6, 30]


@pytest.mark.parametrize(
    ("axes", "derived", "expected"),
    [
        ({"training.lr": [1e-2, 1e-2]}, {}, r"axis training.lr: 0.01 stands there twice"),
        ({"seed": [0, 0]}, {}, "axis seed: 0 stands there twice"),
        ({"model.ffn.d_ff": [8]}, {"model.ffn.d_ff": "d_model"}, "two axes of one name: model.ffn.d_ff has values"),
        ({}, {"model.ffn.d_ff": "width * 2"}, "no name 'width'; there are batch_size"),
        ({}, {"model.ffn.d_ff": "print(d_model)"}, "a call is not allowed"),
        ({}, {"model.ffn.d_ff": "d_model / 3"}, r"ffn.dense.d_ff=5.33\d*: Input should be a valid integer"),
        ({"epochs": [1, 2]}, {}, "no field 'epochs'"),
    ],
)
def test_a_bad_axis_is_said_in_one_line(axes, derived, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        list(grid(BASE, axes, derived=derived))
    assert "\n" not in str(caught.value)


def test_what_is_excluded_is_what_the_expression_is_true_of():
    kept = list(exclude(grid(BASE, {"training.lr": [1e-3, 1e-2], "seed": [0, 1]}), "lr == 1e-3 and seed == 1"))
    assert [(c.trial.training.lr, c.trial.seed) for c in kept] == [(1e-3, 0), (1e-2, 0), (1e-2, 1)]


def test_cells_are_matched_to_a_size_within_a_tolerance():
    widths = [8, 16, 24, 32, 48]
    cells = list(grid(BASE, {"model.ffn.d_ff": widths}))
    target = cells[2].trial.total.N
    near = [c for c in cells if abs(c.trial.total.N - target) <= 0.2 * target]
    assert 1 < len(near) < len(cells)
    assert list(match(iter(cells), "N_total", to=target, within=0.2)) == near
    ratio = cells[3].trial.tokens / cells[3].trial.total.N
    assert list(match(iter(cells), "D / N_total", to=ratio, within=0.001)) == [cells[3]]
    assert list(match(iter(cells), "C", to=cells[0].trial.flops, within=0)) == [cells[0]]


def test_mixtures_are_matched_to_the_dense_models_beside_them():
    dense = list(grid(BASE, {"model.ffn.d_ff": [16, 64]}))
    sparse = list(grid(SPARSE, {"model.ffn.n_experts": [2, 4, 16]}))
    kept = list(match([*dense, *sparse], "N_total", like="n_experts == 1", within=0.05))
    assert [c.trial.name for c in kept] == [c.trial.name for c in (*dense, sparse[1])]


@pytest.mark.parametrize(
    ("constrain", "expected"),
    [
        (lambda cells: exclude(cells, "lr > 0"), r"constraint exclude 'lr > 0': excludes all 2 cells"),
        (
            lambda cells: match(cells, "N_total", to=1, within=0.1),
            r"constraint match 'N_total' within 10% of 1: excludes all 2",
        ),
        (lambda cells: match(cells, "C", like="n_experts == 1"), "within 5% of 'n_experts == 1': excludes all 2 cells"),
        (lambda cells: match(cells, "C", like="n_experts == 9"), "'n_experts == 9': true of none of 2 cells"),
        (lambda cells: match(cells, "C"), "match 'C': give `to` or `like`"),
        (lambda cells: exclude(cells, "width > 3"), "no name 'width'"),
    ],
)
def test_a_constraint_that_leaves_nothing_is_named(constrain, expected):
    with pytest.raises(ValueError, match=expected):
        list(constrain(grid(BASE, {"seed": [0, 1]})))
