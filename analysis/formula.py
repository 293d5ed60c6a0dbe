"""A law's formula as fast arrays: its value, gradient and second derivatives, worked out by sympy from the text.

A parameter is moved in a coordinate of its own: the logarithm of a positive one, the logit of a share, itself otherwise.
Variables above zero enter by their logarithm, so that a power of one is a single exponential.
"""

# M weightings or starts, P parameters, R runs, H second derivatives that are not zero

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy

from analysis.laws import Errors, Law
from parrots.expressions import Expression

FUNCTIONS = {"log": sympy.log, "log10": lambda x: sympy.log(x) / sympy.log(10), "exp": sympy.exp, "sqrt": sympy.sqrt}
TO_SCALE: Mapping[Errors, Callable[[np.ndarray], np.ndarray]] = {"log": np.log, "log10": np.log10, "binomial": np.asarray}
FROM_SCALE: Mapping[Errors, Callable[[np.ndarray], np.ndarray]] = {
    "log": np.exp,
    "log10": lambda s: 10**s,
    "binomial": np.asarray,
}
"""Between a response and the scale on which its errors are taken."""
FROM_COORDINATE = {"positive": sympy.exp, "free": lambda u: u, "share": lambda u: 1 / (1 + sympy.exp(-u))}


@dataclass(frozen=True)
class Compiled:
    """What a solver needs of a law."""

    call: Callable[..., list[Any]]
    """Variables' columns (R,) and coordinates (M, 1), one after the other: value, P first and H second derivatives."""
    value: Callable[..., Any]
    """The same arguments: the value alone."""
    slopes: Callable[..., list[Any]]
    """The same arguments: value and first derivatives."""
    pairs: tuple[tuple[int, int], ...]
    """Which parameters each of the second derivatives is of."""
    variables: tuple[str, ...]
    logged: tuple[bool, ...]

    def columns(self, x: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The variables as `call` takes them."""
        return [
            np.log(x[name]) if log else np.asarray(x[name], float)
            for name, log in zip(self.variables, self.logged, strict=True)
        ]


@lru_cache(maxsize=64)
def compiled(law: Law) -> Compiled:
    """The arrays' code of a law. Takes a second for ten parameters, once."""
    scale, u, x = symbolic(law)
    first = [sympy.diff(scale, one) for one in u]
    pairs, second = [], []
    for i in range(len(u)):
        for j in range(i + 1):
            derivative = sympy.diff(first[i], u[j])
            if derivative != 0:
                pairs.append((i, j))
                second.append(derivative)
    arguments = [*x, *u]
    whole = sympy.lambdify(arguments, [scale, *first, *second], "numpy", cse=True)
    return Compiled(
        whole,
        sympy.lambdify(arguments, scale, "numpy", cse=True),
        sympy.lambdify(arguments, [scale, *first], "numpy", cse=True),
        tuple(pairs),
        tuple(law.variables),
        tuple(not law.variables[name].may_be_zero for name in law.variables),
    )


def symbolic(law: Law) -> tuple[sympy.Expr, list[sympy.Symbol], list[sympy.Symbol]]:
    """The law on the scale of its errors, the symbols of its coordinates, and those of its variables."""
    u = [sympy.Symbol(f"u_{name}", real=True) for name in law.parameters]
    x = [sympy.Symbol(f"x_{name}", real=True) for name in law.variables]
    parameters = {name: FROM_COORDINATE[about.kind](one) for (name, about), one in zip(law.parameters.items(), u, strict=True)}
    whole = _of(law, parameters, x)
    return sympy.expand_log(sympy.log(whole) if law.errors == "log" else whole), u, x


def _of(law: Law, parameters: Mapping[str, sympy.Expr], x: Sequence[sympy.Symbol]) -> sympy.Expr:
    """The formula, of these symbols for its parameters and variables."""
    values = dict(parameters)
    for (name, about), one in zip(law.variables.items(), x, strict=True):
        values[name] = one if about.may_be_zero else sympy.exp(one)
    for name, text in law.let.items():
        values[name] = Expression(text, FUNCTIONS)(values)
    return sympy.sympify(Expression(law.formula, FUNCTIONS)(values))


def linear_part(law: Law) -> Callable[..., list[Any]]:
    """What multiplies each linear parameter in the formula, then what stands alone: a function as `Compiled.call` is."""
    _, _, x = symbolic(law)
    values = {name: sympy.Symbol(f"p_{name}", real=True) for name in law.parameters}
    whole = _of(law, values, x)
    linear = [values[name] for name, about in law.parameters.items() if about.linear]
    parts = [sympy.diff(whole, one) for one in linear]
    for part in parts:
        assert not part.free_symbols & set(linear), f"{law.name} is not linear in {linear}"
    rest = whole.subs(dict.fromkeys(linear, 0))
    return sympy.lambdify([*x, *values.values()], [*parts, rest], "numpy", cse=True)
