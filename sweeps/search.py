"""The size of book that a model just about remembers, found by bisection: `search: capacity`.

For each arm (a model, a learning rate, a seed) sizes lie on a log scale between `low` and `high`. The next one is the
geometric middle of the largest size known to reach the target and the smallest larger one known to miss it, until these
are within `precision`: log2(ln(high / low) / ln(precision)) + 1 trials, of a grid's ln(high / low) / ln(precision).

Noise: success is taken to fall with size. Where a size was reached although a smaller one was missed, the larger one
stands, as in the paper's "largest size with at least 90 %"; the report counts the misses below it.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from parrots.frozen import Frozen
from parrots.record import path_of, read
from parrots.spec import Trial
from parrots.tasks.phonebook import N_NAMES, PhoneBook

Reached = Callable[[Trial], bool | None]
"""Whether a trial reached the target; None while it has no record."""


class Walk(NamedTuple):
    """How far the search on one arm has come."""

    asked: list[Trial]
    """Trials that it has looked at, in order; their records are there."""
    next: Trial | None
    """The one that it needs now; None when it has ended."""


class Capacity(Frozen):
    """Where `metric` falls below `target` as the book grows, for each arm."""

    kind: Literal["capacity"] = "capacity"
    arms: Annotated[tuple[Trial, ...], Field(min_length=1)]
    """The phone-book trials whose sizes are sought; what they say of size and steps is a stand-in."""
    low: Annotated[int, Field(ge=1)]
    high: Annotated[int, Field(le=N_NAMES)]
    exposures: Annotated[float, Field(gt=0)]
    """Times that an entry is a training example, at every size."""
    metric: Literal["exact_match"] = "exact_match"
    target: Annotated[float, Field(gt=0, lt=1)] = 0.9
    precision: Annotated[float, Field(gt=1)] = 1.05
    """Ratio of neighbouring sizes at which the search ends."""
    listed: tuple[int, ...] = ()
    """Sizes that every arm tries first, as a grid; the search goes on from where they enclose the answer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"high={self.high}: above low={self.low}")
        for arm in self.arms:
            if not isinstance(arm.task, PhoneBook):
                raise ValueError(f"arms: {arm.task.kind} has no size to search; a capacity is that of a phone-book")
        return self

    @property
    def at_most(self) -> int:
        """Trials that an arm can take beyond the listed sizes."""
        marks = sorted({self.low, self.high, *self.listed})
        widest = max(above / below for below, above in pairwise(marks))
        return math.ceil(math.log2(max(math.log(widest) / math.log(self.precision), 1))) + 1

    @property
    def grid(self) -> int:
        """Sizes that a grid of the same precision has."""
        return math.ceil(math.log(self.high / self.low) / math.log(self.precision)) + 1

    def trial(self, arm: Trial, size: int) -> Trial:
        """The arm with a book of this size, trained for as many exposures."""
        steps = max(1, round(self.exposures * size / arm.training.batch_size))
        task = {"n_entries": size, "n_test": min(1000, size)}
        said = arm.model_dump()
        return Trial.model_validate(said | {"task": said["task"] | task, "training": said["training"] | {"steps": steps}})

    def walk(self, arm: Trial, reached: Reached) -> Walk:
        """Where the search on an arm stands, from the records that are there: they alone decide, so it can be resumed."""
        known: dict[int, bool] = {}
        asked: list[Trial] = []
        while (size := next((size for size in self.listed if size not in known), self.next_size(known))) is not None:
            trial = self.trial(arm, size)
            found = reached(trial)
            if found is None:
                return Walk(asked, trial)
            asked.append(trial)
            known[size] = found
        return Walk(asked, None)

    def next_size(self, known: dict[int, bool]) -> int | None:
        """The size to try next, given which sizes reached the target; None when it is enclosed or lies out of range."""
        low = max((size for size, found in known.items() if found), default=None)
        high = min((size for size, found in known.items() if not found and size > (low or 0)), default=None)
        if low is None and high is not None and high <= self.low:
            return None
        if high is None and low is not None and low >= self.high:
            return None
        below, above = low or self.low, high or self.high
        if above / below > self.precision and above - below > 1:
            middle = round(math.sqrt(below * above))
            return min(max(middle, below + 1), above - 1)
        if low is None:
            return self.low
        return self.high if high is None else None

    def asked(self, reached: Reached) -> Iterator[Trial]:
        """The trials that the search has looked at and those that it needs now."""
        for arm in self.arms:
            walk = self.walk(arm, reached)
            yield from walk.asked
            if walk.next:
                yield walk.next


def reached_in(results: Path, search: Capacity) -> Reached:
    """Whether trials reached the target by the records of a results folder. A diverged one missed it."""
    known: dict[str, bool] = {}

    def reached(trial: Trial) -> bool | None:
        if trial.id not in known and (path := path_of(trial.id, results)).exists():
            rows = read([path])
            scores = dict(zip(rows["metric"].to_pylist(), rows["value"].to_pylist(), strict=True))
            known[trial.id] = scores.get(search.metric, -math.inf) >= search.target
        return known.get(trial.id)

    return reached
