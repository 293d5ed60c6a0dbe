import itertools
import runpy
from pathlib import Path

import pytest

from analysis.claims import Contrast, Offset, Predicts, Slope
from analysis.contrast import field_of
from sweeps import paper
from sweeps.narrow import Narrowing
from sweeps.spec import Cell, Sweep, documents, find, grid, laid_over, load, union

from ..conftest import BOOK, MOE

BASE = {
    "model": {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn": {"kind": "dense", "d_ff": 16}},
    "task": BOOK,
    "training": {"steps": 20, "batch_size": 20, "lr": 1e-2},
}


def scales(name: str) -> tuple[str, ...]:
    return runpy.run_path(str(Path(paper.__path__[0]) / f"{name}.py"))["SCALES"]


DOCUMENT = '''"""A sweep of mine.

More about it."""

from sweeps.spec import Sweep, grid, union

BASE = {base!r}


def sweep(scale):
    return Sweep(cells=union(grid(BASE, {axes})))
'''


def test_a_grid_is_the_product_in_declared_order_last_axis_fastest():
    cells = list(grid(BASE, {"training.lr": [1e-3, 1e-2], "seed": [0, 1, 2]}))
    assert [(c.trial.training.lr, c.trial.seed) for c in cells] == list(itertools.product([1e-3, 1e-2], [0, 1, 2]))
    assert len({c.trial.id for c in cells}) == 6


def test_a_mapping_is_laid_over_the_base_and_anything_else_replaces():
    base = {"model": {"ffn": {"kind": "dense", "d_ff": 16}}, "seed": 3}
    assert laid_over(base, ["model", "ffn"], {"d_ff": 8}) == {"model": {"ffn": {"kind": "dense", "d_ff": 8}}, "seed": 3}
    assert laid_over(base, ["seed"], 4)["seed"] == 4
    assert base["model"]["ffn"]["d_ff"] == 16


def test_a_union_keeps_the_first_of_equal_trials():
    cells = union(grid(BASE, {"seed": [0, 1]}), grid(BASE, {"seed": [1, 2]}, workers=2))
    assert [(c.trial.seed, c.workers) for c in cells] == [(0, 1), (1, 1), (2, 2)]


def test_workers_are_placement_and_rename_nothing():
    (one,), (two,) = grid(BASE, {}), grid(BASE, {}, workers=2)
    assert one.trial.id == two.trial.id


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"model.width": [1]}, "model: no field 'width'; there are d_model"),
        ({"training.lr": [0.0]}, "training.lr=0.0: Input should be greater than 0"),
        ({"training.lr": []}, r"axis training.lr: \[\] is not a list of at least one value"),
        ({"training.lr": 0.1}, "axis training.lr: 0.1 is not a list of at least one value"),
        ({"task.kind": ["phone"]}, "no task 'phone'; there are connectivity, cycle, gaussian"),
        ({"speed": [1]}, "no field 'speed'; there are model, task, training, seed"),
    ],
)
def test_a_bad_axis_is_one_line_that_names_it_and_what_is_allowed(axes, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        list(grid(BASE, axes))
    assert "\n" not in str(caught.value)


def test_a_sweep_without_cells_is_refused():
    with pytest.raises(ValueError, match="a sweep without cells"):
        Sweep(cells=())


def test_a_manifest_gives_the_whole_sweep_back(tmp_path):
    made = find("quickstart", "laptop")
    made.manifest(tmp_path)
    assert load("quickstart", tmp_path) == made


def test_a_sweep_that_was_not_run_is_not_found(tmp_path):
    with pytest.raises(ValueError, match="mine was not run into"):
        load("mine", tmp_path)


def test_a_manifest_of_another_format_is_refused(tmp_path):
    path = find("quickstart", "smoke").manifest(tmp_path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match=r"manifest.json: a manifest of format 2, and this version reads 1"):
        load("quickstart", tmp_path)


def test_a_users_file_is_a_sweep_named_for_it(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(DOCUMENT.format(base=BASE, axes="{'seed': [0, 1]}"))
    found = find(str(path), "laptop")
    assert (found.name, found.title, len(found.cells)) == ("mine", "A sweep of mine.", 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DOCUMENT.format(base=BASE, axes="{'model.width': [0]}"), r"mine.py, line 11: model: no field 'width'"),
        (DOCUMENT.format(base=BASE, axes="{'seed': [0, 1 / 0]}"), r"mine.py, line 11: ZeroDivisionError: division by zero"),
        ("def sweep(scale):\n    return (", r"mine.py, line 2: SyntaxError: "),
        ("import nothing_of_that_name", r"mine.py, line 1: ModuleNotFoundError: No module named"),
        ("x = 1", "mine.py: defines no function sweep"),
        ("def sweep(scale):\n    raise SystemExit(3)", r"mine.py, line 2: SystemExit: 3"),
        ("def sweep(scale):\n    raise ValueError", r"mine.py, line 2: ValueError$"),
        ("SCALES = 3\ndef sweep(scale):\n    return 3", r"mine.py: SCALES=3 is not a tuple of names"),
        ("x = '\0'", r"mine.py: SyntaxError: source code string cannot contain null bytes"),
        ("def sweep(scale):\n    return 3", r"sweep\('laptop'\) returned int, not a Sweep"),
    ],
)
def test_a_users_file_that_raises_is_named_with_its_line(tmp_path, text, expected):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=expected) as caught:
        find(str(path), "laptop")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "../quickstart", "no/such/file.py"])
def test_an_unknown_sweep_is_named_with_those_that_there_are(name):
    with pytest.raises(ValueError, match=f"no sweep '{name}'; there are {', '.join(documents())}"):
        find(name, "laptop")


def test_an_unknown_scale_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="no scale 'huge' in quickstart; there are laptop, smoke"):
        find("quickstart", "huge")


def test_every_document_says_what_it_claims_and_costs():
    for name in documents():
        found = find(name, "laptop")
        assert found.claims
        assert found.title


def test_quickstart_is_the_grid_that_its_document_describes():
    cells = find("quickstart", "laptop").cells
    books = [c.trial for c in cells if c.trial.task.kind == "phonebook"]
    paths = [c for c in cells if c.trial.task.kind == "length2_path"]
    assert {t.training.lr for t in books} == {1e-2, 2e-2}
    assert all(len({t.seed for t in books if t.model == m}) == 2 for m in {t.model for t in books})
    assert [c.workers for c in paths].count(2) == 1
    for trial in [c.trial for c in cells if c.trial.model.n_experts > 1]:
        control = {"kind": "dense", "d_ff": trial.model.top_k * trial.model.ffn.d_ff}
        assert any(
            c.trial.task == trial.task
            and c.trial.model.d_model == trial.model.d_model
            and c.trial.model.ffn.model_dump(include={"kind", "d_ff"}) == control
            for c in cells
        )


@pytest.mark.parametrize("name", ["it's.py", "a b.py", "été.py", "#1.py"])
def test_a_sweep_has_a_name_that_can_be_a_folder_and_a_tag(tmp_path, name):
    (tmp_path / name).write_text(DOCUMENT.format(base=BASE, axes="{}"))
    with pytest.raises(ValueError, match="rename the file"):
        find(str(tmp_path / name))


def test_a_users_file_may_not_pass_for_one_of_ours(tmp_path):
    (tmp_path / "quickstart.py").write_text(DOCUMENT.format(base=BASE, axes="{}"))
    with pytest.raises(ValueError, match="quickstart is a sweep that comes with the package"):
        find(str(tmp_path / "quickstart.py"))


def test_a_document_without_a_docstring_goes_by_its_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('"""  \n"""\n' + DOCUMENT.format(base=BASE, axes="{}").partition('"""\n')[2])
    assert find(str(path)).title == "mine"


ABOUT = {
    "name": "m",
    "statement": "s",
    "task": "phonebook",
    "metric": "memory_bits",
    "form": "power",
    "side": "above",
    "margin": 0,
}
ROUTERS = {"field": "model.ffn.router", "value": "hash", "other": "top_k", "matched": ("seed",)}


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        (Contrast(**ABOUT, **ROUTERS | {"matched": ("seed", "training.stps")}), "training.stps"),
        (Contrast(**ABOUT, **ROUTERS | {"field": "model.ffn.ruter"}), "model.ffn.ruter"),
        (Offset(**ABOUT, at="task.n_entrys"), "task.n_entrys"),
        (Slope(**ABOUT, along="N_total", given=("training.step",)), "training.step"),
        (Slope(**ABOUT, along="N_total", where={"model.ffn.knd": "moe"}), "model.ffn.knd"),
        (Slope(**ABOUT, along="N_total", at_least={"N_totl": 1e8}), "N_totl"),
    ],
)
def test_a_claim_that_names_what_no_cell_of_its_task_has_is_refused_with_the_nearest_names(claim, name):
    """Before anything runs; one whose field some cells have and others not stands."""
    other = {**BASE, "task": {"kind": "length2_path", "n_vertices": 6, "out_degree": 2, "n_train": 500, "n_test": 50}}
    cells = union(grid(BASE, {"model.ffn": [{"kind": "dense", "d_ff": 8}, MOE]}), grid(other, {}))
    with pytest.raises(ValueError, match=f"claim m: no cell of phonebook has a field '{name}'; nearest are ") as error:
        Sweep(cells=cells, claims=[claim])
    assert "length2_path" not in str(error.value)
    whole = Sweep(cells=cells, claims=[Contrast(**ABOUT, **ROUTERS), Offset(**ABOUT | {"name": "o"}, at="perplexity")])
    part = Narrowing(where=("n_experts == 1",)).of(whole)
    assert [one.name for one in part.claims] == ["o"]
    assert Sweep.model_validate_json(part.model_dump_json()) == part


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"metric": "memory_bit"},
            "claim m: phonebook has no metric 'memory_bit'; there are exact_match, test_loss",
        ),
        ({"task": "phonbook"}, "claim m: no cell has task 'phonbook'; there are phonebook"),
        ({"rival": "N_total"}, "rival='N_total': the same as predictor"),
        ({"name": ""}, "String should match pattern"),
    ],
)
def test_a_claim_that_nothing_can_decide_is_refused_before_anything_runs(change, said):
    claim = {"name": "m", "statement": "s", "task": "phonebook", "metric": "memory_bits", "form": "power"}
    claim |= {"predictor": "N_total", "rival": "N_active"}
    with pytest.raises(ValueError, match=said):
        Sweep(cells=union(grid(BASE, {})), claims=[Predicts(**(claim | change))])
    with pytest.raises(ValueError, match="claim m: there are two of this name"):
        Sweep(cells=union(grid(BASE, {})), claims=[Predicts(**claim)] * 2)


def test_workers_have_to_share_the_batch_evenly():
    with pytest.raises(ValueError, match=r"workers=7: must divide training.batch_size="):
        list(grid(BASE, {}, workers=7))


def test_a_cell_needs_a_worker():
    (cell,) = grid(BASE, {"model.ffn": [MOE]})
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Cell(trial=cell.trial, workers=0)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in documents() for scale in scales(name)])
def test_every_scale_of_every_document_expands_to_what_can_be_decided(name, scale):
    """Its manifest gives it back, and each claim finds trials that it asks about."""
    found = find(name, scale)
    assert found.claims
    assert Sweep.model_validate_json(found.model_dump_json()) == found
    trials = [cell.trial.model_dump() for cell in found.cells]
    for claim in found.claims:
        about = [trial for trial in trials if trial["task"]["kind"] == claim.task]
        for field, value in claim.where.items():
            assert any(field_of(trial, field) == value for trial in about), (claim.name, field)


def test_the_papers_grid_of_phone_books_has_its_1232_trials():
    cells = find("figure4a", "paper").cells
    assert len({cell.trial.id for cell in cells}) == 1232
    assert {cell.trial.training.batch_size for cell in cells} == {32}
    assert {round(cell.trial.training.steps * 32 / cell.trial.task.n_entries) for cell in cells} == {2, 5, 10, 15}
