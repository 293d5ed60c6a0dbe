"""The largest book that there can be: every name of five letters. 20 seconds and 2 GB."""

import numpy as np

from parrots.tasks.phonebook import LETTERS, N_NAMES, N_NUMBERS, NAME, NUMBER, PhoneBook


def test_the_whole_name_space_is_a_book_of_every_name_once_with_different_numbers():
    tokens_NS = PhoneBook(n_entries=N_NAMES, n_test=1).make("train").tokens_NS
    assert len(tokens_NS) == N_NAMES
    assert (np.bincount(tokens_NS[:, NAME] @ 26 ** np.arange(LETTERS)[::-1], minlength=N_NAMES) == 1).all()
    digits_N8 = tokens_NS[:, NUMBER] - np.uint16(26)
    assert np.bincount(digits_N8 @ 10 ** np.arange(8)[::-1], minlength=N_NUMBERS).max() == 1
