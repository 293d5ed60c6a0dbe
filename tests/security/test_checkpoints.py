"""A checkpoint's metadata are a pickle: what this installation did not sign, here, is never read."""

import json
import shutil
import stat
from dataclasses import replace

import pytest
import torch

from parrots import keys
from parrots.execution import run_trial
from parrots.placement import Placement
from parrots.training import checkpoint
from parrots.training.checkpoint import State

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


def link(path, folder):
    """Move it to a folder, and leave a link to it."""
    path.symlink_to(path.rename(folder / "elsewhere"))


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
        lambda at: link(at / ".metadata", at.parent.parent),
        lambda at: link(at / checkpoint.MARKER, at.parent.parent),
        lambda at: link(at, at.parent.parent),
        lambda at: link(at.parent, at.parent.parent),
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


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of ours, as `newest` found it, its placement, and a pickle that leaves a file, with the file's path."""
    place, folder, done = Placement(tmp_path), tmp_path / "checkpoints" / "trial", tmp_path / "executed"
    checkpoint.save(folder, State(20, 20, 1.0, {}), {"x": torch.ones(3)}, place)
    return checkpoint.newest(folder, place), place, b"cos\nsystem\n(S'touch " + str(done).encode() + b"'\ntR.", done


@pytest.mark.parametrize("name", [".metadata", checkpoint.CURVES, checkpoint.MARKER])
def test_what_changes_after_it_was_looked_at_is_refused_and_not_executed(saved, name):
    at, place, hostile, done = saved
    (at / name).write_bytes(hostile)
    with pytest.raises(ValueError, match="is not what this machine's key signed"):
        checkpoint.load(at, {"x": torch.zeros(3)}, place)
    assert not done.exists()


@pytest.mark.parametrize("name", [".metadata", "__0.metadata"])
def test_what_is_unpickled_are_the_bytes_that_were_compared(saved, name, monkeypatch):
    """Whatever lies there by the time that torch would read it."""
    at, place, hostile, done = saved
    real = checkpoint.dcp.load

    def late(*args, **kwargs):
        (at / name).write_bytes(hostile)
        real(*args, **kwargs)

    monkeypatch.setattr(checkpoint.dcp, "load", late)
    x = torch.zeros(3)
    assert checkpoint.load(at, {"x": x}, place).step == 20
    assert x.tolist() == [1, 1, 1]
    assert not done.exists()


def test_a_shard_that_changes_after_it_was_looked_at_executes_nothing(saved):
    at, place, hostile, done = saved
    (shard,) = at.glob("*.distcp")
    shard.write_bytes(hostile.ljust(shard.stat().st_size, b"\0"))
    with pytest.raises(ValueError, match="does not fit this model"):
        checkpoint.load(at, {"x": torch.zeros(3)}, place)
    assert not done.exists()


def test_a_shard_that_is_a_link_by_then_is_refused(saved, tmp_path):
    at, place, *_ = saved
    (shard,) = at.glob("*.distcp")
    link(shard, tmp_path)
    with pytest.raises(ValueError, match="does not fit this model"):
        checkpoint.load(at, {"x": torch.zeros(3)}, place)


def test_a_checkpoint_of_more_than_tensors_is_refused(tmp_path):
    """Since torch would unpickle the rest of a shard."""
    place, folder = Placement(tmp_path), tmp_path / "trial"
    checkpoint.save(folder, State(20, 20, 1.0, {}), {"x": "text"}, place)
    with pytest.raises(ValueError, match="x is no tensor"):
        checkpoint.load(checkpoint.newest(folder, place), {"x": ""}, place)


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


@pytest.mark.parametrize("content", [b"", b"\n", b"zz" * 32, b"ab" * 31, b"\xff" * 64])
def test_a_key_that_is_not_as_we_make_them_is_refused_with_its_file(tmp_path, monkeypatch, content):
    monkeypatch.setenv("PARROTS_KEYS", str(tmp_path))
    (tmp_path / "checkpoint").write_bytes(content)
    (tmp_path / "checkpoint").chmod(0o600)
    with pytest.raises(OSError, match=r"64 hexadecimal digits; copy it anew or delete it: .*checkpoint'"):
        keys.checkpoint_key()


@pytest.mark.parametrize("spoil", [lambda key: key.chmod(0o644), lambda key: key.write_text("")])
def test_a_bad_key_is_an_error_and_not_the_absence_of_checkpoints(tmp_path, monkeypatch, spoil):
    monkeypatch.setenv("PARROTS_KEYS", str(tmp_path / "keys"))
    place, folder = Placement(tmp_path), tmp_path / "trial"
    checkpoint.save(folder, State(20, 20, 1.0, {}), {"x": torch.ones(3)}, place)
    spoil(tmp_path / "keys" / "checkpoint")
    with pytest.raises(OSError, match="keys/checkpoint"):
        checkpoint.newest(folder, place)


def test_workers_that_do_not_all_have_its_key_end_together(saved, monkeypatch):
    """And not one by itself, for which the others would wait."""
    at, place, *_ = saved

    def alone(found, _):
        assert found.dtype is torch.int64, "truths add up to one, however many they are"
        return found

    monkeypatch.setattr(checkpoint, "sum_over_workers", alone)  # the other one has nothing to add
    with pytest.raises(ValueError, match="by the key of 1 of 2 workers; give all machines that share it one key"):
        checkpoint.newest(at.parent, replace(place, world=2))
    assert checkpoint.newest(at.parent, place) == at
