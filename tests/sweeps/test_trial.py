"""Verbs about one trial, on one that was really trained."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parrots.execution import finish, run_trial
from parrots.placement import Placement
from parrots.record import evaluations_of, path_of, read
from parrots.spec import Cell, Evaluation
from parrots.training import weights
from sweeps.cli import main

from ..conftest import BOOK, GRAPHS, MOE, SEQUENCES, make
from ..test_record import record

ROOT = Path(__file__).parents[2]
TRIALS = {"book": make(MOE, steps=60), "graphs": make(task=GRAPHS), "vectors": make(MOE, SEQUENCES)}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for trial in TRIALS.values():
        run_trial(trial, Placement(folder / "data", folder / "weights")).write(folder)
    return folder


def said(capsys, *words: object) -> str:
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", TRIALS)
def test_samples_shows_as_many_right_answers_as_the_record_counts(capsys, results, name):
    trial = TRIALS[name]
    told = said(capsys, "samples", trial.id, "--results", results, "-n", 3)
    rows = read([path_of(trial.id, results)]).to_pylist()
    exact = next(row for row in rows if row["metric"] == "exact_match")
    right, asked = map(int, re.search(r"(\d+) of (\d+) test examples right", told).groups())
    assert asked == exact["n"]
    if name != "graphs":  # where any shortest path is right, the gold is one of them
        assert right == round(exact["value"] * asked)
    assert told.count("wrong\n") == min(3, asked - right)
    for gold, answered in re.findall(r"gold    (.*)\n  answer  (.*)", told):
        assert len(gold.split()) == len(answered.split())


def test_samples_names_the_experts_of_each_token_and_a_dense_model_has_none(capsys, results):
    told = said(capsys, "samples", TRIALS["book"].id, "--results", results, "-n", 1, "--only", "wrong")
    layers = re.findall(r"layer (\d) (.*)", told)
    assert [layer for layer, _ in layers] == ["0", "1"]
    for _, tokens in layers:
        experts = [part.rpartition(":")[2].split("+") for part in tokens.split()]
        assert len(experts) == TRIALS["book"].task.seq_len - 1
        assert all(len(set(two)) == 2 and all(0 <= int(e) < 4 for e in two) for two in experts)
    assert "layer" not in said(capsys, "samples", TRIALS["graphs"].id, "--results", results)


def test_an_evaluation_asks_what_was_trained_something_else_and_only_once(capsys, results):
    trial = TRIALS["graphs"]
    words = ("eval", trial.id, "--results", results, "--tasks", "own:p=0.5,n_test=20")
    told = said(capsys, *words)
    assert "own-p-0_5-n_test-20/exact_match" in told
    (path,) = (results / "evaluations").glob(f"{trial.id}-*.parquet")
    written = path.stat().st_mtime_ns
    assert said(capsys, *words) == told
    assert path.stat().st_mtime_ns == written
    asked = json.loads(read([path])["evaluated"][0].as_py())
    assert asked["task"] == {**GRAPHS, "p": 0.5, "n_test": 20}
    given = json.dumps({"name": "mine", "task": {**GRAPHS, "n_test": 10}, "at_most": 5})
    assert re.search(r"mine/exact_match .* 5$", said(capsys, *words[:-1], given), re.MULTILINE)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("flying", "no task 'flying'"),
        ("own:p=2", "--tasks own:p=2: task"),
        ("own:p", "--tasks own:p: "),
        ("absent.json", "--tasks absent.json: No such file"),
        ("own:n_vertices=9", "a model of shortest_path knows"),
        ('{"name": "a b"}', "--tasks"),
    ],
)
def test_an_evaluation_that_cannot_be_asked_is_one_line_and_writes_nothing(capsys, results, task, expected):
    before = sorted(results.rglob("*"))
    assert main(["eval", TRIALS["graphs"].id, "--results", str(results), "--tasks", task]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert sorted(results.rglob("*")) == before


def test_weights_that_are_not_the_records_are_neither_asked_nor_shown(capsys, results, tmp_path):
    """Not even those of a model of the same shape, which would load and score otherwise."""
    trial = TRIALS["book"]
    record(trial, weights_sha256="0" * 64).write(tmp_path)
    (tmp_path / "weights").mkdir()
    shutil.copy(weights.path_of(trial.id, results / "weights"), tmp_path / "weights")
    for words in (["samples", trial.id], ["eval", trial.id, "--tasks", "own"], ["export", trial.id, str(tmp_path / "hf")]):
        assert main([*words, "--results", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "not the weights that the record was made with" in line
    assert not list(tmp_path.glob("evaluations/*"))
    cell = Cell(trial=trial, evaluations=(Evaluation(name="again", task=trial.task),))
    with pytest.raises(ValueError, match="not the weights"):
        finish(cell, tmp_path, Placement(tmp_path / "data", tmp_path / "weights"), {})


def test_the_command_that_reproduce_prints_gives_the_same_numbers(capsys, results, tmp_path):
    """On the device that it was, and what its model was asked besides: twice by one name here, which two cells say."""
    trial = TRIALS["book"]
    for n_test in (20, 30):
        asked = json.dumps({"name": "mine", "task": {**BOOK, "n_test": n_test}})
        said(capsys, "eval", trial.id, "--results", results, "--tasks", asked)
    script = said(capsys, "reproduce", trial.id, "--results", results, "--out", "here").replace(
        "python -m", f"{sys.executable} -m"
    )
    assert f"parrots.run {trial.id}.jsonl --device cpu --out here" in script
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0

    def values(folder):
        paths = [path_of(trial.id, folder), *evaluations_of(trial.id, folder)]
        assert len(paths) == 3
        rows = read(paths).to_pylist()
        return [(row["evaluation"], *(row[name] for name in ("metric", "step", "value", "stderr", "n"))) for row in rows]

    assert str(values(tmp_path / "here")) == str(values(results))


def test_a_trial_of_a_gpu_is_reproduced_on_one(capsys, tmp_path):
    trial = make()
    record(trial, hardware="NVIDIA H100 80GB HBM3", workers=2, stacked=4).write(tmp_path)
    *comments, command = said(capsys, "reproduce", trial.id, "--results", tmp_path).splitlines()
    assert "&& torchrun --nproc-per-node 2 -m parrots.run" in command
    assert command.endswith("--device cuda --out reproduced")
    assert any("side by side with 3 others" in line for line in comments)


def test_logs_has_each_attempt_with_its_whole_reason_and_what_was_measured(capsys, tmp_path):
    trial = make()
    record(trial, "oom", [], reason="Traceback\n  File 'x'\nMemoryError: 3 GiB").write(tmp_path)
    record(trial, "failed", [], reason="ValueError: it broke", attempt=2).write(tmp_path)
    told = said(capsys, "logs", trial.id[:6], "--results", tmp_path)
    assert [line[:17] for line in told.splitlines() if line.startswith("attempt")] == ["attempt 1: oom af", "attempt 2: failed"]
    assert "  | MemoryError: 3 GiB\n" in told
    record(trial, attempt=3).write(tmp_path)
    assert re.search(r"exact_match +20 +0\.5", said(capsys, "logs", trial.id, "--results", tmp_path))


def test_a_trial_that_is_not_there_is_said_so(capsys, tmp_path):
    for words in (["logs"], ["samples"], ["reproduce"], ["eval", "--tasks", "own"]):
        assert main([words[0], "ffff", *words[1:], "--results", str(tmp_path)]) == 2
        assert f"0 trials in {tmp_path} begin with 'ffff'" in capsys.readouterr().err
