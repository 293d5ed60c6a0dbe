import numpy as np
import pytest

from parrots.tasks.two_step import TwoStep

TASK = TwoStep(n_vertices=9, n_train=2000, n_test=2000)


def neighbours(task: TwoStep) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, n) neighbours of s and of d, and (N,) the answer, read off the words."""
    words_NS = np.array(task.vocabulary)[task.make("test").tokens_NS]
    n = task.n_vertices
    of_s, of_d = (np.char.str_len(words_NS[:, first : first + n]) > 2 for first in (1, 1 + n))
    return of_s, of_d, words_NS[:, -1] == "yes"


def test_the_answer_is_whether_a_neighbour_is_shared():
    of_s, of_d, yes = neighbours(TASK)
    shared = (of_s & of_d).sum(1)
    assert set(shared) == {0, 1}
    assert np.array_equal(shared == 1, yes)


def test_both_answers_are_as_often_and_no_count_and_no_vertex_tells_them():
    of_s, of_d, yes = neighbours(TASK)
    assert abs(yes.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(yes))
    assert (of_s.sum(1) == 3).all()
    assert (of_d.sum(1) == 3).all()
    for rows in (yes, ~yes):
        for ends in (of_s, of_d):
            assert np.abs(ends[rows].mean(0) - 1 / 3).max() < 5 * np.sqrt(2 / 9 / rows.sum())


def test_a_word_stands_where_its_vertex_does():
    words = np.array(TASK.vocabulary)[TASK.make("test").tokens_NS[0]]
    assert words[0] == "<bos>"
    assert words[-2] == "<sep>"
    for i in range(9):
        assert words[1 + i] in (f"s-{i}", "s-")
        assert words[10 + i] in (f"d-{i}", "d-")


def test_more_neighbours_than_can_be_apart_are_refused():
    with pytest.raises(ValueError, match="degree=5: at most half of n_vertices=9"):
        TwoStep(n_vertices=9, degree=5, n_train=1)
