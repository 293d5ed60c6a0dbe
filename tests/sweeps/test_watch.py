from types import SimpleNamespace

from rich.console import Console

from parrots.spec import Cell
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
