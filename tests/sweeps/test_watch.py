import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from parrots.spec import Cell
from parrots.store import Store
from sweeps.watch import Watch

from ..conftest import make


def test_the_live_view_counts_alarms_and_shows_the_latest():
    cells = [Cell(trial=make(seed=seed)) for seed in (0, 1)]
    console = Console(record=True, width=160)
    watch = Watch(cells, SimpleNamespace(work=lambda cell: 1.0, slots=2), console, on_end=lambda trial_id: None)
    for cell in cells:
        watch.started(cell.trial.id)
    watch.progressed(cells[0].trial.id, 0.1, 100)
    console.print(watch)
    assert "alarm" not in console.export_text()
    watch.progressed(cells[0].trial.id, 0.2, 200, ["a", "b"])
    watch.progressed(cells[1].trial.id, 0.2, 200, ["router collapsed"])
    watch.progressed(cells[0].trial.id, 0.3, 300, ["a", "b"])  # nothing new
    console.print(watch)
    assert f"3 alarms, the latest: {cells[1].trial.name}, router collapsed" in console.export_text()


def test_the_line_tells_failures_with_their_class():
    cells = [Cell(trial=make(seed=seed)) for seed in range(4)]
    watch = Watch(cells, SimpleNamespace(work=lambda cell: 1.0, slots=2), Console(), on_end=lambda trial_id: None)
    ids = [cell.trial.id for cell in cells]
    for trial_id in ids:
        watch.started(trial_id)
    watch.lost["infrastructure"] += 1  # and is begun again
    watch.ended(ids[0], "done", 1.0)
    watch.ended(ids[1], "oom", failure="oom")
    watch.ended(ids[2], "failed", failure="bug")
    said = watch.line()
    assert said.startswith("1 done, 1 running, 0 left, 2 failed (1 bug, 1 oom), attempts lost: 1 infrastructure | ")


def test_cells_that_share_a_gpu_take_a_part_of_its_slot_each():
    cells = [Cell(trial=make(seed=seed)) for seed in range(4)]
    watch = Watch(cells, SimpleNamespace(work=lambda cell: 1.0, slots=1), Console(), on_end=lambda trial_id: None)
    watch.sizes = {cell.trial.id: 0.25 for cell in cells}
    for trial_id in watch.cells:
        watch.started(trial_id)
    watch.began_at -= 10
    watch.since = dict.fromkeys(watch.since, watch.began_at)
    for trial_id in watch.cells:
        watch.ended(trial_id, "done", 8.0)
    assert 0.79 < watch.utilisation() <= 0.8
    assert 10 <= watch.device_s() < 10.5


class Leaves:
    """The client of an empty store that answers so often and then no more."""

    def __init__(self, answers: int):
        self.left = answers

    def get_file_info(self, asked):
        self.left -= 1
        if self.left < 0:
            raise OSError("no route")
        return SimpleNamespace(is_file=False) if isinstance(asked, str) else []

    def open_input_stream(self, key):
        self.get_file_info(key)
        raise FileNotFoundError

    def open_output_stream(self, key):
        self.get_file_info(key)
        return BytesIO()


@pytest.fixture
def leaving(tmp_path, monkeypatch):
    """Makes a store that leaves after so many answers; waiting for it is an error."""

    def made(answers: int) -> Store:
        client = Leaves(answers)
        monkeypatch.setattr("parrots.store.opened", lambda uri: (client, "folder"))
        return Store("s3://folder", tmp_path)

    def sleep(seconds: float) -> None:
        raise AssertionError("waited for a store")

    monkeypatch.setattr("parrots.store.time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    return made


def lose_a_process(results: Path, store: Store) -> Watch:
    """What a driver does where a cell's process died."""
    from sweeps.events import Watching

    cell = Cell(trial=make())
    watch = Watch([cell], SimpleNamespace(work=lambda cell: 1.0, slots=1), Console(), on_end=lambda trial_id: None)
    given = SimpleNamespace(cell=lambda trial_id: cell, results=results, store=store, sweep="", early_stop="", workers=1)
    Watching(watch, given).on_trial_recover(0, [], SimpleNamespace(config={"trial_id": cell.trial.id}, error_file=""))
    return watch


@pytest.mark.parametrize("answers", [0, 1, 2, 3, 4])
def test_a_driver_waits_for_no_store_and_for_none_that_leaves_meanwhile(tmp_path, leaving, answers):
    watch = lose_a_process(tmp_path, leaving(answers))
    assert watch.lost == {"infrastructure": 1}
    assert len(list((tmp_path / "failures").iterdir())) == 1


def test_an_attempt_whose_number_a_store_could_not_say_is_not_sent_over_another(tmp_path, leaving, monkeypatch):
    store, sent = leaving(0), []
    monkeypatch.setattr(Store, "put", lambda self, path, content=None: sent.append(path.name))
    lose_a_process(tmp_path, store)
    assert len(list((tmp_path / "failures").iterdir())) == 1
    assert sent == []


def test_a_manifest_that_a_store_does_not_take_is_said_to_be_here_alone(tmp_path, leaving, capsys):
    from sweeps.course import sent

    (tmp_path / "run.json").write_text("{}")
    sent(tmp_path / "run.json", leaving(0))
    assert "run.json was not sent (no route)" in capsys.readouterr().out.replace("\n", "")
