"""Expressions that people type, as in `--where 'd_model <= 64 and lr in (1e-2, 1e-3)'`: read, checked and never run as Python.

Names stand for the values of a mapping; a dot belongs to the name, so `training.lr` is one. Anything else that Python can
say (calls, subscripts, comprehensions) is refused before a value is looked at, and arithmetic is that of numbers, so an
expression takes no longer than its length.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

LONGEST = 2000
ALLOWED = "names, numbers, strings, comparisons, in, and, or, not, + - * / // % **"
"""What an expression is made of."""


def _power(a: float, b: float) -> float:
    return math.pow(a, b)  # of floats: 9 ** 9 ** 9 overflows and is told, where integers would fill the memory


ARITHMETIC: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}
SAID = {
    ast.Call: "a call",
    ast.Subscript: "a subscript",
    ast.Lambda: "a lambda",
    ast.IfExp: "if ... else",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment",
    ast.Attribute: "a dot behind anything but a name",
    ast.Dict: "a dict",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
}


class Expression:
    """A checked expression, a function of a mapping.

    names: those that it needs. ValueError says in a line what is not allowed, or what went wrong with which values.
    """

    def __init__(self, text: str):
        self.text = text
        if len(text) > LONGEST:
            raise ValueError(f"expression {text[:40]!r}...: {len(text):,} characters; at most {LONGEST:,}")
        try:
            self.tree = ast.parse(text.strip(), mode="eval").body
            self.names = frozenset(self._names(self.tree))
        except SyntaxError as error:
            raise ValueError(f"expression {text!r}: {error.msg} at character {error.offset}") from error
        except (RecursionError, MemoryError) as error:
            raise ValueError(f"expression {text[:40]!r}...: nested too deeply") from error

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The value for these values of its names."""
        if unknown := self.names - values.keys():
            raise ValueError(f"expression {self.text!r}: no name {min(unknown)!r}; there are {', '.join(sorted(values))}")
        try:
            return self._value(self.tree, values)
        except (TypeError, ArithmeticError, ValueError) as error:
            given = ", ".join(f"{name}={values[name]!r}" for name in sorted(self.names))
            raise ValueError(f"expression {self.text!r}: {error}" + (f" where {given}" if given else "")) from error

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values; ValueError if it is neither true nor false."""
        found = self(values)
        if not isinstance(found, bool):
            raise ValueError(f"expression {self.text!r}: is {found!r}, neither true nor false")
        return found

    def _names(self, node: ast.expr) -> list[str]:
        """The names in a tree of what is allowed."""
        if name := _dotted(node):
            return [name]
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, type(None))):
            return []
        known = (
            isinstance(node, (ast.BoolOp, ast.Tuple, ast.List, ast.Set))
            or (isinstance(node, ast.Compare) and all(type(op) in COMPARISONS for op in node.ops))
            or (isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC)
            or (isinstance(node, ast.UnaryOp) and (isinstance(node.op, ast.Not) or type(node.op) in ARITHMETIC))
        )
        if not known:
            where = ast.get_source_segment(self.text.strip(), node) or self.text
            said = SAID.get(type(node), "this")
            raise ValueError(f"expression {self.text!r}: {said} is not allowed ({where}); there are {ALLOWED}")
        return [name for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr) for name in self._names(child)]

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        if name := _dotted(node):
            return values[name]
        if isinstance(node, ast.Compare):
            return self._compared(node, values)
        if isinstance(node, ast.BoolOp):
            whole = all if isinstance(node.op, ast.And) else any
            return whole(_truth(self._value(one, values)) for one in node.values)
        below = [self._value(one, values) for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
        if isinstance(node, (ast.UnaryOp, ast.BinOp)):
            if isinstance(node.op, ast.Not):
                return not _truth(below[0])
            return ARITHMETIC[type(node.op)](*map(_number, below))
        return node.value if isinstance(node, ast.Constant) else tuple(below)

    def _compared(self, node: ast.Compare, values: Mapping[str, Any]) -> bool:
        """Left to right, as in a < b < c, until one does not hold."""
        left = self._value(node.left, values)
        for op, other in zip(node.ops, node.comparators, strict=True):
            right = self._value(other, values)
            if not COMPARISONS[type(op)](left, right):
                return False
            left = right
        return True


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of a name and its attributes; nothing for a dot behind anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _number(value: Any) -> Any:
    if not isinstance(value, Real):
        raise ValueError(f"{value!r} is not a number")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value
