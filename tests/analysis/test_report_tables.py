"""Tables of the report on made-up records, of which the numbers are known."""

import math

import pytest

from analysis.report_tables import capacities, shifts
from analysis.table import load, with_best_lr
from parrots.measurement import Measurement
from parrots.spec import Evaluation
from sweeps.paper.figure4a import claims

from ..conftest import BOOK, GRAPHS, MOE, make
from ..test_record import record

LISTED, BETWEEN, OVERSIZED = {20: 0.96, 40: 0.93, 80: 0.55}, {50: 0.91, 60: 0.88}, 400


def book(folder, ffn, entries: int, right: float, seed: int = 0, **held) -> str:
    """A record of a book of which a share is right; held: bits, and their standard error."""
    trial = make(ffn, {**BOOK, "n_entries": entries, "n_test": 20}, seed, steps=entries * 10, batch_size=20)
    measured = [Measurement("loss", 1, 1 - right, 0.1, 20), Measurement("exact_match", 1, right, 0.02, 20)]
    if held:
        measured.append(Measurement("memory_bits", 1, held["bits"], held["stderr"], 20))
    record(trial, measurements=measured).write(folder)
    return trial.id


@pytest.fixture
def table(tmp_path):
    """Of a dense model that knows 40 of a list and 50 in between, and holds 3,000 or 3,200 bits; of an MoE that knows all."""
    dense, moe = {"kind": "dense", "d_ff": 32}, MOE
    ids = [book(tmp_path, dense, n, right, seed) for seed in (0, 1) for n, right in (LISTED | BETWEEN).items()]
    ids += [book(tmp_path, dense, OVERSIZED, 0.0, seed, bits=3000.0 + 200 * seed, stderr=30.0 + 10 * seed) for seed in (0, 1)]
    ids += [book(tmp_path, moe, n, 1.0) for n in (*LISTED, *BETWEEN, 160)]
    ids.append(book(tmp_path, moe, OVERSIZED, 0.1, bits=9000.0, stderr=50.0))
    (made,) = capacities(with_best_lr(load(tmp_path, ids)), claims(list(LISTED), OVERSIZED))
    return {row["label"]: row for row in made["rows"]}


def test_three_measures_of_a_book_stand_side_by_side(table):
    """By the list, by bisection beyond it, in bits; a model that knows all of a list knows at least its largest."""
    dense, moe = table["d16-f32"], table["d16-E4k2"]
    assert (dense["entries_listed"], dense["entries_90"], dense["memory_bits"]) == (40, 50, 3100)
    assert (moe["entries_listed"], moe["entries_90"], moe["memory_bits"]) == (80, 160, 9000)


def test_bits_are_told_for_each_parameter_with_their_interval_and_exposures(table):
    dense, size = table["d16-f32"], make().total.N
    assert dense["N_total"] == size
    assert dense["bits per N_total"] == dense["bits per N_active"] == pytest.approx(3100 / size)
    half = 1.96 * math.sqrt(30**2 + 40**2) / 2  # of a mean of two seeds
    assert dense["95 % interval"] == f"{3100 - half:,.0f} to {3100 + half:,.0f}" == "3,051 to 3,149"
    assert dense["exposures"] == OVERSIZED * 10 * 20 / OVERSIZED
    moe, trial = table["d16-E4k2"], make(MOE)
    assert moe["bits per N_total"] == pytest.approx(9000 / trial.total.N)
    assert moe["bits per N_active"] == pytest.approx(9000 / trial.active.N)
    assert moe["bits per N_active"] > moe["bits per N_total"]
    assert moe["95 % interval"] == "8,902 to 9,098"


def test_the_gap_to_the_training_graphs_has_the_interval_of_both_samples(tmp_path):
    """.9 on graphs that were trained on and .7 on others; two seeds shrink the interval, and elsewhere the score is lower."""
    trials = [make(task=GRAPHS, seed=seed) for seed in (0, 1)]
    trained_on = Evaluation(name="trained-on", task=trials[0].task, split="train", at_most=1000)
    regular = Evaluation(name="regular", task={**GRAPHS, "graph": "regular"})
    for trial, own in zip(trials, (0.6, 0.8), strict=True):
        scores = [(None, own, 0.03), (trained_on, own + 0.2, 0.04), (regular, own - 0.5, 0.0)]
        for asked, value, stderr in scores:
            measured = [Measurement("loss", 1, 0.5, 0.1, 100), Measurement("exact_match", 1, value, stderr, 100)]
            record(trial, measurements=measured, **({"evaluation": asked} if asked else {})).write(tmp_path)
    found = {one["title"]: one["rows"] for one in shifts(with_best_lr(load(tmp_path, [trial.id for trial in trials])))}
    (gap,) = found["shortest_path: trained-on/exact_match"]
    assert (gap["model"], gap["seeds"]) == ("d16-f32", 2)
    assert gap["exact_match"] == pytest.approx(0.7)
    assert gap["trained-on/exact_match"] == pytest.approx(0.9)
    assert gap["difference"] == pytest.approx(0.2)
    half = 1.96 * math.sqrt(2 * (0.03**2 + 0.04**2)) / 2
    assert half == pytest.approx(0.0693, abs=1e-4)
    assert gap["95 % interval"] == f"{0.2 - half:.3g} to {0.2 + half:.3g}"
    (elsewhere,) = found["shortest_path: regular/exact_match"]
    assert elsewhere["difference"] == pytest.approx(-0.5)
    half = 1.96 * math.sqrt(2 * 0.03**2) / 2
    assert elsewhere["95 % interval"] == f"{-0.5 - half:.3g} to {-0.5 + half:.3g}"
