import fcntl
import json
import os
import socket
import sqlite3
import time
from io import StringIO
from pathlib import Path
from threading import Event, Thread

import pytest
from rich.console import Console

from parrots.record import path_of
from sweeps.cli import main
from sweeps.guard import holder, lock, writable
from sweeps.spec import find
from sweeps.tracking import Store

from ..test_record import record


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(capsys, *words: str) -> str:
    """Exit code 2, one line on stderr, nothing on stdout, nothing written; returns the line."""
    before = sorted(Path().rglob("*"))
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert sorted(Path().rglob("*")) == before
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["plan", "nothing"], "no sweep 'nothing'; there are "),
        (["run", "nothing"], "no sweep 'nothing'; there are "),
        (["status", "nothing"], "nothing was not run into results"),
        (["report", "quickstart"], "`parrots run quickstart` does it"),
        (["run", "quickstart", "--scale", "huge"], "there are laptop, smoke"),
        (["run", "quickstart", "--slots", "0"], "--slots"),
        (["plan"], "Missing argument 'SWEEP'"),
        (["count"], "name a sweep, or --paper"),
        (["export", "nothing", "here"], "0 trials in results begin with 'nothing'"),
        (["fly"], "no command 'fly'; there are bench, "),
        (["plan", "quickstart", "--fast"], "--fast"),
        (["ui"], "no MLflow store in results"),
    ],
)
def test_bad_input_is_one_line_and_code_2_and_writes_nothing(capsys, words, expected):
    assert expected in refused(capsys, *words)


def test_a_results_folder_that_cannot_be_written_is_refused(capsys):
    assert "cannot write to /proc/results" in refused(capsys, "run", "quickstart", "--results", "/proc/results")
    Path("file").write_text("")
    assert "--results" in refused(capsys, "run", "quickstart", "--results", "file")


def test_a_port_in_use_is_named(capsys):
    Path("results").mkdir()
    sqlite3.connect("results/mlflow.db").close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use; name another with --port" in refused(capsys, "ui", "--port", str(port))


def test_a_locked_store_is_named(capsys):
    Path("results").mkdir()
    with sqlite3.connect("results/mlflow.db", isolation_level=None) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        line = refused(capsys, "ui", "--port", "5999")
    assert "mlflow.db cannot be used (database is locked)" in line


def test_help_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in ("plan", "run", "status", "report", "ui"))


def test_a_plan_as_json_lines_is_what_parrots_run_reads(capsys):
    from parrots.run import read_cells

    assert main(["plan", "quickstart", "--scale", "smoke", "--jsonl"]) == 0
    Path("cells.jsonl").write_text(capsys.readouterr().out)
    assert len(read_cells(Path("cells.jsonl"))) == 12


def test_count_adds_up_and_prints_the_papers_own_labels(capsys):
    assert main(["count", "quickstart", "--scale", "smoke"]) == 0
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert len(rows) == 8
    for row in rows:
        values = dict(zip(header, row, strict=True))
        groups = [int(values[g].replace(",", "")) for g in ("attention", "norm", "router", "ffn", "experts", "shared")]
        assert sum(groups) == int(values["N_total"].replace(",", "")) >= int(values["N_active"].replace(",", ""))
    assert main(["count", "--paper"]) == 0
    printed = capsys.readouterr().out
    for line in ("d=256 dense       16.1       16.1         16M", "26,045.1    1,885.9  26.0B-A1.9B"):
        assert line in printed


def test_a_narrow_terminal_loses_no_digit(monkeypatch):
    narrow = Console(file=(text := StringIO()), width=60, markup=False, soft_wrap=True)
    for module in ("cli", "say"):
        monkeypatch.setattr(f"sweeps.{module}.out", narrow)
    assert main(["plan", "quickstart"]) == 0
    assert "…" not in text.getvalue()
    assert "222,528" in text.getvalue()


@pytest.mark.parametrize("spoil", [b"", b"PAR1 nonsense", None])
def test_a_spoilt_record_is_named_before_anything_runs(tmp_path, make_trial, capsys, spoil):
    cell = find("quickstart", "smoke").cells[0]
    path = path_of(cell.trial.id, Path("results"))
    if spoil is None:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True)
        path.write_bytes(spoil)
    said = refused(capsys, "run", "quickstart", "--scale", "smoke")
    assert f"{path}: not a record" in said
    assert "delete it, and the next run makes it again" in said
    assert not Path("results/sweeps/quickstart").exists()


def test_two_runs_do_not_share_a_results_folder(capsys):
    writable(Path("results"))
    with lock(Path("results")):
        assert "another `parrots run` is at work in results" in refused(capsys, "run", "quickstart", "--scale", "smoke")


def test_who_only_asks_keeps_no_run_out():
    writable(Path("results"))
    asking = Event()

    def ask() -> None:
        with Path("results/.lock").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            asking.set()
            time.sleep(0.1)

    (thread := Thread(target=ask)).start()
    asking.wait()
    with lock(Path("results")):
        assert (found := holder(Path("results"))) is not None
        assert found.pid == os.getpid()
    thread.join()


def test_status_counts_and_gives_the_reason_of_each_failure(capsys):

    found = find("quickstart", "smoke")
    found.manifest(Path("results"))
    record(found.cells[0].trial).write(Path("results"))
    record(found.cells[1].trial, "failed", [], reason="Traceback\nValueError: it broke").write(Path("results"))
    assert main(["status", "quickstart"]) == 0
    said = capsys.readouterr().out
    assert f"d16-f16-lr2e-2-s0 ({found.cells[1].trial.id}): attempt 1, ValueError: it broke" in said
    (row,) = [line.split() for line in said.splitlines() if line.strip().startswith("phonebook ")][:1]
    assert row == ["phonebook", "1", "1", "4"]


@pytest.mark.parametrize("sweep", ["my.own", "my.own.py", "there/my.own.py", "results/sweeps/my.own.json"])
def test_the_ui_takes_a_sweep_by_its_name_and_by_its_file(make_trial, monkeypatch, capsys, sweep):
    monkeypatch.setattr(os, "execve", lambda *given: None)
    monkeypatch.setattr("sweeps.cli.free", lambda port: None)
    record(make_trial(), sweep="my.own").write(Path("results"))
    Store(Path("results")).mirror(make_trial().id, "my.own")
    assert main(["ui", sweep]) == 0
    assert "compare my.own, " in capsys.readouterr().out
    assert main(["ui", "another.py"]) == 2
    assert "no runs of another in results" in capsys.readouterr().err


def test_a_link_to_compare_shows_the_runs_of_the_sweep(make_trial):
    results = Path("results").absolute()
    trials = [make_trial(seed=s) for s in range(3)]
    for trial in trials:
        record(trial, sweep="mine").write(results)
    store = Store(results)
    for trial in trials[:2]:
        store.mirror(trial.id, "mine")
    store.mirror(trials[2].id, "other")
    (link,) = store.compare_links("mine", "http://127.0.0.1:1").values()
    runs = [run.info.run_id for run in store.runs["parrots/phonebook"].values() if "sweep.mine" in run.data.tags]
    assert len(runs) == 2
    kept = store.client.get_experiment_by_name("parrots/phonebook")
    assert link == (
        f"http://127.0.0.1:1/#/experiments/{kept.experiment_id}/runs?viewStateShareKey=parrots-mine&compareRunsMode=CHART"
    )
    assert json.loads(kept.tags["mlflow.sharedViewState.parrots-mine"])["searchFilter"] == "tags.`sweep.mine` = 'yes'"
    assert os.path.exists(results / "mlflow.db")
