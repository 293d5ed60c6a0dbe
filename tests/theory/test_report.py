import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from analysis import theory as report
from parrots.theory import memory, reasoning
from parrots.theory.check import SMOKE, Part
from parrots.theory.theorems import THEOREMS
from sweeps.cli import main

MADE_BY = {"hardware": "h", "commit": "", "versions": {"python": "3"}, "seed": 0, "scale": "smoke", "seconds": 1.0}


@pytest.fixture(scope="module")
def parts() -> list[dict]:
    return [asdict(theorem(SMOKE, 0)) for theorem in THEOREMS]


def test_the_verb_writes_a_report_with_every_number(tmp_path, capsys):
    assert main(["theory", "--scale", "smoke", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "reports" / "theorems"
    assert f"report: {folder / 'report.html'}" in said
    html = (folder / "report.html").read_text()
    assert "All that ought to hold holds" in html
    assert html.count("<svg") == len(list(folder.glob("*.pdf"))) == len(list(folder.glob("*.png"))) == 7
    with (folder / "findings.csv").open() as file:
        findings = list(csv.DictReader(file))
    assert {row["theorem"] for row in findings} == {theorem(SMOKE, 0).theorem for theorem in THEOREMS}
    assert all(row["statement"] in said for row in findings)
    for name in ("thresholds", "bottleneck", "matched", "spread", "experts", "loads", "bits", "labelings", "growth"):
        assert len((folder / f"{name}.csv").read_text().splitlines()) > 2
    assert "parrots theory --seed 0 --scale smoke" in (folder / "report.md").read_text()


def test_equal_seeds_give_equal_numbers_and_others_do_not(parts):
    def numbers(part: dict) -> str:
        return json.dumps(part["tables"])

    assert numbers(asdict(memory.loads(SMOKE, 0))) == numbers(parts[7])
    assert numbers(asdict(memory.loads(SMOKE, 1))) != numbers(parts[7])


def test_hoeffding_violation_is_reported():
    sizes = replace(SMOKE, routed=20_000, routed_width=8, routed_experts=(32,))
    part = memory.loads(sizes, 0)
    broken = [finding for finding in part.findings if finding.holds == "violated"]
    assert any("Gaussian router, m = 8" in finding.statement for finding in broken)
    assert all(finding.note and not finding.failed for finding in broken)


def test_what_ought_to_hold_and_does_not_fails_and_is_told(tmp_path, parts, monkeypatch, capsys):
    def broken(sizes, seed):
        part = Part("3.3", "a broken construction")
        part.at_most("wrong answers <of> it", 3, 0, 10)
        return part

    monkeypatch.setattr("parrots.theory.theorems.THEOREMS", (broken,))
    monkeypatch.setattr(report, "figures", lambda tables: iter(()))
    assert main(["theory", "--results", str(tmp_path)]) == 1
    assert "3.3: wrong answers <of> it is 3, where it should be at most 0 (n = 10)." in capsys.readouterr().out
    html = (Path(tmp_path) / "reports" / "theorems" / "report.html").read_text()
    assert "What ought to hold and does not" in html
    assert "<of>" not in html


def test_a_wrong_threshold_fails_theorem_3_3(monkeypatch):
    monkeypatch.setattr(
        "parrots.theory.length2.build", lambda V, threshold=0.5, build=reasoning.length2.build: build(V, threshold)
    )
    assert any(finding.failed for finding in reasoning.theorem_3_3(SMOKE, 0).findings)


def test_only_what_ought_to_hold_can_fail():
    part = Part("x", "y")
    part.at_most("a", 2, 1, 1, must=False)
    part.at_least("b", 1, 2, 1)
    part.report("c", 1, 1)
    assert [(f.holds, f.failed) for f in part.findings] == [("violated", False), ("violated", True), ("reported", False)]


def test_nan_never_holds():
    part = Part("x", "y")
    part.at_most("a", float("nan"), 1, 1)
    part.at_least("a", float("nan"), 1, 1)
    assert all(finding.failed for finding in part.findings)
