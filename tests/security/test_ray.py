"""Ray over the wire: who has no token is refused."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sweeps import token

from ..chaos.conftest import Here
from .network import another_address, family, listening

STARTS = """
import ray, time
found = ray.init(address="local", num_cpus=1, include_dashboard=True, dashboard_port={port}, object_store_memory=80 * 2**20)
print("up", flush=True)
time.sleep(600)
"""

OWN = """
from sweeps.run import start
import os, ray, time
start(1)
ray.get(ray.remote(lambda: None).remote())
print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], flush=True)
time.sleep(600)
"""
ASKS = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=60)
except AuthenticationError:
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = tmp_path_factory.mktemp("home") / "token"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_AUTH_TOKEN", raising=False)  # a Ray that was used in this process leaves its own
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(where))
        secret, environment = token.ensure().read_text(), dict(os.environ)
    command = [sys.executable, "-c", STARTS.format(port=port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout.readline() == "up\n"
        yield f"http://127.0.0.1:{port}", secret
    finally:
        process.terminate()
        process.wait(60)


def status(url: str, secret: str = "") -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    end = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:  # the dashboard comes up after Ray
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


@pytest.mark.parametrize("path", ["/api/jobs/", "/nodes?view=summary"])
def test_who_has_no_token_or_another_is_refused(address, path):
    at, secret = address
    assert status(at + path) in (401, 403)
    assert status(at + path, "0" * 64) in (401, 403)
    assert status(at + path, secret) == 200


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The Ray that a run starts for itself, with a worker: its head's address, its token, its driver, an environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    clean |= {"RAY_AUTH_TOKEN_PATH": str(tmp_path_factory.mktemp("own") / "token")}
    command = [sys.executable, "-c", OWN]
    process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        at, secret = process.stdout.readline().split()
        yield at, secret, process.pid, clean
    finally:
        process.terminate()
        process.wait(60)


def test_the_ray_that_a_run_starts_obeys_those_alone_who_have_its_token(own):
    """Whoever it obeys runs what they like. The token is in no file, neither ours nor Ray's."""
    at, secret, _, clean = own
    assert not list(Path(clean["RAY_AUTH_TOKEN_PATH"]).parent.iterdir())
    given = ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_TOKEN": secret})
    codes = [
        subprocess.run([sys.executable, "-c", ASKS, at], env=clean | {"RAY_AUTH_MODE": "token"} | one, capture_output=True)
        for one in given
    ]
    assert [done.returncode for done in codes] == [3, 3, 0], codes


@pytest.mark.skipif(sys.platform != "linux", reason="sockets and their processes are read from Linux' /proc")
def test_the_ray_that_a_run_starts_is_not_to_be_reached_from_the_network(own):
    """Neither its head nor its node, its agents, its workers, its driver: at least one socket of each of five."""
    at, _, driver, _ = own
    found = listening(family(driver))
    assert len(found) >= 5
    assert all(address.is_loopback for address, _ in found), found
    port = int(at.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((another_address(), port), timeout=10)


@pytest.mark.skipif(sys.platform != "linux", reason="sockets and their processes are read from Linux' /proc")
def test_workers_that_train_together_are_not_to_be_reached_from_the_network(tmp_path):
    """They have no password among themselves: neither the store in which they meet nor their pairs, at any time of a run."""
    here, found = Here(tmp_path), set()
    driver = here.start("--scale", "together", "--max-trials", "1")
    trained = 0
    while driver.poll() is None:
        found |= listening(family(driver.pid))
        trained += bool(here.begun())
        time.sleep(0.2)
    code, said = here.finish(driver)
    assert code == 0, said
    assert trained
    assert all(address.is_loopback for address, _ in found), found
