"""The one small language of what people type about trials and tables: `--where`, filters, derived axes, formulas of laws.

Python's own syntax, read by `ast` and walked here; nothing is ever passed to `eval`. Names stand for the values of a mapping; a
dot belongs to the name, so `training.lr` is one, and `col("Model Size")` is a name that is no identifier. Whatever else
Python can say is refused before a value is looked at. A value may be a number, a string, a column of either or a symbol.
"""

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from numbers import Real
from typing import Any

LONGEST = 2000  # characters: nothing that a person writes is longer, and the parser's own stack is never reached
ALLOWED = "names, numbers, strings, comparisons, in, and, or, not, + - * / // % **"
"""What an expression is made of."""


def _power(a: Any, b: Any) -> Any:
    if isinstance(a, Real) and isinstance(b, Real):
        return math.pow(a, b)  # of floats: 9 ** 9 ** 9 overflows and is told, where integers would fill the memory
    return a**b


def _in(value: Any, listed: Any) -> Any:
    if hasattr(listed, "dtype"):
        raise TypeError("`in` a column; name the values in [...]")
    return value.isin(listed) if hasattr(value, "isin") else value in listed


def _is(value: Any, none: None) -> Any:
    return value.isna() if hasattr(value, "isna") else value is none


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
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _in,
    ast.NotIn: lambda value, listed: _not(_in(value, listed)),
    ast.Is: _is,
    ast.IsNot: lambda value, none: _not(_is(value, none)),
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
    ast.Starred: "a star",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
}


class Expression:
    """A checked expression, a function of a mapping.

    names: those that it needs, each once, in the order in which they stand. functions: the only ones that it may call.
    ValueError says in a line what is not allowed, or what went wrong with which values.
    """

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]] | None = None):
        self.text = text
        self.functions = functions or {}
        if len(text) > LONGEST:
            raise ValueError(f"expression {text[:40]!r}...: {len(text):,} characters; at most {LONGEST:,}")
        try:
            self.tree = ast.parse(text.strip(), mode="eval").body
            self.names = list(dict.fromkeys(self._names(self.tree)))
        except SyntaxError as error:
            raise ValueError(f"expression {text!r}: {error.msg} at character {error.offset}") from error
        except (RecursionError, MemoryError) as error:
            raise ValueError(f"expression {text[:40]!r}...: nested too deeply") from error

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The value for these values of its names."""
        if unknown := [name for name in self.names if name not in values]:
            there = ", ".join(sorted(map(str, values.keys())))
            raise ValueError(f"expression {self.text!r}: no name {unknown[0]!r}; there are {there}")
        try:
            return self._value(self.tree, values)
        except (TypeError, ArithmeticError, ValueError) as error:
            scalars = [name for name in sorted(self.names) if isinstance(values[name], (Real, str, type(None)))]
            given = ", ".join(f"{name}={values[name]!r}" for name in scalars)
            raise ValueError(f"expression {self.text!r}: {error}" + (f" where {given}" if given else "")) from error
        except RecursionError as error:
            raise ValueError(f"expression {self.text[:40]!r}...: nested too deeply") from error

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values; ValueError if it is neither true nor false."""
        found = self(values)
        if not isinstance(found, bool):
            raise ValueError(f"expression {self.text!r}: is {found!r}, neither true nor false")
        return found

    def _names(self, node: ast.expr) -> Iterator[str]:
        """The names in a tree; ValueError at the first thing that is not of the language."""
        if name := _name(node):
            yield name
            return
        match node:
            case ast.Constant(value=int() | float() | str() | None):
                inner: list[ast.expr] = []
            case ast.BoolOp(values=inner) | ast.Tuple(elts=inner) | ast.List(elts=inner) | ast.Set(elts=inner):
                pass
            case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
                inner = [node.left]
            case ast.Compare(ops=ops) if not any(isinstance(op, (ast.Is, ast.IsNot)) for op in ops):
                inner = [node.left, *node.comparators]
            case ast.BinOp(op=op) if type(op) in ARITHMETIC:
                inner = [node.left, node.right]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not()):
                inner = [node.operand]
            case ast.Call(func=ast.Name(id=function), keywords=[]) if function in self.functions:
                inner = node.args
            case _:
                where = ast.get_source_segment(self.text.strip(), node) or self.text
                said = SAID.get(type(node), "this")
                also = f", {', '.join(sorted(self.functions))}" if self.functions else ""
                raise ValueError(f"expression {self.text!r}: {said} is not allowed ({where}); there are {ALLOWED}{also}")
        for one in inner:
            yield from self._names(one)

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        of = partial(self._value, values=values)
        found: Any
        match node:
            case _ if name := _name(node):
                found = values[name]
            case ast.BoolOp():
                found = _all((_truth(of(one)) for one in node.values), isinstance(node.op, ast.And))
            case ast.Compare():
                found = _all(_compared(node, of), True)
            case ast.UnaryOp(op=ast.Not()):
                found = _not(_truth(of(node.operand)))
            case ast.UnaryOp():
                found = ARITHMETIC[type(node.op)](_number(of(node.operand)))
            case ast.BinOp():
                found = ARITHMETIC[type(node.op)](_number(of(node.left)), _number(of(node.right)))
            case ast.Call(func=ast.Name(id=function)):
                found = self.functions[function](*map(of, node.args))
            case ast.Tuple() | ast.List() | ast.Set():
                found = tuple(map(of, node.elts))
            case ast.Constant():
                found = node.value
            case _:
                raise AssertionError(ast.dump(node))  # _names let through what is not walked here
        return found


def _name(node: ast.expr) -> str:
    """`a.b.c` of a name and its attributes, or what stands in `col("...")`; nothing for anything else."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute() if before := _dotted(node.value):
            return f"{before}.{node.attr}"
        case ast.Call(func=ast.Name(id="col"), args=[ast.Constant(value=str(name))], keywords=[]):
            return name
    return ""


def _dotted(node: ast.expr) -> str:
    return _name(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def _compared(node: ast.Compare, of: Callable[[ast.expr], Any]) -> Iterator[Any]:
    """Each comparison of a chain such as a < b < c, left to right."""
    left = of(node.left)
    for op, other in zip(node.ops, node.comparators, strict=True):
        right = of(other)
        found = COMPARISONS[type(op)](left, right)
        yield found if getattr(found, "ndim", 0) else bool(found)
        left = right


def _all(truths: Iterator[Any], wanted: bool) -> Any:
    """All of them joined by `and` if `wanted`, by `or` if not; what follows is not looked at once the answer is known."""
    both = operator.and_ if wanted else operator.or_
    joined: Any = wanted
    for one in truths:
        if one is not wanted:
            joined = one if joined is wanted else both(joined, one)
        if joined is (not wanted):
            break
    return joined


def _number(value: Any) -> Any:
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    if value is None or isinstance(value, (str, tuple)) or kind not in "biuf":
        raise TypeError(
            f"{value!r} is not a number" if not hasattr(value, "dtype") else "a column of text is not one of numbers"
        )
    return value


def _truth(value: Any) -> Any:
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "boolean"):
        return value
    raise TypeError(f"{'a column of numbers' if hasattr(value, 'dtype') else repr(value)} is neither true nor false")


def _not(value: Any) -> Any:
    return not value if isinstance(value, bool) else ~value
