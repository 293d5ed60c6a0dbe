"""One small language for what a user writes about a table or a trial: filters, computed columns, formulas of laws.

Python's own syntax, read by `ast` and walked here; nothing is ever passed to `eval`. There are numbers, strings, names (dots
allowed, as in `model.d_model`; `col("Model Size")` for a name that is no identifier), arithmetic, comparisons (chained ones
too), `in` a list, `and`, `or`, `not`, and the functions that the caller gives. All else is refused by name.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

LONGEST = 2000  # characters: nothing that a person writes is longer, and the parser's own stack is never reached

ARITHMETIC: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
}
COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
WORDS = {
    ast.Call: "a call",
    ast.Attribute: "an attribute of a value",
    ast.Subscript: "indexing",
    ast.Lambda: "lambda",
    ast.IfExp: "if-else",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "assignment",
    ast.Dict: "a dictionary",
    ast.Starred: "*",
}
ALLOWED = "allowed are numbers, strings, names, + - * / // % **, comparisons, in [...], and, or, not"


@dataclass(frozen=True)
class Expression:
    """A text that was read and found to be of the language; ValueError says in a line what is not."""

    text: str

    def __post_init__(self) -> None:
        for _ in _checked(self.tree, self.text):
            pass

    @cached_property
    def tree(self) -> ast.expr:
        """The parsed text."""
        if len(self.text) > LONGEST:
            raise ValueError(f"an expression of {len(self.text)} characters; at most {LONGEST} are read")
        try:
            return ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            why = getattr(error, "msg", None) or "too deep"
            raise ValueError(f"{self.text!r} is not an expression: {why}") from error

    @property
    def names(self) -> list[str]:
        """The names that it needs, each once, in the order in which they stand."""
        return list(dict.fromkeys(name for name in _checked(self.tree, self.text) if name is not None))

    def __call__(self, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] | None = None) -> Any:
        """Its value, of scalars, arrays, columns or symbols alike. KeyError names what is missing of `values`."""
        try:
            return _value(self.tree, values, functions or {})
        except OverflowError as error:
            raise ValueError(f"{self.text!r}: a number too large") from error
        except (ArithmeticError, TypeError) as error:
            raise ValueError(f"{self.text!r}: {error}") from error


def _dotted(node: ast.expr) -> str | None:
    """`a.b.c` as a name, or nothing if this is another thing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None


def _column(node: ast.expr) -> str | None:
    """The name in `col("a name")`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "col" and not node.keywords:
        match node.args:
            case [ast.Constant(value=str(name))]:
                return name
    return None


def _checked(node: ast.expr, text: str) -> Iterator[str | None]:
    """The names below a node; ValueError at the first thing that is not of the language."""
    name = _column(node) or _dotted(node)
    if name is not None:
        if name.startswith("_") or "._" in name:
            raise ValueError(f"{text!r}: {name} begins with an underscore, which no column and no field does")
        yield name
        return
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            inner: list[ast.expr] = []
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            inner = [node.left, node.right]
            if any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in inner):
                raise ValueError(f"{text!r}: a string beside {ARITHMETIC[type(op)][0]}; strings can only be compared")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not()):
            inner = [node.operand]
        case ast.BoolOp():
            inner = node.values
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[ast.List() | ast.Tuple() | ast.Set() as listed]):
            inner = [node.left, *listed.elts]
        case ast.Compare(ops=ops) if all(type(op) in COMPARISONS for op in ops):
            inner = [node.left, *node.comparators]
        case ast.Call(func=ast.Name(), keywords=[]):
            inner = node.args
        case _:
            word = WORDS.get(type(node), type(node).__name__.lower())
            raise ValueError(f"{text!r}: {word} ({ast.unparse(node)}) is not allowed here; {ALLOWED}")
    for one in inner:
        yield from _checked(one, text)


def _value(node: ast.expr, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Any:
    """The value of a checked node."""

    def of(inner: ast.expr) -> Any:
        return _value(inner, values, functions)

    name = _column(node) or _dotted(node)
    match node:
        case _ if name is not None:
            value = values[name]
        case ast.Constant():
            value = node.value
        case ast.BinOp():
            value = _arithmetic(node.op, of(node.left), of(node.right))
        case ast.UnaryOp(op=ast.Not()):
            value = _not(_truth(of(node.operand), node.operand))
        case ast.UnaryOp():
            value = -of(node.operand) if isinstance(node.op, ast.USub) else +of(node.operand)
        case ast.BoolOp():
            both = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            value = reduce(both, [_truth(of(one), one) for one in node.values])
        case ast.Compare():
            value = _compared(node, of)
        case ast.Call(func=ast.Name(id=function)) if function in functions:
            value = functions[function](*map(of, node.args))
        case ast.Call(func=ast.Name(id=function)):
            there = ", ".join(sorted(functions)) or "none here"
            raise ValueError(f'no function {function}; there are {there}, and col("NAME")')
        case _:
            raise AssertionError(ast.dump(node))  # _checked let through what is not walked here
    return value


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
        left = float(left)  # 9**9**9 overflows at once instead of filling the memory
    return ARITHMETIC[type(op)][1](left, right)


def _truth(value: Any, node: ast.expr) -> Any:
    """A value that is true or false, or a column of such; numbers are not, since `3 and 4` has no meaning in a column."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":
        return value
    raise TypeError(f"{ast.unparse(node)} is neither true nor false; compare it with something")


def _not(value: Any) -> Any:
    return not value if isinstance(value, bool) else ~value


def _compared(node: ast.Compare, of: Callable[[ast.expr], Any]) -> Any:
    """Chained comparisons as Python means them, and membership."""
    left = of(node.left)
    if isinstance(node.ops[0], ast.In | ast.NotIn):
        listed = [of(one) for one in node.comparators[0].elts]  # type: ignore[attr-defined]
        inside = left.isin(listed) if hasattr(left, "isin") else left in listed
        return inside if isinstance(node.ops[0], ast.In) else _not(inside)
    results = []
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = of(comparator)
        results.append(COMPARISONS[type(op)](left, right))
        left = right
    return reduce(operator.and_, results)
