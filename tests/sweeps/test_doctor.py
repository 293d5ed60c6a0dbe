"""What `parrots doctor` finds wrong, and that it says what to do."""

import socket
from pathlib import Path

import pytest
import torch

from parrots import keys
from sweeps import doctor
from sweeps.cli import main


def failing(found):
    return [(one.what, one.remedy) for one in found if one.state == "fails"]


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


def test_a_file_system_of_another_time_fails(monkeypatch, tmp_path):
    real = doctor.time.time
    monkeypatch.setattr(doctor.time, "time", lambda: real() + 60)
    assert "-60 s from this one" in doctor.writes(tmp_path, "results").found


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


def test_ray_with_tokens_and_without_a_token_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    assert [what for what, _ in failing(doctor.secrets())] == ["Ray's token"]


def test_a_port_that_is_taken_is_a_note(monkeypatch):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "somebody"})
        assert next((one.what, one.state) for one in doctor.ports()) == (f"port {port}", "note")


SAID = {"python": doctor.platform.python_version().rpartition(".")[0], "torch": torch.__version__, "wrong": "", "at": "/r"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"torch": "2.0.0"}, "torch 2.0.0, here"),
        ({"wrong": "Permission denied"}, "cannot write to /r (Permission denied)"),
        ({"time": 160.0}, "its clock is +60 s"),
    ],
)
def test_a_node_that_differs_is_named(change, word):
    said = {**SAID, "time": 100.0, **change}
    wrong = [one for one in doctor._judged("node b", said, 100.0, 0.1) if one.state == "fails"]
    assert len(wrong) == 1
    assert word in wrong[0].found
