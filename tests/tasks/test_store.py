import os
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from parrots.tasks import task_from
from parrots.tasks.phonebook import PhoneBook
from parrots.tasks.store import load, order


def test_data_is_made_once_and_mapped_from_then_on(tmp_path, monkeypatch):
    task = PhoneBook(n_entries=100, n_test=10)
    made = load(task, "train", tmp_path)
    monkeypatch.setattr(PhoneBook, "make", lambda *_: 1 / 0)
    mapped = load(task, "train", tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(made, mapped, strict=True))
    assert not mapped.tokens_NS.flags.owndata
    assert sorted(name.partition(".")[2] for name in os.listdir(tmp_path)) == ["arrow", "arrow.sha256"]


def flip(path: Path, at: float) -> None:
    """One bit of a byte this far into the file."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 4
    path.write_bytes(data)


DAMAGES = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "without its end": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    **{f"a bit at {at}": partial(flip, at=at) for at in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)},
    "no digest": lambda path: Path(f"{path}.sha256").unlink(),
    "digest cut short": lambda path: os.truncate(f"{path}.sha256", 10),
    "digest of no text": lambda path: Path(f"{path}.sha256").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_are_said_to_be_in_a_line_and_made_again(tmp_path, capsys, damage):
    task = PhoneBook(n_entries=2000, n_test=10)
    made = task.make("train")
    load(task, "train", tmp_path)
    (path,) = tmp_path.glob("*.arrow")
    DAMAGES[damage](path)
    again = load(task, "train", tmp_path)
    assert capsys.readouterr().err == f"{path}: not as it was written; made again\n"
    assert all(np.array_equal(a, b) for a, b in zip(again, made, strict=True))
    load(task, "train", tmp_path)
    assert capsys.readouterr().err == ""
    assert len(os.listdir(tmp_path)) == 2


def test_the_digest_is_one_that_sha256sum_checks(tmp_path):
    load(PhoneBook(n_entries=100, n_test=10), "train", tmp_path)
    (digest,) = tmp_path.glob("*.sha256")
    assert subprocess.run(["sha256sum", "--check", "--strict", digest.name], cwd=tmp_path, capture_output=True).returncode == 0


def test_a_writer_that_is_interrupted_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    """The disk fills up before the data have their name."""
    task = PhoneBook(n_entries=100, n_test=10)
    with monkeypatch.context() as patch:
        patch.setattr(pa.RecordBatchFileWriter, "write_batch", full, raising=False)
        with pytest.raises(OSError, match="full"):
            load(task, "train", tmp_path)
    assert os.listdir(tmp_path) == []
    with monkeypatch.context() as patch:
        patch.setattr("parrots.atomic.os.replace", lambda a, b: full() if str(b).endswith(".arrow") else os.rename(a, b))
        with pytest.raises(OSError, match="full"):
            load(task, "train", tmp_path)
    assert not list(tmp_path.glob("*.arrow"))
    assert load(task, "train", tmp_path).n == 100


def full(*_):
    raise OSError("the disk is full")


WRONG = {
    "99 examples, not n_examples=100": lambda e: e.take(slice(99)),
    "examples of 17 tokens, beyond the context of seq_len=16": lambda e: e._replace(
        tokens_NS=np.pad(e.tokens_NS, ((0, 0), (0, 1)))
    ),
    "a token 39, which is not below vocab_size=39": lambda e: e._replace(tokens_NS=np.full_like(e.tokens_NS, 39)),
    "an answer ends at 17, beyond the 16 tokens that there are": lambda e: e._replace(length_N=e.length_N + 1),
    "without a prompt or without an answer": lambda e: e._replace(answer_N=e.length_N),
    "vectors of width 3, not input_dim=0": lambda e: e._replace(vectors_NSI=np.zeros((100, 15, 3), np.float32)),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_task_makes_wrongly_is_a_line_and_is_not_kept(tmp_path, monkeypatch, what):
    real = PhoneBook.make
    monkeypatch.setattr(PhoneBook, "make", lambda task, split: WRONG[what](real(task, split)))
    with pytest.raises(ValueError, match=f"phonebook, train: .*{what}") as said:
        load(PhoneBook(n_entries=100, n_test=10), "train", tmp_path)
    assert "\n" not in str(said.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("declared", "line"),
    [
        ({"kind": "phonebook", "n_entries": 26**5 + 1}, "n_entries=11881377: Input should be less than or equal to 11881376"),
        ({"kind": "shortest_path", "n_vertices": 65, "p": 0.1, "n_train": 1}, "n_vertices=65: Input should be less than"),
        ({"kind": "shortest_path", "n_vertices": 50, "labels": 65, "n_train": 1}, "labels=65: Input should be less than"),
        ({"kind": "shortest_path", "n_vertices": 50, "room": 300, "n_train": 1}, "room=300: its graphs need 6"),
        ({"kind": "length2_path", "n_vertices": 129, "n_train": 1}, "n_vertices=129: Input should be less than"),
        ({"kind": "cycle", "n_vertices": 66, "n_train": 1}, "n_vertices=66: Input should be less than"),
        ({"kind": "connectivity", "n_vertices": 66, "n_train": 1}, "n_vertices=66: Input should be less than"),
        ({"kind": "gaussian", "n_sequences": 0}, "n_sequences=0: Input should be greater than"),
    ],
)
def test_what_no_encoding_holds_is_one_line(declared, line):
    with pytest.raises(ValueError, match=line) as said:
        task_from(declared)
    assert "\n" not in str(said.value)


def test_other_data_or_another_version_is_another_file(tmp_path, monkeypatch):
    load(PhoneBook(n_entries=100, n_test=10), "train", tmp_path)
    load(PhoneBook(n_entries=100, n_test=10), "test", tmp_path)
    load(PhoneBook(n_entries=100, n_test=10, data_seed=1), "train", tmp_path)
    monkeypatch.setattr(PhoneBook, "version", 99)
    load(PhoneBook(n_entries=100, n_test=10), "train", tmp_path)
    assert len(list(tmp_path.glob("*.arrow"))) == 4


def test_an_epoch_meets_every_example_once_in_an_order_of_its_own():
    first, second = order(0, 0, 50), order(0, 1, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() == order(0, 0, 50).tolist()
    assert first.tolist() != order(1, 0, 50).tolist()
