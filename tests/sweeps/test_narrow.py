"""What --set, --where, --seeds and --max-trials leave of a sweep."""

import pytest

from sweeps.narrow import Narrowing
from sweeps.spec import Sweep, find, grid

from .test_spec import BASE


@pytest.fixture(scope="module")
def quickstart():
    return find("quickstart", "laptop")


def rates(sweep) -> list[float]:
    return [cell.trial.training.lr for cell in sweep.cells]


def test_an_axis_set_to_a_value_that_is_there_keeps_those_cells(quickstart):
    part = Narrowing(set=("lr=2e-2",)).of(quickstart)
    assert set(part.cells) < set(quickstart.cells)
    assert rates(part) == [2e-2] * 14


def test_a_value_that_no_cell_has_is_tried_on_each_that_has_the_field(quickstart):
    part = Narrowing(set=("n_entries=2000",)).of(quickstart)
    assert len(part.cells) == 28
    assert {cell.trial.task.n_entries for cell in part.cells} == {2000}
    steps = Narrowing(set=("training.steps=7",)).of(quickstart)
    assert [cell.trial.training.steps for cell in steps.cells] == [7] * 55


def test_seeds_are_tried_on_every_cell(quickstart):
    three = Narrowing(seeds="3", where=("task == 'phonebook'",)).of(quickstart)
    assert [cell.trial.seed for cell in three.cells] == [0, 1, 2] * 14
    assert {cell.trial.seed for cell in Narrowing(seeds="5,9").of(quickstart).cells} == {5, 9}


def test_an_expression_keeps_the_cells_of_which_it_is_true(quickstart):
    part = Narrowing(where=("N_total <= 10_000 and n_experts > 1", "task == 'length2_path'")).of(quickstart)
    assert part.cells == tuple(
        c for c in quickstart.cells if c.trial.total.N <= 10_000 and c.trial.model.n_experts > 1 and "path" in c.trial.task.kind
    )


def test_a_field_that_a_cell_has_not_is_above_and_below_nothing(quickstart):
    kinds = {cell.trial.task.kind for cell in Narrowing(where=("n_entries > 0",)).of(quickstart).cells}
    assert kinds == {"phonebook"}
    kinds = {cell.trial.task.kind for cell in Narrowing(where=("not n_entries > 0",)).of(quickstart).cells}
    assert kinds == {"length2_path"}


def test_claims_about_a_task_that_is_gone_are_gone(quickstart):
    assert [claim.name for claim in Narrowing(where=("task == 'phonebook'",)).of(quickstart).claims] == ["memory"]


def test_a_search_keeps_the_arms_that_are_asked_for():
    whole = find("figure4a", "laptop")
    part = Narrowing(where=("n_experts > 1",), set=("lr=1e-2",)).of(whole)
    assert [(arm.model.n_experts, arm.training.lr) for arm in part.search.arms] == [(4, 0.01), (8, 0.01), (16, 0.01)]
    assert Narrowing(max_trials=5).of(whole).search is None
    assert len(Narrowing(max_trials=5).of(whole).cells) == 5


def test_nothing_asked_changes_nothing(quickstart):
    assert Narrowing().of(quickstart) is quickstart


def test_the_options_can_be_said_again():
    said = Narrowing(("lr=1",), ("a < b",), "3", 4)
    assert list(said.words()) == ["--set", "lr=1", "--where", "a < b", "--seeds", "3", "--max-trials", "4"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"set": ("lr",)}, "--set lr: not AXIS=VALUES"),
        ({"set": ("lr=",)}, "--set lr=: no value"),
        ({"set": ("lr=1e-2,,3",)}, "no value"),
        ({"set": ("width=3",)}, "'width' is no field of these trials; there are model.d_model"),
        ({"set": ("kind=dense",)}, "'kind' is any of model.ffn.kind, task.kind"),
        ({"set": ("lr=1e-2", "training.lr=2e-2")}, "two axes of one name, lr=1e-2 and this one"),
        ({"set": ("d_model=15",)}, "n_heads=4: must divide d_model=15"),
        ({"set": ("lr=fast",)}, "training.lr='fast'"),
        ({"set": ("d_model=64",), "where": ("task == 'phonebook'",)}, "--where \"task == 'phonebook'\": excludes all 6 cells"),
        ({"where": ("d_model >",)}, "invalid syntax"),
        ({"where": ("width > 3",)}, "no name 'width'; there are C, D, N_active"),
        ({"where": ("lr",)}, "neither true nor false"),
        ({"seeds": "none"}, "--seeds none: a number of seeds, as 3"),
        ({"seeds": "0"}, "--seeds 0: a number"),
        ({"seeds": "-1"}, "--seeds -1: a number"),
    ],
)
def test_what_cannot_be_narrowed_so_is_said_in_one_line(quickstart, asked, expected):
    with pytest.raises(ValueError) as caught:
        Narrowing(**asked).of(quickstart)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_ffn_can_be_set():
    sweep = Sweep(name="mine", cells=tuple(grid(BASE, {"seed": [0, 1]})))
    part = Narrowing(set=('model.ffn=[{"d_ff": 8}, {"d_ff": 24}]',)).of(sweep)
    assert [(cell.trial.seed, cell.trial.model.ffn.d_ff) for cell in part.cells] == [(0, 8), (0, 24), (1, 8), (1, 24)]
