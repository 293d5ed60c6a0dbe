"""What checking a theorem leaves: findings, each a number beside its bound, and tables of every number behind them."""

import math
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

Outcome = Literal["holds", "violated", "reported"]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Finding:
    """One statement of a theorem, measured."""

    theorem: str
    statement: str
    measured: float
    relation: Literal["<=", ">=", ""]
    bound: float
    """nan where there is none."""
    holds: Outcome
    must: bool
    """Whether it ought to hold: a construction or a proved bound does, a step that we doubt is only looked at."""
    n: int
    """Cases looked at: graphs, sequences, pairs, networks."""
    seconds: float
    note: str = ""
    """How it was read, or why it is violated."""

    @property
    def failed(self) -> bool:
        """Whether something that ought to hold does not."""
        return self.must and self.holds == "violated"


@dataclass
class Part:
    """A theorem as it is checked: findings are timed from one to the next."""

    theorem: str
    title: str
    findings: list[Finding] = field(default_factory=list)
    tables: dict[str, Rows] = field(default_factory=dict)
    """By name, for figures and CSV files."""
    since: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """That all of its findings took."""
        return sum(finding.seconds for finding in self.findings)

    def at_most(self, statement: str, measured: float, bound: float, n: int, note: str = "", must: bool = True) -> None:
        """Find whether a number stays at or below its bound."""
        self._add(statement, measured, "<=", bound, "holds" if measured <= bound else "violated", n, note, must)

    def at_least(self, statement: str, measured: float, bound: float, n: int, note: str = "", must: bool = True) -> None:
        """Find whether a number reaches its bound."""
        self._add(statement, measured, ">=", bound, "holds" if measured >= bound else "violated", n, note, must)

    def report(self, statement: str, measured: float, n: int, bound: float = math.nan, note: str = "") -> None:
        """A number beside another, without a verdict."""
        self._add(statement, measured, "", bound, "reported", n, note, False)

    def _add(
        self,
        statement: str,
        measured: float,
        relation: Literal["<=", ">=", ""],
        bound: float,
        holds: Outcome,
        n: int,
        note: str,
        must: bool,
    ) -> None:
        now = time.perf_counter()
        measured, bound = float(measured), float(bound)
        self.findings.append(
            Finding(self.theorem, statement, measured, relation, bound, holds, must, n, now - self.since, note)
        )
        self.since = now


@dataclass(frozen=True)
class Sizes:
    """How much is looked at. The defaults are what `parrots theory` reports, in about a minute on two cores."""

    all_graphs: int = 6
    """Vertices of the graphs of which every one is answered: 2^15."""
    all_neighbourhoods: int = 10
    """Vertices where every subset of the edges of s and d is: 2^16."""
    random_vertices: int = 64
    random_graphs: int = 100_000
    between: int = 9
    """Vertices between s and d in theorem 3.2's check: 4^9 pairs of neighbourhoods."""
    embeddings: int = 5
    """Drawn for each width there; the best counts."""
    matched: tuple[int, ...] = (64, 1024, 16_384, 1_048_576)
    """Vertices in corollary 3.4's."""
    vectors: int = 2000
    per_log: tuple[float, ...] = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48)
    """Widths tried, over ln n."""
    draws: int = 3
    sequences: int = 10_000
    tokens: int = 4
    experts: tuple[int, ...] = (4, 10, 25, 50, 100, 200, 400, 1000)
    routed: int = 100_000
    routed_width: int = 64
    routed_experts: tuple[int, ...] = (16, 32, 100, 316)
    bits: tuple[int, ...] = (1, 2, 3, 4, 8)
    bits_vectors: int = 3000
    growth: tuple[int, ...] = (500, 1000, 2000, 4000, 8000, 16_000)
    points: int = 18
    """For which every labeling is sought."""


SMOKE = Sizes(
    all_graphs=5,
    all_neighbourhoods=6,
    random_vertices=16,
    random_graphs=500,
    between=5,
    embeddings=2,
    matched=(64, 1024),
    vectors=200,
    per_log=(2, 8, 32, 48),
    draws=2,
    sequences=400,
    experts=(2, 10, 20, 40, 200),
    routed=2000,
    routed_experts=(16, 45),
    bits=(1, 2, 8),
    bits_vectors=300,
    growth=(100, 400),
    points=10,
)
"""Seconds: that everything can be built, drawn and written."""


def generator(seed: int, *what: int) -> torch.Generator:
    """A generator of its own for each thing drawn, so that leaving one check out changes no other."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, *what]).generate_state(1)[0]))
