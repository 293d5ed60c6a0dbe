"""What moved between two sides of a sweep."""

import re

import pytest

from parrots.measurement import Measurement
from sweeps.cli import main
from sweeps.spec import find

from ..test_record import record

A, B = "a" * 40, "b" * 40


def fill(results, score, commit, monkeypatch, sweep="quickstart"):
    """Every phone-book cell of the smoke scale with this exact match, as if made at a commit."""
    monkeypatch.setattr("parrots.record.commit", lambda: commit)
    found = find(sweep, "smoke")
    found.manifest(results)
    for cell in found.cells:
        if cell.trial.task.kind == "phonebook":
            value = score(cell.trial)
            measured = [Measurement(name, cell.trial.training.steps, value, 0.01, 100) for name in cell.trial.task.metrics]
            record(cell.trial, measurements=measured).write(results)


def diff(capsys, *words):
    code = main(["diff", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_only_what_moved_beyond_its_error_is_shown(tmp_path, capsys, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    fill(old, lambda trial: 0.5, A, monkeypatch)
    fill(new, lambda trial: 0.7 if trial.model.n_experts > 1 else 0.51, A, monkeypatch)
    code, told = diff(capsys, f"quickstart@{old}", f"quickstart@{new}")
    n_metrics = len(find("quickstart", "smoke").cells[0].trial.task.metrics)
    assert code == 1
    assert told.count("  moved") == 2 * n_metrics
    assert set(re.findall(r"d16-\w+-lr\w+-\d", told)) == {"d16-E4k2-lr1e-2", "d16-E4k2-lr2e-2"}
    assert f"{2 * n_metrics} of {6 * n_metrics} scores moved; 0 only at" in told
    code, told = diff(capsys, f"quickstart@{new}", f"quickstart@{new}")
    assert code == 0
    assert "0 of" in told


def test_records_of_two_commits_in_one_folder_are_told_apart(tmp_path, capsys, monkeypatch):
    fill(tmp_path, lambda trial: 0.5, A, monkeypatch)
    cells = [cell for cell in find("quickstart", "smoke").cells if cell.trial.task.kind == "phonebook"]
    monkeypatch.setattr("parrots.record.commit", lambda: f"{B}+")
    for cell in cells[:2]:
        measured = [Measurement("memory_bits", cell.trial.training.steps, 9.0, 0.01, 100)]
        record(cell.trial, measurements=measured).write(tmp_path)
    code, told = diff(capsys, "quickstart@aaaa", "quickstart@bbbb", "--results", tmp_path)
    assert code == 2
    assert "share no finished configuration" in told
    assert "no record of quickstart" in diff(capsys, "quickstart@cccc", "quickstart@bbbb", "--results", tmp_path)[1]


@pytest.mark.parametrize("words", [("quickstart", "quickstart@b"), ("@a", "quickstart@b"), ("quickstart@", "quickstart@b")])
def test_a_side_that_names_nothing_is_one_line(tmp_path, capsys, words):
    code, told = diff(capsys, *words, "--results", tmp_path)
    assert code == 2
    assert "SWEEP@COMMIT or SWEEP@FOLDER" in told


def test_seeds_of_a_configuration_are_one_row_with_the_spread_between_them(tmp_path, capsys, monkeypatch):
    from sweeps.verbs.diff import scored

    monkeypatch.setattr("parrots.record.commit", lambda: A)
    cells = [cell for cell in find("quickstart", "laptop").cells if cell.trial.name.startswith("d16-f16-lr1e-2")]
    assert len(cells) == 2
    for cell, value in zip(cells, (0.4, 0.6), strict=True):
        measured = [Measurement("exact_match", cell.trial.training.steps, value, 0.001, 100)]
        record(cell.trial, measurements=measured).write(tmp_path)
    (score,) = scored(cells, tmp_path, "").values()
    assert (score.mean, score.stderr, score.n) == (pytest.approx(0.5), pytest.approx(0.1), 2)
