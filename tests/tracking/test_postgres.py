"""MLflow for a team: Debian's PostgreSQL behind `parrots mlflow serve`, and sixteen writers at once."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf, nan
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from parrots import keys
from parrots.measurement import Measurement
from sweeps import tracked
from sweeps.tracking import Store

from ..conftest import make
from ..test_record import record

BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
pytestmark = pytest.mark.skipif(BIN is None, reason="no PostgreSQL here (Debian: postgresql)")
WRITERS, POINTS = 16, 100


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def database():
    """The address of an empty database of a PostgreSQL that is this test's own; it refuses to run as root."""
    user = "postgres" if os.getuid() == 0 else ""
    as_user = ["runuser", "-u", user, "--"] if user else []
    folder, port = Path(tempfile.mkdtemp(prefix="parrots-postgres-")), free_port()
    (folder / "password").write_text("of-a-test\n")
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    data = folder / "data"
    common = {"check": True, "capture_output": True, "cwd": folder, "timeout": 120}
    initdb = [BIN / "initdb", "-D", data, "-U", "mlflow", "--auth", "scram-sha-256", "--pwfile", folder / "password"]
    subprocess.run([*as_user, *initdb, "--no-sync"], **common)
    listening = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    start = [BIN / "pg_ctl", "-D", data, "-w", "-t", "100", "-l", folder / "log", "-o", listening, "start"]
    subprocess.run([*as_user, *start], **common | {"capture_output": False, "stdout": subprocess.DEVNULL})
    try:
        env = os.environ | {"PGPASSWORD": "of-a-test"}
        subprocess.run([BIN / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"], env=env, **common)
        yield f"postgresql+psycopg2://mlflow:of-a-test@127.0.0.1:{port}/mlflow"
    finally:
        subprocess.run([*as_user, BIN / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **common)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(database, tmp_path, monkeypatch):
    """`parrots mlflow serve` over that database; clients find it and the password where it says."""
    port = free_port()
    command = [sys.executable, "-m", "sweeps.cli", "mlflow", "serve", "--port", str(port), "--results", str(tmp_path / "team")]
    command += ["--workers", "1"]
    with (tmp_path / "log").open("w") as log:
        env = os.environ | {"MLFLOW_BACKEND_STORE_URI": database}
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.3)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", str(keys.secret("mlflow-password")))
        yield tmp_path / "log"
    finally:
        process.terminate()
        process.wait(30)


def test_sixteen_writers_at_once_lose_nothing_and_double_nothing(server, tmp_path, capfd):
    trials = [make(seed=seed) for seed in range(WRITERS)]
    for trial in trials:
        curve = [Measurement("loss", step, trial.seed + 1 / step, 0.1, 5) for step in range(1, POINTS + 1)]
        record(trial, measurements=curve).write(tmp_path)

    def write(writer: int) -> None:
        store = Store(tmp_path)
        for _ in range(2):  # the second time adds nothing
            store.mirror(trials[writer].id, f"sweep{writer}")

    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(write, range(WRITERS)))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([client.get_experiment_by_name("parrots/phonebook").experiment_id], max_results=1000)
    assert sorted(int(run.data.params["seed"]) for run in runs) == list(range(len(trials)))
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        seed = int(run.data.params["seed"])
        points = sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, "loss"))
        assert points == [(step, seed + 1 / step) for step in range(1, POINTS + 1)]
    assert "of-a-test" not in server.read_text()
    assert not capfd.readouterr().out, "MLflow would print addresses, with the password of one that has it"


def test_what_a_server_finds_is_what_mlflows_client_makes_of_it(server, tmp_path, monkeypatch):
    """In the same order, page by page; of a run that is not over, of one without anything, of losses that are no numbers."""
    store, odd = Store(tmp_path), make(seed=100)
    record(odd, measurements=[Measurement("loss", step, nan, 0.1, 5) for step in (1, 2)]).write(tmp_path)
    store.mirror(odd.id, "odd")
    experiment = store.experiment("parrots/phonebook")
    store.client.create_run(experiment, tags={"said": "{\"it\": 'café'}", "empty": ""})
    store.client.log_metric(store.client.create_run(experiment).info.run_id, "loss", -inf, 7, 3)
    monkeypatch.setattr(tracked, "PAGE", 2)
    for filter_string, order_by in (("", ["metrics.loss ASC"]), ("tags.`sweep.odd` = 'yes'", []), ("tags.none = 'x'", [])):
        theirs = store.client.search_runs([experiment], filter_string, order_by=order_by)
        ours = list(tracked.runs(store.client, experiment, filter_string, order_by))
        assert [said(run) for run in ours] == [said(run) for run in theirs]
    assert ours == []
    with pytest.raises(MlflowException, match="INVALID_PARAMETER_VALUE"):
        next(tracked.runs(store.client, experiment, "no filter"))


def said(run) -> str:
    """All that an MLflow run says but for models, so that what is no number is like itself."""
    return json.dumps(run.to_dictionary() | {"outputs": None}, default=vars, sort_keys=True)
