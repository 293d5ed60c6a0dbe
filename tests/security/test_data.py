"""Manifests, expressions and records are data: whatever they hold, nothing of it is executed, and it is refused in a line."""

import ast
import base64
import json
import os
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.picture import Picture, panels
from analysis.table import load
from parrots.expressions import Expression
from parrots.frozen import canonical
from parrots.record import SCHEMA, path_of, read
from parrots.run import read_cells
from sweeps.cli import main
from sweeps.intake import RefusedError, looked_at
from sweeps.spec import Sweep, find
from sweeps.verbs.trial import again

from ..conftest import make
from ..test_record import record
from .hostile import TEXTS, pickled

HERE = Path(__file__).parents[2]
TRIAL = make()


@pytest.fixture(autouse=True)
def nothing_is_executed(tmp_path, monkeypatch):
    """Each test runs in an empty folder, in which whatever obeys a sample leaves a file."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("*owned*"))


def manifest(**changes) -> Path:
    said = json.loads(find("quickstart", "smoke").text()) | changes
    said.pop("hash")
    path = Path("manifest.json")
    path.write_text(json.dumps(said))
    return path


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", ["name", "title", "scale", "command", "keep"])
def test_a_manifest_says_what_it_likes_and_the_terminal_obeys_none_of_it(field, text, capsys):
    code = main(["plan", str(manifest(**{field: text}))])
    told = capsys.readouterr()
    assert code in (0, 2)
    assert code == 0 or len(told.err.splitlines()) == 1
    assert all(c.isprintable() or c in "\n\t" for c in told.out + told.err)
    assert not Path("results").exists()


@pytest.mark.parametrize("text", [text for text in TEXTS if not text.isalnum()])
def test_a_claim_of_a_manifest_names_no_file_elsewhere(text, capsys):
    said = json.loads(find("quickstart", "smoke").text())
    claims = [said["claims"][0] | {"name": text}]
    assert main(["plan", str(manifest(claims=claims))]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"format": 1, "cells": ' + b"9" * 100_000 + b"}",
        b'{"format": NaN}',
        b'{"format": 1, "name": "\\ud800", "cells": []}',
        b'{"format": 1, "cells": [' + b"{}," * 100_000 + b"{}]}",
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
        b"\x80\x04\x95",
        b"\xff\xfe\x00",
    ],
)
def test_a_bomb_is_one_line_as_a_manifest_and_as_a_file_of_cells(content, capsys):
    Path("bomb.json").write_bytes(content)
    assert main(["plan", "bomb.json"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(ValueError, match=r"bomb\.json"):
        read_cells(Path("bomb.json"))


def test_nothing_of_ours_reads_a_pickle_or_makes_objects_of_yaml_or_evaluates_text():
    """But torch's own checkpoints, behind their signature (tests/security/test_checkpoints.py)."""
    forbidden = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    called = {"eval", "exec", "compile", "__import__"}
    for path in (path for room in ("parrots", "sweeps", "analysis") for path in sorted((HERE / room).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, path
            assert not (isinstance(node, ast.ImportFrom) and node.module == "yaml"), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yaml":
                assert node.attr in ("safe_load", "YAMLError"), path
            if isinstance(node, ast.Call):
                function = node.func
                assert not (isinstance(function, ast.Name) and function.id in called), path
                if isinstance(function, ast.Attribute):
                    of = ast.unparse(function)
                    assert of not in ("torch.load", "np.load", "pd.read_pickle") or allowed(node), (path, of)


def allowed(call: ast.Call) -> bool:
    """np.load refuses pickles unless it is told otherwise; torch.load is told not to take them."""
    said = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if ast.unparse(call.func) == "np.load":
        return said.get("allow_pickle", "False") == "False"
    return said.get("weights_only") == "True"


@pytest.mark.parametrize("text", [*TEXTS, "__import__('os').system('touch owned')", "().__class__.__base__.__subclasses__()"])
def test_an_expression_is_never_python(text):
    with pytest.raises(ValueError, match="expression"):
        Expression(text)({"x": 1})


def with_metadata(done: Path, **metadata: bytes) -> Path:
    """A good record whose file says more about itself."""
    path = record(TRIAL).write(Path())
    table = read([path])
    fields = [one.with_metadata({b"ARROW:extension:name": b"arrow.py_extension_type"} | metadata) for one in table.schema]
    hostile = {b"pandas": pickled(done), b"ARROW:schema": base64.b64encode(pickled(done)), **metadata}
    pq.write_table(table.cast(pa.schema(fields)).replace_schema_metadata(hostile), path)
    return path


def test_a_pickle_in_a_records_metadata_is_never_read(tmp_path):
    done = tmp_path / "owned"
    path = with_metadata(done, **{"ARROW:extension:metadata": pickled(done)})
    for reader in (looked_at, lambda path: read([path]), lambda path: load(Path(), [TRIAL.id])):
        try:
            reader(path)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1
        assert not done.exists()


def rewritten(changes) -> Path:
    path = record(TRIAL).write(Path())
    rows = [row | changes for row in read([path]).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return path


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", ["sweep", "trial_id", "name", "trial", "task", "status", "commit", "failure", "evaluation"])
def test_a_text_where_another_belongs_is_refused(field, text):
    with pytest.raises(RefusedError) as error:
        looked_at(rewritten({field: text}))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "before"), [("hardware", ""), ("hardware", " "), ("reason", ""), ("reason", "\t"), ("reason", "\n")]
)
def test_a_text_that_a_spreadsheet_would_compute_is_refused(field, before):
    """These reach a report's tables."""
    with pytest.raises(RefusedError, match=f"{field}: begins with '=', which a spreadsheet may obey"):
        looked_at(rewritten({field: f'{before}=HYPERLINK("http://elsewhere", "see")'}))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", ["hardware", "commit", "reason"])
def test_what_reproduces_a_trial_is_one_command_whatever_its_record_says(field, text):
    """A script that people pipe into a shell: comments stay comments, and the cell is quoted."""
    about = read([record(TRIAL).write(Path())]).to_pylist()[0] | {field: f"{text}, {text} threads"}
    *comments, command = again(about, "out")
    assert all(line.startswith("# ") and len(line.splitlines()) == 1 for line in comments)
    assert command.startswith("printf ")
    assert command.count("parrots.run") == 1
    script = "\n".join([*comments, "python() { :; }", command])
    subprocess.run(["bash"], input=script, text=True, check=True, env={"PATH": os.environ["PATH"]})


@pytest.mark.parametrize("text", ["null", "[" * 10_000, '{"name": "$(touch owned)"}', *TEXTS])
def test_what_a_record_of_an_evaluation_says_reaches_no_command_unless_it_is_one(text, capsys):
    results = Path("results")
    record(TRIAL).write(results)
    path = results / "evaluations" / f"{TRIAL.id}-00000000.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist([record(TRIAL).table().to_pylist()[0] | {"evaluated": text}], SCHEMA), path)
    assert main(["reproduce", TRIAL.id]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert str(path) in line


def test_a_page_shows_what_a_record_and_a_manifest_say_and_runs_none_of_it(capsys):
    """Names and reasons reach the report of a results folder that nobody looked at: HTML escapes them, terminals see them."""
    text = "".join(text for text in TEXTS[:3])
    results = Path("results")
    trials = [make(seed=seed) for seed in range(2)]
    cells = [{"trial": canonical(trial)} for trial in trials]
    found = Sweep.model_validate({"name": "mine", "title": text, "command": text, "scale": text, "cells": cells})
    found.manifest(results)
    replace(record(trials[0]), hardware=text).write(results)
    replace(record(trials[1], "failed", []), reason=text).write(results)
    assert path_of(trials[0].id, results).exists()
    assert main(["report", "mine"]) == 0
    assert main(["status", "mine"]) == 0
    assert main(["logs", trials[1].id]) == 0
    told = capsys.readouterr()
    assert all(c.isprintable() or c in "\n\t" for c in told.out + told.err)
    page = (results / "reports" / "mine" / "report.html").read_text()
    assert "<script>document" not in page
    assert "<img" not in page
    assert "&lt;script&gt;document" in page


@pytest.mark.parametrize("text", [r"\undefined{x", r"\frac{1}{" + "{" * 50, "5 a run, or "])
def test_a_claim_between_dollar_signs_is_drawn_as_it_is_said(text, tmp_path):
    """To matplotlib it would be a formula: refused, without end, or without its dollars."""
    said = f"${text}$"
    figure, (panel,) = panels(1)
    panel.set(title=said, xlabel=said, xscale="log", xlim=(1, 1000))
    figure.suptitle(said)
    picture = Picture("drawn", "", figure).save(tmp_path)
    assert unescape(picture).count(said) == 3
    assert "mathdefault" not in picture
