import math

import numpy as np
import pytest

from parrots.tasks.phonebook import BOS, EOS, N_NAMES, N_NUMBERS, NAME, NUMBER, SEP, PhoneBook
from parrots.tasks.task import Scores


def test_an_entry_has_the_papers_format_and_names_and_numbers_are_unique():
    book = PhoneBook(n_entries=5000, n_test=10).make("train")
    tokens = book.tokens_NS
    assert tokens.shape == (5000, 16)
    assert (tokens[:, 0] == BOS).all()
    assert (tokens[:, 6] == SEP).all()
    assert (tokens[:, -1] == EOS).all()
    assert tokens[:, NAME].max() < 26
    assert (tokens[:, NUMBER] >= 26).all()
    assert tokens[:, NUMBER].max() < 36
    for part in (NAME, NUMBER):
        assert len(np.unique(tokens[:, part], axis=0)) == 5000


def test_the_whole_name_space_can_be_a_book():
    PhoneBook(n_entries=N_NAMES)
    with pytest.raises(ValueError, match="n_entries"):
        PhoneBook(n_entries=N_NAMES + 1)


def test_the_test_asks_for_different_entries_of_the_training_book():
    task = PhoneBook(n_entries=500, n_test=200)
    book, asked = ({row.tobytes() for row in task.make(split).tokens_NS} for split in ("train", "test"))
    assert len(asked) == 200
    assert asked <= book


def test_a_book_is_a_function_of_what_is_declared():
    task = PhoneBook(n_entries=300, n_test=300)
    assert np.array_equal(task.make("train").tokens_NS, task.make("train").tokens_NS)
    other = PhoneBook(n_entries=300, n_test=300, data_seed=1)
    assert not np.array_equal(task.make("train").tokens_NS, other.make("train").tokens_NS)


def scores(task: PhoneBook, name_bits: float, number_bits: float, right: bool) -> Scores:
    """A model that spends these bits on each name and number."""
    n = task.n_test
    nll = np.zeros((n, 16), np.float32)
    nll[:, NAME] = name_bits * math.log(2) / 5
    nll[:, NUMBER] = number_bits * math.log(2) / 8
    return Scores(nll, np.full((n, 16), right))


def measured(task: PhoneBook, *args) -> dict:
    return {m.metric: m for m in task.measure(task.make("test"), scores(task, *args), step=1)}


def test_a_model_that_knows_only_the_format_holds_nothing():
    task = PhoneBook(n_entries=1000, n_test=1000)
    found = measured(task, math.log2(N_NAMES), math.log2(N_NUMBERS), False)
    assert found["memory_bits"].value == pytest.approx(0, abs=1)
    assert found["exact_match"].value == 0


def test_a_perfect_model_holds_the_numbers_and_the_set_of_names():
    """It spends log2 N on which name is next. The order of the book is not the book: 1.44 bits an entry short of all of it."""
    N = 1000
    found = measured(PhoneBook(n_entries=N, n_test=500), math.log2(N), 0.0, True)
    numbers = N * math.log2(N_NUMBERS)
    names = (math.lgamma(N_NAMES + 1) - math.lgamma(N + 1) - math.lgamma(N_NAMES - N + 1)) / math.log(2)
    assert numbers + names - found["memory_bits"].value == pytest.approx(N * math.log2(math.e), rel=0.01)
    assert found["exact_match"].value == 1


def test_worse_than_nothing_counts_as_nothing_and_takes_nothing_from_the_rest():
    task = PhoneBook(n_entries=1000, n_test=1000)
    found = measured(task, 40.0, math.log2(N_NUMBERS) - 5, False)
    assert found["memory_bits"].value == pytest.approx(5000, abs=1)
    assert found["name_bits"].value < 0


def test_exact_match_asks_for_the_whole_number_and_nothing_else():
    task = PhoneBook(n_entries=4, n_test=4)
    right = np.ones((4, 16), bool)
    right[0, NUMBER.stop - 1] = False  # a digit
    right[1, NAME.start] = False  # a letter: the prompt
    right[2, -1] = False  # <eos> ends the answer
    found = task.measure(task.make("test"), Scores(np.zeros((4, 16), np.float32), right), 1)[0]
    assert (found.metric, found.value, found.n) == ("exact_match", 0.5, 4)
