import re

import pandas as pd
import pytest

from analysis.claims import Contrast, Predicts, Threshold
from analysis.report import Asked, write
from analysis.report_tables import number
from parrots.measurement import Measurement

from ..conftest import BOOK, GRAPHS, MOE
from ..test_record import record

CLAIM = Predicts(
    name="memory",
    statement="memory follows total parameters",
    task="phonebook",
    metric="memory_bits",
    form="power",
    predictor="N_total",
    rival="N_active",
)
ROUTERS = Contrast(
    name="hash",
    statement="hash is like top_k",
    task="phonebook",
    metric="memory_bits",
    form="power",
    field="model.ffn.router",
    value="hash",
    other="top_k",
    matched=("seed",),
    side="equal",
    margin=0.1,
)
FFNS = [{"kind": "dense", "d_ff": f} for f in (8, 16, 32, 64)] + [{**MOE, "n_experts": e} for e in (4, 8, 16)]


@pytest.fixture
def results(make_trial, tmp_path):
    """A sweep whose bits are two a total parameter, of which one trial failed, one diverged and one was not run."""
    ids = []
    for ffn in FFNS:
        for seed in (0, 1):
            trial = make_trial(ffn, seed=seed)
            bits = 2.0 * trial.total.N * (1 + 0.02 * seed)
            measured = [Measurement("loss", 20, 2.0, 0.1, 5), Measurement("memory_bits", 20, bits, 1.0, 60)]
            measured.append(Measurement("test_loss", 20, 1e4 / bits, 0.1, 60))
            record(trial, measurements=measured).write(tmp_path)
            ids.append(trial.id)
    failed, diverged, unrun = make_trial(FFNS[0], seed=2), make_trial(FFNS[0], lr=9.0), make_trial(seed=9)
    record(failed, "failed", [], reason="Traceback\nRuntimeError: <script>alert(1)</script>").write(tmp_path)
    record(diverged, "diverged", [Measurement("loss", 5, 9.0, 0.1, 5)], reason="loss rose").write(tmp_path)
    return tmp_path, [*ids, failed.id, diverged.id, unrun.id]


@pytest.fixture
def written(results):
    folder, ids = results
    return write([Asked("mine", "What I asked", [CLAIM], ids, "parrots run mine", note="Not the paper's batch.")], folder)


def test_what_the_numbers_are_not_stands_beside_what_made_them(written):
    assert "Made by <code>parrots run mine</code>. <b>Not the paper&#39;s batch.</b></p>" in written.html.read_text()
    text = written.html.with_name("report.md").read_text()
    assert "Made by `parrots run mine`. **Not the paper's batch.**\n\n- **" in text


def test_the_report_states_what_the_data_show(written):
    page = written.html.read_text()
    (decision,) = written.decisions
    assert decision.verdict == "supported"
    assert 'class="verdict supported"' in page
    assert "memory follows total parameters: supported" in page
    assert f"{decision.found.interval.low:.3f}, {decision.found.interval.high:.3f}" in page
    assert "7 configurations, 14 runs" in page


def test_what_is_missing_is_told_with_its_reason(written):
    for name in ("report.html", "report.md"):
        page = (written.html.parent / name).read_text()
        assert "Not run yet: 1 trial" in page
        assert "failed, RuntimeError" in page
        assert "d16-f8-lr9-s0" in page


def test_text_from_records_cannot_become_markup(written):
    assert "<script>alert" not in written.html.read_text()


def test_no_number_is_nan(written):
    for name in ("report.html", "report.md"):
        assert not re.search(r"\bnan\b", (written.html.parent / name).read_text(), re.IGNORECASE)


def test_a_sweep_without_a_finished_trial_has_no_report(make_trial, tmp_path):
    with pytest.raises(ValueError, match="no finished trial"):
        write([Asked("mine", "t", [CLAIM], [make_trial().id], "c")], tmp_path)
    assert not (tmp_path / "reports").exists()


def test_a_report_is_the_same_twice_but_for_its_date(results, written):
    folder, ids = results
    before = (written.html.parent / "memory.svg").read_bytes()
    write([Asked("mine", "What I asked", [CLAIM], ids, "parrots run mine")], folder)
    assert (written.html.parent / "memory.svg").read_bytes() == before


def test_every_mark_says_its_trial_and_every_number_drawn_is_in_the_table(results, written):
    _, ids = results
    page = written.html.read_text()
    table = pd.read_csv(written.html.parent / "numbers.csv")
    drawn = table[(table["figure"] == "memory") & table["trial_id"].notna()]
    assert set(drawn["trial_id"]) == set(ids[:14])
    assert all(f"trial {one}" in page for one in drawn["trial_id"])
    trials = pd.read_csv(written.html.parent / "trials.csv", index_col="trial_id")
    assert (drawn["y"].to_numpy() == trials.loc[drawn["trial_id"], "memory_bits"].to_numpy()).all()
    assert table.equals(pd.read_parquet(written.html.parent / "numbers.parquet").assign(**table)[list(table)])


def test_the_page_asks_nothing_of_the_network(written):
    page = re.sub(r'xmlns(:\w+)?="[^"]*"', "", written.html.read_text())
    assert not re.search(r"""(src|href)=["'](?!#)|@import|fetch\(|url\((?!["']?#)""", page)


def test_several_sweeps_share_one_report_that_keeps_them_apart(results):
    folder, ids = results
    dense, whole = [
        Asked(name, f"title {name}", [CLAIM], some, f"parrots run {name}") for name, some in (("a", ids[:8]), ("b", ids))
    ]
    written = write([dense, whole], folder)
    assert written.html.parent.name == "a+b"
    assert [d.verdict for d in written.decisions] == ["direction only", "supported"]
    for name in ("report.html", "report.md"):
        page = (written.html.parent / name).read_text()
        assert "a: title a" in page
        assert "parrots run b" in page
    assert {"a-memory.svg", "b-memory.svg"} <= {path.name for path in written.html.parent.iterdir()}


@pytest.mark.parametrize("bits", [None, 0.0], ids=["nothing measured", "nothing held"])
def test_degenerate_data_leave_words_and_never_nan(make_trial, tmp_path, bits):
    trials = [make_trial(ffn) for ffn in FFNS]
    for trial in trials:
        measured = [Measurement("loss", 20, 2.0, float("nan"), 1)]
        if bits is not None:
            measured.append(Measurement("memory_bits", 20, bits, float("nan"), 1))
        record(trial, measurements=measured).write(tmp_path)
    written = write([Asked("mine", "t", [CLAIM], [one.id for one in trials], "c")], tmp_path)
    assert written.decisions[0].verdict == "undecided"
    for name in ("report.html", "report.md"):
        assert not re.search(r"\b(nan|inf)\b", (written.html.parent / name).read_text(), re.IGNORECASE)


def test_thresholds_that_no_trial_reached_leave_an_undecided_claim_and_its_report(make_trial, tmp_path):
    trials = [make_trial(ffn, task={**BOOK, "n_entries": entries}) for ffn in FFNS for entries in (40, 80)]
    for trial in trials:
        record(trial, measurements=[Measurement("loss", 20, 2.0, 0.1, 5), Measurement("exact_match", 20, 0.1, 0.01, 60)]).write(
            tmp_path
        )
    known = Threshold(axis="task.n_entries", metric="exact_match", target=0.5)
    claim = CLAIM.model_copy(update={"metric": "entries_50", "threshold": known})
    written = write([Asked("mine", "t", [claim], [one.id for one in trials], "c")], tmp_path)
    (decision,) = written.decisions
    assert decision.verdict == "undecided"
    assert "all 7 lie above or below everything that was tried" in written.html.read_text()
    assert [path.name for path in written.html.parent.glob("mem*.svg")] == ["memory.svg"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12448, "12,448"), (0.98765, "0.988"), (12448.6, "12,449"), ("text", "text"), (0.006, "0.006"), (2, "2")],
)
def test_numbers_are_shown_as_people_write_them(value, shown):
    assert number(value) == shown


def test_a_tie_ceiling_stands_beside_the_score_in_the_table_and_in_the_figure(make_trial, tmp_path):
    claim = CLAIM.model_copy(update={"name": "paths", "task": "shortest_path", "metric": "exact_match", "form": "logistic"})
    ids = []
    for width, score in ((8, 0.3), (16, 0.5), (32, 0.6), (64, 0.7)):
        trial = make_trial({"kind": "dense", "d_ff": width}, task=GRAPHS)
        measured = (("loss", 1.0), ("exact_match", score), ("tie_ceiling", 0.8125))
        record(trial, measurements=[Measurement(name, 20, value, 0.01, 100) for name, value in measured]).write(tmp_path)
        ids.append(trial.id)
    page = write([Asked("mine", "t", [claim], ids, "c")], tmp_path).html.with_name("report.md").read_text()
    assert "exact_match | exact_match range | tie_ceiling |" in page
    assert page.count("| 0.812 |") == 4
    drawn = pd.read_csv(tmp_path / "reports" / "mine" / "numbers.csv").query("series == 'tie_ceiling'")
    assert set(drawn["y"]) == {0.8125}


def test_no_line_is_drawn_through_the_sizes_of_a_contrast(make_trial, tmp_path):
    """Routers share a size but for their own matrix: a slope in it would be noise, told as a law."""
    ids = []
    for router, bits in (("top_k", 900.0), ("hash", 1000.0), ("random", 800.0)):
        for seed in (0, 1, 2):
            trial = make_trial({**MOE, "router": router}, seed=seed)
            measured = [Measurement("loss", 20, 1.0, 0.1, 5), Measurement("memory_bits", 20, bits + seed, 1.0, 60)]
            record(trial, measurements=measured).write(tmp_path)
            ids.append(trial.id)
    page = write([Asked("mine", "t", [ROUTERS], ids, "c")], tmp_path).html.with_name("report.md").read_text()
    assert "the line is the fit" not in page
    assert "fit" not in set(pd.read_csv(tmp_path / "reports" / "mine" / "numbers.csv")["series"])


def test_a_contrast_of_numbers_is_drawn_against_them(make_trial, tmp_path):
    claim = ROUTERS.model_copy(update={"name": "longer", "field": "training.steps", "value": 40, "other": 20, "side": "above"})
    ids = []
    for steps, bits in ((20, 900.0), (40, 1000.0)):
        for seed in (0, 1, 2):
            trial = make_trial(seed=seed, steps=steps)
            measured = [Measurement("loss", 20, 1.0, 0.1, 5), Measurement("memory_bits", 20, bits + seed, 1.0, 60)]
            record(trial, measurements=measured).write(tmp_path)
            ids.append(trial.id)
    write([Asked("mine", "t", [claim], ids, "c")], tmp_path)
    drawn = pd.read_csv(tmp_path / "reports" / "mine" / "numbers.csv")
    assert "against training.steps, total and active parameters" in (tmp_path / "reports" / "mine" / "report.md").read_text()
    means = drawn.query("figure == 'longer' and series == 'dense, mean' and x_axis == 'training.steps'")
    assert dict(zip(means["x"], means["y"], strict=True)) == {20: 901, 40: 1001}


def test_capacity_is_told_by_the_measures_that_some_run_has(make_trial, tmp_path):
    """No run is about one of three claims on the phone-book, as when the larger books failed."""
    bits = CLAIM.model_copy(update={"name": "bits", "metric": "memory_bits"})
    exact = bits.model_copy(update={"name": "exact", "metric": "exact_match", "form": "logistic"})
    larger = bits.model_copy(update={"name": "larger", "where": {"task.n_entries": 10**6}})
    trials = [make_trial({"kind": "dense", "d_ff": width}) for width in (8, 16)]
    for trial, stored in zip(trials, (900.0, 1200.0), strict=True):
        measured = [("loss", 1.0), ("exact_match", 0.5), ("memory_bits", stored)]
        record(trial, measurements=[Measurement(name, 20, value, 10.0, 60) for name, value in measured]).write(tmp_path)
    ids = [trial.id for trial in trials]
    for claims in ([larger, exact], [bits, exact]):
        page = write([Asked("mine", "t", claims, ids, "c")], tmp_path).html.with_name("report.md").read_text()
        assert "phonebook: capacity by each measure" in page
        assert ("| 880 to 920 |" in page) == (claims[0] is bits)


def test_trials_that_a_rule_ended_early_are_missing_with_that_reason(make_trial, tmp_path):
    done, ended = make_trial(seed=0), make_trial(seed=1)
    measured = [Measurement("loss", 20, 1.0, 0.1, 5), Measurement("memory_bits", 20, 900.0, 1.0, 60)]
    record(done, measurements=measured).write(tmp_path)
    record(ended, "stopped", [], reason="ended early by asha at step 10 of 20, loss 2", early_stop="asha").write(tmp_path)
    page = write([Asked("mine", "t", [CLAIM], [done.id, ended.id], "c")], tmp_path).html.with_name("report.md").read_text()
    assert "1 finished trials; 1 ended early." in page
    assert "stopped, ended early by asha at step 10 of 20" in page
