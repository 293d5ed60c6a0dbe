"""`parrots fit` prints numbers that can be read by a program and by a person, and refuses in a line."""

import json

import numpy as np
import pytest

from analysis.laws import LAWS
from sweeps.cli import main

from ..analysis.published import CHINCHILLA, CLARK, CLARKS, LAST, needs_runs
from ..analysis.synthetic import TRUE, made_by

SHOWN = ["--form", "chinchilla", "--map", "N_total=Model Size", "--map", "C=Training FLOP", "--map", "loss=loss"]


@pytest.fixture
def table(tmp_path):
    frame = made_by(LAWS["chinchilla"], TRUE["chinchilla"], 40)
    frame["loss"] *= np.exp(np.random.default_rng(0).normal(0, 0.005, 40))
    frame.to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "runs.csv"


def numbers(capsys, *args: object) -> dict:
    assert main(["fit", *map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@needs_runs
def test_chinchilla_from_the_command_line(capsys):
    said = numbers(capsys, CHINCHILLA, *SHOWN, "--drop-highest-loss", 5)
    assert said["n"] == 240
    assert said["objective"] == pytest.approx(0.00101827, abs=5e-9)
    assert said["parameters"]["A"] == pytest.approx(477.84, rel=5e-3)
    assert said["derived"] == ["D = C / (6 * N_total)"]
    assert said["left_out"] == {"the 5 highest loss": 5}


@needs_runs
def test_clark_from_the_command_line(capsys):
    mapped = [part for name, column in CLARKS.items() for part in ("--map", f"{name}={column}")]
    said = numbers(capsys, CLARK, "--form", "clark", *mapped, "--filter", LAST, "--resamples", 100)
    unmapped = numbers(capsys, CLARK, "--form", "clark", "--filter", LAST, "--intervals", "none")  # the curves' own names
    assert unmapped["parameters"] == said["parameters"]
    assert said["parameters"]["b"] == pytest.approx(-0.123, rel=0.05)
    assert said["rmse"] <= 0.0035


def test_a_person_reads_a_table_and_finds_a_picture(capsys, table, tmp_path):
    assert main(["fit", str(table), "--form", "chinchilla", "--resamples", "100", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    for words in ("alpha", "95 % interval", "40 runs of 40 configurations", "trade against each other", "held out"):
        assert words in said
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"chinchilla.{ending}" for ending in ("csv", "pdf", "png", "svg")}


def test_several_laws_are_put_side_by_side(capsys, table):
    forms = ["--form", "chinchilla", "--form", "capacity", "--map", "entries=loss"]
    said = numbers(capsys, table, *forms, "--intervals", "none")
    assert [one["form"] for one in said["fits"]] == ["chinchilla", "capacity"]
    assert main(["fit", str(table), *forms, "--intervals", "none"]) == 0
    assert "Side by side" in capsys.readouterr().out


def test_what_the_runs_do_not_tell_is_null_and_never_nan(capsys, table):
    said = numbers(capsys, table, "--form", "chinchilla", "--map", "N=0 * N + 1e8", "--resamples", 100)
    untold = said["identifiability"]["untold"]
    assert untold
    assert all(said["intervals"][name] == [None, None] for name in untold)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--form", "chinchila"], "'chinchila' is not one of"),
        (["--form", "chinchilla", "--map", "loss"], "NAME=COLUMN"),
        (["--form", "chinchilla", "--map", "loss=los"], "nearest are loss"),
        (["--form", "chinchilla", "--filter", "N > 1e99"], "leaves none of 40 runs"),
        (["--form", "chinchilla", "--filter", "__import__('os')"], "a call is not allowed"),
        (["--form", "chinchilla", "--drop-highest-loss", "36"], "needs at least 6"),
        (["--form", "chinchilla", "--fix", "alpha=x"], "not a number"),
        (["--form", "chinchilla", "--huber", "-1"], "above 0"),
        (["--form", "accuracy-in-size", "--map", "accuracy=100 * S"], "per cent"),
        (["--form", "observational"], "needs accuracy"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys, table, args, word):
    assert main(["fit", str(table), *args]) == 2
    said = capsys.readouterr().err
    assert word in said
    assert len(said.strip().splitlines()) == 1
