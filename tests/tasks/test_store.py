import os

import numpy as np

from parrots.tasks.phonebook import PhoneBook
from parrots.tasks.store import load, order


def test_data_is_made_once_and_mapped_from_then_on(tmp_path, monkeypatch):
    task = PhoneBook(n_entries=100, n_test=10)
    made = load(task, "train", tmp_path)
    monkeypatch.setattr(PhoneBook, "make", lambda *_: 1 / 0)
    mapped = load(task, "train", tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(made, mapped, strict=True))
    assert not mapped.tokens_NS.flags.owndata
    assert len(os.listdir(tmp_path)) == 1


def test_other_data_or_another_version_is_another_file(tmp_path, monkeypatch):
    load(PhoneBook(n_entries=100, n_test=10), "train", tmp_path)
    load(PhoneBook(n_entries=100, n_test=10), "test", tmp_path)
    load(PhoneBook(n_entries=100, n_test=10, data_seed=1), "train", tmp_path)
    monkeypatch.setattr(PhoneBook, "version", 99)
    load(PhoneBook(n_entries=100, n_test=10), "train", tmp_path)
    assert len(os.listdir(tmp_path)) == 4


def test_an_epoch_meets_every_example_once_in_an_order_of_its_own():
    first, second = order(0, 0, 50), order(0, 1, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() == order(0, 0, 50).tolist()
    assert first.tolist() != order(1, 0, 50).tolist()
