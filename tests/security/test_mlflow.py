"""`parrots mlflow serve` over the wire: a password, names that it answers to, and nothing secret where others look."""

import base64
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

from parrots import keys
from sweeps.cli import main
from sweeps.verbs.mlflow import SAFE, server

from .network import another_address

ASKED = "/api/2.0/mlflow/experiments/search?max_results=1"
BEFORE = "password-that-was-before"
POSTED = "/ajax-api/2.0/mlflow/experiments/search"
OPENING = {
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "*",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_AUTH_ADMIN_USERNAME": "root",
    "MLFLOW_UVICORN_OPTS": "--root-path /elsewhere",
    "MLFLOW_EXPOSE_PROMETHEUS": "metrics",
    "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
    "UVICORN_UDS": "socket",
}
"""An environment in which MLflow's server would answer to whoever asks, in other places, or leave its checks out."""


@pytest.fixture(scope="module")
def patch():
    """For as long as the server runs."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def address(tmp_path_factory, patch):
    """Of a server that was told to listen on every network, from a shell that opens it; with its process and its log.

    It finds users that were made before it.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("team")
    store = SqlAlchemyStore()
    patch.setenv("PARROTS_KEYS", str(tmp_path_factory.mktemp("keys")))
    store.init_db(f"sqlite:///{keys.folder() / 'mlflow-users.db'}")
    store.create_user("admin", BEFORE, is_admin=True)
    command = [sys.executable, "-m", "sweeps.cli", "mlflow", "serve", "--port", str(port), "--results", str(folder)]
    command += ["--host", "0.0.0.0", "--allowed-hosts", "box, desk:8443"]
    with (folder / "log").open("w") as log:
        given = {"env": os.environ | OPENING, "stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([*command, "--workers", "1"], **given)
    try:
        end = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex((another_address(), port)) == 0:
                    break
            time.sleep(0.5)
        yield f"{another_address()}:{port}", process.pid, folder / "log"
    finally:
        process.terminate()
        process.wait(30)


def status(address: str, password: str = "", posted: bytes | None = None, **headers: str) -> int:
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    path = f"http://{address}{ASKED}" if posted is None else f"http://{address}{POSTED}"
    headers |= {"Content-Type": "application/json"}
    try:
        return urllib.request.urlopen(urllib.request.Request(path, posted, headers), timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def test_who_has_no_password_or_another_name_is_refused_and_no_secret_is_seen(address):
    """From the network too, at whose address it answers to the names alone that it was given."""
    at, pid, log = address
    port = at.partition(":")[2]
    password = str(keys.secret("mlflow-password"))
    for asked, named in ((f"127.0.0.1:{port}", f"127.0.0.1:{port}"), (at, f"box:{port}")):
        assert status(asked, Host=named) == 401
        assert status(asked, "password1234", Host=named) == 401
        assert status(asked, password, Host=named) == 200
        assert status(asked, password, Host="rebound.example") == 403
    assert status(at, password) == 403
    secrets = (password, str(keys.secret("mlflow-session")))
    seen = Path(f"/proc/{pid}/cmdline").read_text() + log.read_text()
    assert not any(secret in seen for secret in secrets)
    for path in keys.folder().iterdir():
        if path.name != "mlflow-users.db":  # which keeps a hash
            assert path.stat().st_mode & 0o077 == 0


def test_a_password_made_anew_is_the_only_one(address):
    """The server found a user `admin` from before, with another."""
    at, _, _ = address
    named = f"box:{at.partition(':')[2]}"
    assert status(at, BEFORE, Host=named) == 401
    assert status(at, str(keys.secret("mlflow-password")), Host=named) == 200


@pytest.mark.parametrize("content", [b"no database", b""])
def test_users_that_cannot_be_read_are_told_in_a_line(tmp_path, monkeypatch, capsys, content):
    monkeypatch.setenv("PARROTS_KEYS", str(tmp_path))
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("it was served"))
    (tmp_path / "mlflow-users.db").write_bytes(content)
    assert main(["mlflow", "serve", "--results", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mlflow-users.db" in line
    assert "move it away" in line


def test_a_browser_shows_the_runs_under_the_names_given_by_http_and_behind_tls_and_no_other_page_reads_them(address):
    """MLflow's page posts its searches; a proxy with TLS passes on the name with its port, without, or MLflow's own address."""
    at, _, _ = address
    port = at.partition(":")[2]
    password = str(keys.secret("mlflow-password"))

    def posts(host: str, origin: str) -> int:
        return status(at, password, b'{"max_results": 1}', Host=host, Origin=origin)

    assert posts(f"box:{port}", f"http://box:{port}") == 200
    for host in ("box", "box:443", f"127.0.0.1:{port}"):
        assert posts(host, "https://box") == 200
    assert posts("desk:8443", "https://desk:8443") == 200
    for origin in ("https://rebound.example", f"http://rebound.example:{port}", "http://box", "https://box:8443", "null"):
        assert posts(f"box:{port}", origin) == 403
    for host in ("box:8443", "desk", "rebound.example", "box.example", "xbox"):
        assert posts(host, "https://box") == 403


def test_its_command_names_its_hosts_and_takes_no_servers_options(tmp_path):
    command = server(tmp_path, "127.0.0.1", 5000, ["box"])
    assert command[command.index("--allowed-hosts") + 1] == "127.0.0.1:5000,localhost:5000,box:5000,box,box:443"
    assert command[command.index("--cors-allowed-origins") + 1] == "http://box:5000,https://box"
    assert not {"--gunicorn-opts", "--uvicorn-opts", "--backend-store-uri"} & set(command)
    assert SAFE["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.parametrize("verb", [["ui"], ["mlflow", "serve"]])
def test_an_environment_that_opens_mlflow_does_not_reach_its_server(tmp_path, monkeypatch, verb):
    """Much of what MLflow and uvicorn take from theirs is a door."""
    started: list[tuple] = []
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))
    monkeypatch.setattr("sweeps.cli.free", lambda port: None)
    monkeypatch.setattr("sweeps.verbs.mlflow.free", lambda port: None)
    monkeypatch.setattr("sweeps.tracking.Store", lambda results: None)
    for name, value in (OPENING | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}).items():
        monkeypatch.setenv(name, value)
    assert main([*verb, "--results", str(tmp_path)]) == 0
    ((_, _, environment),) = started
    assert not set(OPENING) & set(environment)
    assert set(SAFE.items()) <= set(environment.items())
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/mlflow.db"


def test_it_listens_on_the_loopback_address_unless_told_otherwise_and_then_is_told_its_names(tmp_path, monkeypatch, capsys):
    started: list[tuple] = []
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))
    monkeypatch.setattr("sweeps.verbs.mlflow.free", lambda port: None)
    asked = ["mlflow", "serve", "--results", str(tmp_path)]
    assert main([*asked, "--host", "0.0.0.0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--host 0.0.0.0: name what others call this machine by" in line
    assert main(asked) == 0
    ((_, command, _),) = started
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[-2:] == ["--app-name", "basic-auth"]


def test_mlflow_and_ray_are_new_enough():
    assert tuple(map(int, version("mlflow").split(".")[:3])) >= (3, 17, 2)
    assert tuple(map(int, version("ray").split(".")[:2])) >= (2, 52)


def test_a_file_store_and_a_star_are_refused(tmp_path, monkeypatch, capsys):
    asked = ["mlflow", "serve", "--results", str(tmp_path)]
    assert main([*asked, "--allowed-hosts", "box,*.example"]) == 2
    assert main([*asked, "--host", "0.0.0.0", "--allowed-hosts", " , "]) == 2
    monkeypatch.setitem(os.environ, "MLFLOW_BACKEND_STORE_URI", "file:///tmp/runs")
    assert main(asked) == 2
    assert "never files" in capsys.readouterr().err


@pytest.mark.parametrize("uri", ["file:///nowhere/runs", "/nowhere/runs", "mysql://user:hunter2@nowhere/runs"])
def test_the_ui_too_refuses_what_is_no_server_and_no_database(tmp_path, monkeypatch, capsys, uri):
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("it was served"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["ui", "--results", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "MLFLOW_TRACKING_URI is" in line
    assert "has to be sqlite or postgresql" in line
    assert "hunter2" not in line
