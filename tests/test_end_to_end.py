"""The whole way, for real: sweep file -> plan -> Ray Tune -> train (alone and in a group) -> record -> MLflow -> report."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from parrots.execution import run_trial
from parrots.placement import Placement
from parrots.record import path_of, read
from sweeps import run_manifest
from sweeps.search import reached_in
from sweeps.spec import find
from sweeps.tracking import store_uri

from .conftest import processes


def parrots(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "sweeps.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=400)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def first(here) -> subprocess.CompletedProcess:
    done = parrots("run", "quickstart", "--scale", "smoke", cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def records(here: Path) -> pd.DataFrame:
    return read((here / "results" / "records").glob("*")).to_pandas()


def test_every_cell_leaves_one_record_that_says_where_it_came_from(first, here):
    cells = find("quickstart", "smoke").cells
    rows = records(here)
    about = rows.groupby("trial_id").first()
    assert set(about.index) == {cell.trial.id for cell in cells}
    assert (about["status"] == "done").all()
    assert (about["sweep"] == "quickstart").all()
    assert about["hardware"].str.contains("1 threads").all()
    assert about["versions"].map(dict).map(lambda v: {"python", "torch", "ray"} <= v.keys()).all()
    by_task = rows.groupby("task")["metric"].unique().map(set)
    assert by_task["phonebook"] >= {"loss", "exact_match", "memory_bits"}
    assert by_task["length2_path"] >= {"loss", "exact_match"}


def test_the_cell_of_two_workers_went_through_ray_train_and_gave_what_one_worker_gives(first, here, tmp_path):
    (cell,) = (cell for cell in find("quickstart", "smoke").cells if cell.workers == 2)
    rows = read([path_of(cell.trial.id, here / "results")]).to_pandas()
    assert (rows["workers"] == 2).all()
    assert (here / "results" / "train" / f"{cell.trial.id}-1").is_dir()
    alone = {(m.metric, m.step): m.value for m in run_trial(cell.trial, Placement(tmp_path)).measurements}
    grouped = {(row.metric, row.step): row.value for row in rows.itertuples()}
    assert grouped == pytest.approx(alone, abs=1e-5)


def test_the_terminal_tells_how_far_it_is_the_verdicts_and_the_report(first):
    said = first.stdout
    assert re.search(r"12 cells, 0 done, 12 to run in about .* on \d+ slots", said)
    assert re.search(r"12 done, 0 running, 0 left \| [\d,]+ tokens/s \| \d+% utilised \| 0 s left", said)
    assert "memory follows total parameters: " in said
    assert "reasoning follows active parameters: " in said
    assert "d16-E4k2" in said
    assert said.splitlines()[-1] == "report: results/reports/quickstart/report.html"


def test_the_report_is_one_page_that_needs_nothing_else(first, here):
    folder = here / "results" / "reports" / "quickstart"
    page = (folder / "report.html").read_text()
    assert page.count("<svg") >= 2
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "direction only" in page or "undecided" in page
    assert "parrots run quickstart --scale smoke" in page
    for name in ("report.md", "trials.csv", "reasoning.svg", "reasoning.png", "reasoning.pdf"):
        assert (folder / name).stat().st_size > 500
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower()
    assert len(pd.read_csv(folder / "trials.csv")) == 12


def test_mlflow_has_one_flat_run_a_trial(first, here):
    client = MlflowClient(store_uri(here / "results"))
    found = {}
    for task in ("phonebook", "length2_path"):
        experiment = client.get_experiment_by_name(f"parrots/{task}")
        found |= {run.data.tags["trial_id"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {cell.trial.id for cell in find("quickstart", "smoke").cells}
    assert all(run.data.tags["sweep"] == "quickstart" and run.info.status == "FINISHED" for run in found.values())
    assert not any("mlflow.parentRunId" in run.data.tags for run in found.values())
    assert all("exact_match" in run.data.metrics for run in found.values())


def test_mlflow_has_the_sweep_as_one_run_with_its_claims_as_description_and_its_verdicts(first, here):
    client, found = MlflowClient(store_uri(here / "results")), find("quickstart", "smoke")
    (run,) = client.search_runs([client.get_experiment_by_name("parrots/sweeps").experiment_id])
    assert (run.info.run_name, run.info.status) == ("quickstart", "FINISHED")
    told = run.data.tags["mlflow.note.content"]
    assert told.startswith(found.title)
    assert len(found.claims) == 2
    for claim in found.claims:
        verdict = run.data.tags[claim.name]
        assert f"- **{claim.statement}**\n  {verdict}\n  {claim.test}" in told
        assert verdict in first.stdout
    assert told.endswith("`parrots run quickstart --scale smoke`")


def test_tune_lists_the_trials_with_their_axes(first, here):
    (experiment,) = (here / "results" / "tune").glob("quickstart-*-1")
    command = [str(Path(sys.executable).with_name("tune")), "list-trials", str(experiment)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"COLUMNS": "300", "PATH": "/usr/bin:/bin"})
    assert all(f"config/{axis}" in said.stdout for axis in ("d_model", "n_experts", "lr", "seed", "score"))


def test_a_second_run_runs_nothing_and_changes_no_record(first, here):
    before = {path: path.stat().st_mtime_ns for path in (here / "results" / "records").iterdir()}
    again = parrots("run", "quickstart", "--scale", "smoke", cwd=here)
    assert again.returncode == 0
    assert "12 cells, all done" in again.stdout
    assert "tokens/s" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (here / "results" / "records").iterdir()} == before


def test_a_lost_record_is_the_only_one_made_again_and_equals_the_lost_one(first, here):
    cell = find("quickstart", "smoke").cells[0]
    path = path_of(cell.trial.id, here / "results")
    lost = read([path]).to_pandas()
    path.unlink()
    assert "phonebook        5       0        1" in parrots("status", "quickstart", cwd=here).stdout
    again = parrots("run", "quickstart", "--scale", "smoke", cwd=here)
    assert "12 cells, 11 done, 1 to run" in again.stdout
    made = read([path]).to_pandas()
    assert made["value"].tolist() == lost["value"].tolist()


def test_nothing_of_ray_is_left_running(first, here):
    assert not processes("ray::", here)


SEARCHING = '''"""A search, and models asked besides what they were trained on."""

from analysis.claims import Predicts, Threshold
from parrots.spec import Evaluation
from sweeps import run_manifest
from sweeps.search import Capacity
from sweeps.spec import Sweep, grid, union

MODEL = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "init_std": 0.2, "ffn": {"kind": "dense", "d_ff": 16}}
TRAINING = {"batch_size": 10, "lr": 2e-2, "steps": 20}
BOOK = {"kind": "phonebook", "n_entries": 8, "n_test": 1}
GRAPHS = {"kind": "shortest_path", "n_vertices": 6, "p": 0.3, "n_train": 200, "n_test": 40}
KNOWN = Threshold(axis="task.n_entries", metric="exact_match", target=0.5)


def sweep(scale):
    arms = [cell.trial for cell in grid({"model": MODEL, "task": BOOK, "training": TRAINING}, {"seed": [0, 1]})]
    asked = [Evaluation(name="seen", task=GRAPHS, split="train"), Evaluation(name="ring", task={**GRAPHS, "graph": "regular"})]
    return Sweep(
        claims=[
            Predicts(
                name="size", statement="s", task="phonebook", metric="entries_50", threshold=KNOWN, form="power",
                predictor="N_total", rival="N_active",
            )
        ],
        search=Capacity(arms=arms, low=4, high=64, exposures=400, target=0.5, precision=1.5, listed=[8]),
        cells=union(grid({"model": MODEL, "task": GRAPHS, "training": TRAINING}, {}, evaluations=asked)),
    )
'''


def test_a_search_ends_enclosed_and_models_are_asked_besides(tmp_path):
    """Each arm of the search has a size that reached the target and one above it that did not, within the precision."""
    (tmp_path / "searching.py").write_text(SEARCHING)
    done = parrots("run", "searching.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = find(str(tmp_path / "searching.py"))
    results = tmp_path / "results"
    reached = reached_in(results, found.search)
    for arm in found.search.arms:
        walk = found.search.walk(arm, reached)
        sizes = {trial.task.n_entries: reached(trial) for trial in walk.asked}
        assert walk.next is None
        assert sizes.keys() >= {8}
        largest = max(size for size, known in sizes.items() if known)
        assert largest == 64 or min(size for size in sizes if size > largest) <= max(1.5 * largest, largest + 1)
    (graphs,) = found.cells
    asked = {path.stem for path in (results / "evaluations").iterdir()}
    assert asked == {one.of(graphs.trial) for one in graphs.evaluations}
    page = (results / "reports" / "searching" / "report.html").read_text()
    assert "entries_50, read off task.n_entries" in page
    assert "shortest_path: ring/valid_path" in page
    client = MlflowClient(store_uri(results))
    (experiment,) = (one for one in client.search_experiments() if one.name == "parrots/shortest_path")
    (run,) = client.search_runs([experiment.experiment_id])
    assert {"seen/exact_match", "ring/valid_path", "exact_match"} <= run.data.metrics.keys()
    again = parrots("run", "searching.py", cwd=tmp_path)
    assert "all done" in again.stdout


def test_a_run_leaves_a_manifest_of_what_made_its_numbers(first, here):
    path, *_ = sorted((here / "results" / "sweeps" / "quickstart" / "runs").glob("*.json"))
    said = json.loads(path.read_text())
    assert said["command"] == "parrots run quickstart --scale smoke"
    assert said["packages"]["torch"] == version("torch")
    assert said["seeds"] == [0, 1]
    assert len(said["trials"]) == 12
    assert said["hardware"] == records(here).groupby("trial_id")["hardware"].first().value_counts().to_dict()
    assert sum(said["hardware"].values()) == 12
    assert {name: digest(here / "results" / "data" / name) for name in said["data"]} == said["data"]
    assert said["began"] <= said["ended"]
    rows = records(here)
    assert run_manifest.of("quickstart", rows["started"].min().to_pydatetime(), here / "results") == path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_reproduce_prints_runs_a_trial_of_the_sweep_again_to_the_same_numbers(first, here, tmp_path):
    cell = next(cell for cell in find("quickstart", "smoke").cells if cell.trial.model.n_experts > 1)
    printed = parrots("reproduce", cell.trial.id, cwd=here).stdout
    assert "# the run's manifest: results/sweeps/quickstart/runs/" in printed
    script = printed.replace("python -m", f"{sys.executable} -m")
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=os.environ, check=True)

    def values(results: Path) -> list[float]:
        return read([path_of(cell.trial.id, results)]).to_pandas()["value"].tolist()

    assert values(tmp_path / "reproduced") == pytest.approx(values(here / "results"), rel=1e-3, abs=1e-5)


def test_a_part_of_a_finished_sweep_and_its_manifest_run_nothing_again(first, here, tmp_path):
    part = parrots("plan", "quickstart", "--scale", "smoke", "--where", "n_experts == 1", "--manifest", cwd=here)
    (here / "part.json").write_text(part.stdout)
    results = tmp_path / "results"
    shutil.copytree(here / "results", results)
    done = parrots("run", "part.json", "--results", str(results), cwd=here)
    assert done.returncode == 0
    assert "cells, all done" in done.stdout
    assert records(here).groupby("trial_id").ngroups == 12
