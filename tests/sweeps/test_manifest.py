"""The expanded sweep as JSON: canonical, hashed, enough to run without the document."""

import json
from pathlib import Path

import pytest

from parrots.measurement import Measurement
from parrots.thresholds import Thresholds
from sweeps.cli import main
from sweeps.spec import Sweep, documents, find, read

from ..test_record import record
from .test_spec import BASE, DOCUMENT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(capsys, *words: str) -> Path:
    assert main(["plan", *words, "--manifest"]) == 0
    path = Path("manifest.json")
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize("name", documents())
def test_a_manifest_gives_the_sweep_back_and_says_the_same_again(name, capsys):
    path = written(capsys, name)
    found = find(str(path))
    assert found.cells == find(name).cells
    assert found.claims == Sweep.model_validate(find(name).model_dump()).claims
    assert found.text() == path.read_text()


def test_it_needs_the_document_no_more(capsys):
    Path("mine.py").write_text(DOCUMENT.format(base=BASE, axes="{'seed': [0, 1]}"))
    path = written(capsys, "mine.py")
    Path("mine.py").unlink()
    assert main(["plan", str(path)]) == 0
    assert "2 cells, 0 done" in capsys.readouterr().out


def test_bounds_of_alarms_go_with_it_and_name_no_trial(capsys):
    Path("mine.py").write_text(DOCUMENT.format(base=BASE, axes="{'seed': [0, 1]}"))
    plain = find("mine.py")
    said = plain.model_copy(update={"alarms": Thresholds().but(["swamped=8"])})
    Path("manifest.json").write_text(said.text())
    found = find("manifest.json")
    assert (found.alarms.swamped, found.alarms.starved) == (8.0, Thresholds().starved)
    assert [cell.trial.id for cell in found.cells] == [cell.trial.id for cell in plain.cells]
    assert "alarms" not in plain.text()


def test_a_manifest_runs_as_the_sweep_that_it_is_of(capsys):
    """Its cells are done already, so nothing but the way there is run."""
    path = written(capsys, "quickstart", "--scale", "smoke", "--max-trials", "2", "--where", "task == 'phonebook'")
    for cell in find(str(path)).cells:
        record(
            cell.trial, measurements=[Measurement(name, 20, 3.0, 0.1, 9) for name in ("loss", "test_loss", "memory_bits")]
        ).write(Path("results"))
    assert main(["run", str(path)]) == 0
    assert "2 cells, all done" in capsys.readouterr().out
    assert main(["status", str(path)]) == 0
    assert read(Path("results/sweeps/quickstart/manifest.json")).command == "parrots run manifest.json"


def test_equal_sweeps_have_equal_hashes_and_two_that_differ_differ_in_a_line_a_cell(capsys):
    def lines(*words):
        return written(capsys, "quickstart", "--scale", "smoke", *words).read_text().splitlines()

    whole, again, part = lines(), lines("--where", "lr > 0"), lines("--where", "task == 'length2_path' or lr == 1e-2")
    command = [line for line in whole if line not in again]
    assert [line.split(":")[0].strip() for line in command] == ['"command"']
    gone = {line.rstrip(",") for line in whole} - {line.rstrip(",") for line in part}
    assert sum(line.startswith('  {"trial"') for line in gone) == 3
    assert len(gone) == 3 + 2  # and the hash, and the command


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda said: said.update(format=7), "a manifest of format 7, and this version reads 1"),
        (lambda said: said["cells"].pop(), "was changed by hand"),
        (lambda said: said.pop("format"), "not a manifest of a sweep"),
        (lambda said: said.update(name="../../x", hash=None), "name='../../x': letters, digits"),
        (lambda said: said.update(cells=[], hash=None), "a sweep without cells"),
        (lambda said: said.update(surprise=1, hash=None), "no field 'surprise'"),
        (
            lambda said: said["cells"][0]["trial"]["training"].update(lr=-1) or said.pop("hash"),
            "lr=-1: Input should be greater",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_line_and_starts_nothing(capsys, change, expected):
    path = written(capsys, "quickstart", "--scale", "smoke")
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    assert main(["run", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line.replace("was it changed by hand", "was changed by hand")
    assert not Path("results").exists()


@pytest.mark.parametrize("text", ["", "nonsense", "[1, 2]", "{}", "\ufeff{"])
def test_a_file_that_is_no_manifest_is_said_to_be_none(capsys, text):
    Path("some.json").write_text(text)
    assert main(["plan", "some.json"]) == 2
    assert "some.json: not " in capsys.readouterr().err
    assert main(["plan", "absent.json"]) == 2
    assert "no manifest absent.json" in capsys.readouterr().err


def test_two_values_of_one_name_in_a_document_are_seen_before_it_is_run(capsys):
    Path("mine.py").write_text(DOCUMENT.format(base=BASE, axes="{'seed': [0], 'training.lr': [1e-3], 'seed': [1]}"))
    assert main(["plan", "mine.py"]) == 2
    assert "mine.py, line 11: two values for 'seed' in one mapping" in capsys.readouterr().err
