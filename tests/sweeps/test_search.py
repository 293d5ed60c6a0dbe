"""A capacity is enclosed from both sides, in a few trials, from the records alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrots.record import path_of
from parrots.spec import Cell
from sweeps.search import Capacity, reached_in
from sweeps.spec import Sweep

from ..conftest import make
from ..test_record import record

ARM = make()
SEARCH = Capacity(arms=(ARM,), low=50, high=2000, exposures=100)


def search(found, capacity: Capacity = SEARCH) -> tuple[list[int], float]:
    """The sizes that a search tries where `found(size)` tells whether the target is reached, and what it settles on."""
    tried: dict[str, bool] = {}
    sizes = []
    while (trial := capacity.walk(capacity.arms[0], lambda trial: tried.get(trial.id)).next) is not None:
        sizes.append(trial.task.n_entries)
        tried[trial.id] = found(trial.task.n_entries)
    return sizes, max((size for size in sizes if found(size)), default=math.nan)


@given(st.floats(50, 1999))
def test_the_largest_book_known_is_found_to_five_percent_in_few_trials(capacity):
    sizes, found = search(lambda size: size <= capacity)
    assert found <= capacity < found * 1.05 + 1
    assert len(sizes) <= SEARCH.at_most
    assert len(sizes) < SEARCH.grid / 2
    assert len(set(sizes)) == len(sizes)


@given(st.floats(50, 1999), st.integers(0, 2**31))
def test_where_it_is_not_monotone_the_largest_success_stands_and_a_failure_just_above_it_encloses_it(capacity, seed):
    """Every tenth size or so falls on the other side of the target."""

    def noisy(size: int) -> bool:
        return (size <= capacity) != (hash((size, seed)) % 10 == 0)

    sizes, found = search(noisy)
    if not math.isnan(found):
        above = [size for size in sizes if size > found]
        assert found == SEARCH.high or min(above) <= found * 1.05 + 1
    assert len(sizes) <= 2 * SEARCH.at_most + 2


@pytest.mark.parametrize(("always", "ends"), [(True, 2000), (False, 50)])
def test_a_capacity_beyond_the_range_ends_at_its_end(always, ends):
    sizes, _ = search(lambda size: always)
    assert sizes[-1] == ends
    assert len(sizes) <= SEARCH.at_most


def test_listed_sizes_are_tried_first_and_narrow_the_search():
    listed = SEARCH.model_copy(update={"listed": (100, 200, 400, 800)})
    sizes, found = search(lambda size: size <= 300, listed)
    assert sizes[:4] == [100, 200, 400, 800]
    assert all(200 < size < 400 for size in sizes[4:])
    assert len(sizes) <= 4 + listed.at_most
    assert 285 < found <= 300


def test_every_size_is_met_equally_often():
    for size in (50, 333, 2000):
        trial = SEARCH.trial(ARM, size)
        assert trial.training.steps * trial.training.batch_size == pytest.approx(100 * size, rel=0.01)
        assert trial.task.n_test == min(size, 1000)


def test_the_records_alone_say_where_a_search_stands(tmp_path):
    """Two calls with the same records ask for the same trial; a new record moves it on; a failed one does not."""
    sweep = Sweep(search=SEARCH)
    (first,) = sweep.asked(tmp_path)
    assert sweep.asked(tmp_path) == (first,)
    record(first.trial, status="failed").write(tmp_path)
    assert sweep.asked(tmp_path) == (first,)
    record(first.trial).write(tmp_path)
    assert path_of(first.trial.id, tmp_path).exists()
    same, second = sweep.asked(tmp_path)
    assert same == first == Cell(trial=first.trial)
    assert second != first
    assert reached_in(tmp_path, SEARCH)(second.trial) is None


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match="high=10: above low=50"):
        Capacity(arms=(ARM,), low=50, high=10, exposures=1)
    from ..conftest import PATH

    with pytest.raises(ValueError, match="length2_path has no size to search"):
        Capacity(arms=(make(task=PATH),), low=50, high=100, exposures=1)
