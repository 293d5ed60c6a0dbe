"""A checkpoint's metadata are a pickle: what this installation did not sign, here, is never read."""

import json
import shutil
import stat
from dataclasses import replace

import pytest

from parrots import keys
from parrots.execution import run_trial
from parrots.placement import Placement
from parrots.training import checkpoint

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def signed(tmp_path):
    """A folder TRIAL/STEP of two files, with its marker."""
    at = tmp_path / "trial" / "20"
    at.mkdir(parents=True)
    for name in ("0.distcp", ".metadata"):
        (at / name).write_text(name)
    mark(at, KEY)
    return at


def mark(at, key):
    files = {path.name: checkpoint.digest(path) for path in at.iterdir() if path.name != checkpoint.MARKER}
    said = {"step": 20, "of": checkpoint.place_of(at), "files": files}
    (at / checkpoint.MARKER).write_text(json.dumps({**said, "hmac": checkpoint.signature(said, key)}))


def change(at, **to):
    said = json.loads((at / checkpoint.MARKER).read_text())
    (at / checkpoint.MARKER).write_text(json.dumps({**said, **to}))


def test_a_signed_checkpoint_holds_under_its_key_alone(signed):
    assert checkpoint.is_whole(signed, KEY)
    assert not checkpoint.is_whole(signed, OTHER)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda at: (at / ".metadata").write_text("a hostile pickle"),
        lambda at: (at / "9.distcp").write_text("one file more"),
        lambda at: (at / "0.distcp").unlink(),
        lambda at: change(at, step=40),
        lambda at: change(at, files={}),
        lambda at: change(at, hmac=None),
        lambda at: mark(at, OTHER),
        lambda at: (at / checkpoint.MARKER).write_text("[]"),
    ],
)
def test_whatever_is_changed_breaks_the_signature(signed, tamper):
    tamper(signed)
    assert not checkpoint.is_whole(signed, KEY)


def test_a_checkpoint_of_one_trial_is_none_of_another(signed):
    elsewhere = signed.parent.parent / "another" / "20"
    shutil.copytree(signed, elsewhere)
    assert not checkpoint.is_whole(elsewhere, KEY)


def test_a_hostile_checkpoint_is_passed_over_and_never_unpickled(make_trial, tmp_path):
    trial, done = make_trial(), tmp_path / "executed"
    at = tmp_path / "checkpoints" / trial.id / "10"
    at.mkdir(parents=True)
    (at / ".metadata").write_bytes(b"cos\nsystem\n(S'touch " + str(done).encode() + b"'\ntR.")
    mark(at, OTHER)
    place = Placement(tmp_path / "data", checkpoints=tmp_path / "checkpoints")
    assert run_trial(trial, place).status == "done"
    assert not done.exists()
    assert run_trial(trial, replace(place, checkpoints=None)).status == "done"


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTS_KEYS", str(tmp_path / "keys"))
    first = keys.secret("checkpoint")
    assert (keys.secret("checkpoint"), len(keys.checkpoint_key())) == (first, 32)
    assert stat.S_IMODE((tmp_path / "keys/checkpoint").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["checkpoint"]
    assert first not in repr([first])
    (tmp_path / "keys/checkpoint").chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        keys.checkpoint_key()
