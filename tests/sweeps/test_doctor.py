"""What `parrots doctor` finds wrong, and that it says what to do."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from parrots import keys
from parrots.provenance import cores
from parrots.store import Store
from sweeps import doctor, doctor_nodes, guard
from sweeps.cli import main


def failing(found):
    return [(one.what, one.remedy) for one in found if one.state == "fails"]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No cluster that whoever tests has named."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_machine_that_runs_the_tests_would_run_a_sweep(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # Ray sets it for its process
    assert main(["doctor", "--results", str(tmp_path / "results")]) == 0
    said = capsys.readouterr().out
    assert f"torch: {torch.__version__}" in said
    assert "nothing stops a run" in said
    assert not (tmp_path / "results").exists()


def test_a_package_that_does_not_fit_is_named_with_its_command(monkeypatch):
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: {"ray": "2.40.0", "scipy": None}.get(name, real(name)))
    wrong = dict(failing(doctor.packages()))
    assert wrong == {"ray": "pip install 'ray==2.60.0'", "scipy": "pip install 'scipy>=1.17'"}


def test_a_driver_without_a_torch_for_it_fails(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert [what for what, _ in failing(doctor.devices())] == ["GPU"]


def test_a_results_folder_that_cannot_be_written_fails():
    assert failing(doctor.storage(Path("/proc/results")))[0][0] == "results"


@pytest.mark.parametrize("name", ["records", "tune", "reports"])
@pytest.mark.parametrize("spoil", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_whatever_stands_where_a_run_makes_a_folder_fails_here_as_it_stops_a_run(tmp_path, capsys, name, spoil):
    spoil(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    assert main(["doctor", "--results", str(tmp_path)]) == 1
    assert f"FAILS  results: cannot write to {tmp_path / name} (" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before
    assert main(["run", "quickstart", "--scale", "smoke", "--results", str(tmp_path)]) == 2
    assert f"cannot write to {tmp_path / name} (" in capsys.readouterr().err
    assert doctor_nodes._look(tmp_path, "", None)["wrong"].startswith(f"cannot write to {tmp_path / name} (")


def test_a_file_system_of_another_time_fails(monkeypatch, tmp_path):
    real = doctor.time.time
    monkeypatch.setattr(doctor.time, "time", lambda: real() + 60)
    assert "-60 s from this one" in doctor.clock(tmp_path).found


def test_a_full_disk_fails_and_a_short_one_is_a_note(monkeypatch, tmp_path):
    for free, state in ((2**28, "fails"), (5 * 2**30, "note"), (2**40, "ok")):
        usage = doctor.shutil._ntuple_diskusage(2**41, 2**41 - free, free)
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert doctor.room(tmp_path, "results").state == state


def test_a_secret_that_others_may_read_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("PARROTS_KEYS", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token := tmp_path / "ray" / "token"))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    keys.secret("checkpoint")
    token.parent.mkdir()
    token.touch(0o644)
    assert not failing(doctor.secrets())
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert failing(doctor.secrets())
    token.chmod(0o600)
    assert not failing(doctor.secrets())
    (tmp_path / "checkpoint").chmod(0o644)
    ((_, remedy),) = failing(doctor.secrets())
    assert remedy.startswith(f"chmod 600 {tmp_path / 'checkpoint'}")


def test_a_secret_that_is_empty_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("PARROTS_KEYS", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray" / "token"))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for name in ("checkpoint", "mlflow.ini"):
        (tmp_path / name).touch(0o600)
    (failed,) = (one for one in doctor.secrets() if one.state == "fails")
    assert failed.found.startswith(f"{tmp_path / 'checkpoint'}: no secret of ours")


def test_a_ray_that_wants_tokens_fails_without_one_unless_it_is_a_runs_own(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert not failing(doctor.secrets())
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert [what for what, _ in failing(doctor.secrets())] == ["Ray's token"]
    (tmp_path / "token").touch(0o600)
    assert [what for what, _ in failing(doctor.secrets())] == ["Ray's token"]
    (tmp_path / "token").write_text("0" * 64)
    assert not failing(doctor.secrets())


def test_what_cannot_be_looked_at_fails_by_itself(monkeypatch, tmp_path):
    """A torch that is installed and cannot be imported."""
    monkeypatch.setitem(sys.modules, "torch", None)
    found = list(doctor.checks(tmp_path))
    assert dict(failing(found)).keys() == {"devices", "backends"}
    assert found[-1].what == "open files"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://u:hunter2@127.0.0.1:{}", "127.0.0.1"),
        ("mysql://u:hunter2@127.0.0.1/x", "MySQLdb"),
        ("postgresql://u:hunter2#/?@127.0.0.1:{}/x", "refused"),
        ("http://[u:hunter2@127.0.0.1:{}", "no address"),
        ("nonsense://x", "nonsense"),
    ],
)
def test_an_mlflow_that_does_not_answer_is_a_note_without_its_password(monkeypatch, address, why):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(closed.getsockname()[1]))
        before = dict(os.environ)
        (note,) = doctor.mirrored()
    assert dict(os.environ) == before
    assert note.state == "note"
    assert why in note.found
    assert "hunter2" not in note.found


def test_a_database_that_is_not_there_is_not_made(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    assert not list(doctor.mirrored())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_is_heard_where_somebody_listens(host):
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    try:
        server = socket.create_server((host.strip("[]"), 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        port = server.getsockname()[1]
        assert guard.unheard(f"{host}:{port}") == ""
    assert guard.unheard(f"{host}:{port}") == "Connection refused"
    assert guard.unheard("auto") == guard.unheard(f"ray://{host}:1") == ""


def test_a_port_that_is_taken_is_a_note(monkeypatch):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "somebody"})
        assert next((one.what, one.state) for one in doctor.ports()) == (f"port {port}", "note")


SAID = {"python": doctor.platform.python_version().rpartition(".")[0], "torch": torch.__version__, "wrong": "", "at": "/r"}
SAID |= {"gpus": ["H200"] * 8, "shared": True, "closed": "", "free": 2**40, "signs_as": doctor_nodes.signs_as()}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"torch": "2.0.0"}, "torch 2.0.0, here"),
        ({"wrong": "cannot write to /r (Permission denied)"}, "cannot write to /r (Permission denied)"),
        ({"shared": False}, "/r is another folder there than here"),
        ({"closed": "store s3://b/r: AWS Error ACCESS_DENIED"}, "ACCESS_DENIED"),
        ({"signs_as": "0badcafe"}, "signs checkpoints with another key (0badcafe, here "),
        ({"free": 2**20}, "0.0 GiB free for Ray's files"),
        ({"time": 160.0}, "its clock is +60 s"),
    ],
)
def test_a_node_that_differs_is_named(change, word):
    said = {**SAID, "time": 100.0, **change}
    wrong = [one for one in doctor_nodes._judged("node b", said, 100.0, 0.1) if one.state == "fails"]
    assert len(wrong) == 1
    assert word in wrong[0].found


def test_machines_with_one_key_say_the_same_and_not_the_key(monkeypatch, tmp_path):
    said = []
    for folder in ("a", "a", "b"):
        monkeypatch.setenv("PARROTS_KEYS", str(tmp_path / folder))
        said.append(doctor_nodes.signs_as())
        assert said[-1] not in (tmp_path / folder / "checkpoint").read_text()
    assert said[0] == said[1] != said[2]
    (tmp_path / "b" / "checkpoint").chmod(0o644)
    assert "others may read this secret" in doctor_nodes.signs_as()


def test_what_a_node_has_is_told():
    (one,) = doctor_nodes._judged("node b", {**SAID, "time": 100.0}, 100.0, 0.1)
    assert (one.state, "8 x H200" in one.found) == ("ok", True)


def test_somebody_elses_package_of_our_name_fails(monkeypatch):
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: "1.0" if name == "parrots" else real(name))
    ((what, remedy),) = failing(doctor.packages())
    assert what == "package parrots"
    assert remedy.startswith("pip uninstall parrots")


def test_every_backend_is_told_of_with_why_it_is_not_there(monkeypatch):
    from parrots.models.moe import BACKENDS

    found = list(doctor.backends())
    told = " ".join(f"{one.what} {one.found}" for one in found)
    assert all(name in told for name in BACKENDS)
    assert next(one.found for one in found if one.what == "backend megablocks").startswith("megablocks is not installed")
    monkeypatch.delattr("torch.nn.functional.grouped_mm")
    assert [what for what, _ in failing(doctor.backends())] == ["backend grouped"]


def test_gpus_that_cannot_talk_to_one_another_fail(monkeypatch):
    about = type("About", (), {"name": "T4", "total_memory": 16 * 2**30, "major": 7, "minor": 5})()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: about)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    found = list(doctor.devices())
    assert [one.state for one in found] == ["fails", "note", "note"]
    assert found[1].remedy == "bfloat16 wants 8.0; take float32"
    assert "T4, 16 GiB, compute capability 7.5: float32" in found[1].found


def test_a_run_that_would_fail_is_exit_code_1_with_its_remedy(capsys):
    assert main(["doctor", "--results", "/proc/results"]) == 1
    said = capsys.readouterr().out
    assert "FAILS  results: cannot write to /proc" in said
    assert "name another folder with --results" in said
    assert "would stop a run" in said


def test_a_store_is_looked_at_where_there_is_one(s3, credentials, tmp_path):
    found = [one for one in doctor.checks(tmp_path, s3.uri("doctor")) if one.what == "store"]
    assert [one.state for one in found] == ["ok"]
    ((_, remedy),) = failing([doctor.usable(Store(s3.uri("doctor", bucket="none-such"), tmp_path))])
    assert remedy.startswith("the address, the bucket")
    assert s3.keys("doctor") == []


def test_a_ray_that_is_not_there_fails_in_a_line_at_once(tmp_path):
    (one,) = doctor_nodes.nodes("127.0.0.1:1", tmp_path)
    assert (one.state, one.found) == ("fails", "not reached at 127.0.0.1:1 (Connection refused)")
    assert one.remedy.startswith("`ray up`")


def test_the_cluster_that_a_run_would_join_is_asked(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(["doctor", "--results", str(tmp_path)]) == 1
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILS")]
    assert said.startswith("FAILS  Ray: not reached at 127.0.0.1:1 (Connection refused); ")
    assert said.endswith("without RAY_ADDRESS a run starts a Ray of its own")


def test_cores_and_memory_are_told_and_little_memory_is_noted(monkeypatch):
    found = {one.what: one for one in doctor.limits()}
    assert found["cores"].found == f"{cores()} for this process"
    assert "GiB free" in found["memory"].found
    monkeypatch.setattr(doctor, "available", lambda: doctor.GIB)
    (memory,) = [one for one in doctor.limits() if one.what == "memory"]
    assert (memory.found, memory.state, memory.remedy) == ("1.0 GiB free", "note", "run with fewer --slots")
