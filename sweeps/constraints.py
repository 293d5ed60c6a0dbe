"""Which cells of a grid are wanted, said in expressions: what is excluded, and what has to be of a given size.

exclude(grid(BASE, AXES), "n_experts > 16 and d_model < 32")
match(grid(BASE, AXES), "N_total", to=1e6, within=0.05)
match(grid(BASE, AXES), "D / N_total", to=20, within=0.1)
match(grid(BASE, AXES), "C", like="n_experts == 1", within=0.1)
"""

from collections.abc import Iterable, Iterator

from parrots.spec import Cell
from sweeps.fields import evaluated, those


def exclude(cells: Iterable[Cell], where: str) -> Iterator[Cell]:
    """The cells of which `where` is not true. ValueError if it is true of all."""
    given = list(cells)
    yield from _kept(given, [not out for out in those(given, where)], f"exclude {where!r}")


def match(
    cells: Iterable[Cell], quantity: str, to: float | None = None, like: str | None = None, within: float = 0.05
) -> Iterator[Cell]:
    """The cells whose `quantity` (N_total, N_active, C, or such as D / N_total) is `to`, within a relative tolerance.

    like: in place of a number, the cells that set it: these are kept, and of the others those that are as large as one of
    them. ValueError if no cell is left, or beside `like` none.
    """
    if (to is None) == (like is None):
        raise ValueError(f"match {quantity!r}: give `to` or `like`, one of the two")
    given = list(cells)
    sizes = [float(size) for size in evaluated(given, quantity)]
    said = f"match {quantity!r} within {within:.0%} of "
    if to is not None:
        yield from _kept(given, [abs(one - to) <= within * to for one in sizes], f"{said}{to:,g}")
        return
    assert like is not None
    sets = those(given, like)
    of = [one for one, is_one in zip(sizes, sets, strict=True) if is_one]
    if not of:
        raise ValueError(f"{said}{like!r}: true of none of {len(given)} cells")
    near = [any(abs(one - other) <= within * other for other in of) for one in sizes]
    _kept(given, [a and not b for a, b in zip(near, sets, strict=True)], f"{said}{like!r}")
    yield from _kept(given, near, said)


def _kept(cells: list[Cell], keep: list[bool], said: str) -> list[Cell]:
    kept = [cell for cell, wanted in zip(cells, keep, strict=True) if wanted]
    if not kept:
        raise ValueError(f"constraint {said}: excludes all {len(cells)} cells")
    return kept
