"""Secrets are in no log, no record, no manifest, no report and no exception."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from parrots import keys
from sweeps import run_manifest
from sweeps.cli import cli, main
from sweeps.guard import LOOPBACK
from sweeps.notify import Teller
from sweeps.tracking import Mirror

from ..conftest import make
from ..test_record import record

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-0123456789"


def test_a_command_line_is_remembered_without_its_addresses():
    words = ["parrots", "run", "s.py", "--notify", f"slack://{SECRET}", f"--notify=json://u:{SECRET}@h", "--where", "lr < 1"]
    told = run_manifest.told(words)
    assert SECRET not in " ".join(told)
    assert told == ["parrots", "run", "s.py", "--notify", "***", "--notify=***", "--where", "lr < 1"]


def test_an_address_that_is_wrong_is_not_shown():
    with pytest.raises(ValueError, match=r"\*\*\*") as error:
        Teller("mine", [f"unknown://{SECRET}@host"])
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("uri", [f"http://admin:{SECRET}@127.0.0.1:9", f"http://127.0.0.1:9/?token={SECRET}"])
def test_mlflows_address_is_told_without_its_password(tmp_path, monkeypatch, capsys, uri):
    """MLflow's own errors repeat it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record(make(), sweep="mine").write(tmp_path)
    with Mirror(tmp_path) as mirror:
        mirror.add(make().id, "mine")
    assert "127.0.0.1:9" in mirror.problem
    for words in (["export", "--from-mlflow"], ["ui", "mine"]):
        assert main([*words, "--results", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.err.count("error: MLflow at http://") == 2
    assert SECRET not in mirror.problem + told.out + told.err


def test_a_server_that_fails_in_the_midst_is_told_without_its_password(tmp_path, monkeypatch, capsys):
    """It names its experiments, and refuses to search for runs in them."""

    class Failing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            named = self.path.endswith("experiments/search")
            self.send_response(200 if named else 403)
            self.end_headers()
            refusal = {"error_code": "PERMISSION_DENIED", "message": "not for you"}
            self.wfile.write(json.dumps({"experiments": [NAMED]} if named else refusal).encode())

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    NAMED = {"experiment_id": "1", "name": "parrots/phonebook", "artifact_location": "x", "lifecycle_stage": "active"}
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://admin:{SECRET}@127.0.0.1:{server.server_port}")
        assert main(["export", "--from-mlflow", str(tmp_path / "runs.csv"), "--results", str(tmp_path)]) == 2
        server.shutdown()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: MLflow at http://***@127.0.0.1")
    assert "PERMISSION_DENIED" in line
    assert SECRET not in line


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+pg8000"])
def test_a_database_without_its_driver_is_told_in_a_line(tmp_path, monkeypatch, capsys, scheme):
    for driver in ("MySQLdb", "pg8000"):
        monkeypatch.setitem(sys.modules, driver, None)
    words = ["export", "--from-mlflow", str(tmp_path / "runs.csv"), "--store", f"{scheme}://u:{SECRET}@h/db"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: MLflow at {scheme}://***@h/db: ")
    assert "install" in line


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"at postgresql://u:{SECRET}/@@h:1/db failed", "at postgresql://***@h:1/db failed"),
        (f"postgresql://h/db?password={SECRET} failed", "postgresql://h/db?*** failed"),
        ("http://h:1/a failed? Write to a@b", "http://h:1/a failed? Write to a@b"),
    ],
)
def test_of_an_address_its_host_is_shown(said, shown):
    assert keys.covered(said) == shown


def test_what_a_run_leaves_has_no_secret_of_its_environment(tmp_path):
    """A whole run, with secrets where they are given: everything below its folder and all that it says."""
    document = tmp_path / "mine.py"
    document.write_text(
        '"""Mine."""\nfrom sweeps.spec import Sweep, grid, union\n'
        f"def sweep(scale):\n    return Sweep(cells=union(grid({make().model_dump()!r}, {{}})))\n"
    )
    results = tmp_path / "results"
    given = {"PARROTS_NOTIFY": f"json://user:{SECRET}@127.0.0.1:9/", "MLFLOW_TRACKING_PASSWORD": SECRET}
    given |= {"MLFLOW_TRACKING_USERNAME": "admin", "RAY_AUTH_TOKEN": SECRET * 2, "RAY_AUTH_MODE": "token"}
    command = [sys.executable, "-m", "sweeps.cli", "run", str(document), "--results", str(results), "--slots", "1"]
    done = subprocess.run(command, env=os.environ | given, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    key = str(keys.secret("checkpoint")).encode()
    left = [path for path in results.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(left) > 10
    for path in left:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert key not in content, path


def test_the_keys_that_tests_make_go_with_them(tmp_path):
    code = "import os, tests.conftest; from parrots import keys; keys.secret('x'); print(os.environ['PARROTS_KEYS'])"
    env = {name: value for name, value in os.environ.items() if name != "PARROTS_KEYS"} | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == tmp_path
    assert not list(tmp_path.glob("parrots-keys-*"))


def test_a_traceback_of_ours_shows_stars():
    secret = keys.Secret(SECRET)
    assert SECRET not in repr({"password": secret})
    assert SECRET not in repr((secret, [secret]))


def test_the_ui_listens_on_the_loopback_address_alone(tmp_path, monkeypatch):
    """What it is started with; that MLflow obeys is in test_mlflow.py."""
    record(make()).write(tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("CREATE TABLE experiments (name)")
    monkeypatch.setattr("sweeps.tracking.Store", lambda results: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))
    started: list[tuple] = []
    assert main(["ui", "--results", str(tmp_path), "--port", "5999"]) == 0
    ((_, command, environment),) = started
    assert command[command.index("--host") + 1] == LOOPBACK
    assert command[command.index("--allowed-hosts") + 1] == "127.0.0.1:5999,localhost:5999"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert not any("--host" in option.opts for option in cli.commands["ui"].params)


def test_final_weights_are_safetensors(tmp_path):
    """Which hold numbers and nothing else; a pickle under that name is none."""
    from parrots.training import weights

    trial, path = make(), tmp_path / "x.safetensors"
    path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(Exception, match=r"(?i)header"):
        weights.load(trial, path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert not Path("owned").exists()
    path.write_bytes(b"another file")
    for sha256, why in (("0" * 64, "their SHA-256 differs"), ("", "it has no SHA-256 of any")):
        with pytest.raises(ValueError, match=why):
            weights.load(trial, path, sha256)
