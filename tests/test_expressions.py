"""Expressions that people type: what they mean, and what they can never do."""

import math
import operator
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrots.expressions import Expression

VALUES = {"d_model": 64, "lr": 0.01, "task": "phonebook", "training.lr": 0.01, "tied": True, "group": None}
COLUMNS = {"column": pd.Series([1, 2]), "words": pd.Series(["a", "b"])}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("d_model <= 64 and lr in (1e-2, 1e-3)", True),
        ("d_model == 64 or missing_is_not_looked_up == 1", None),
        ("not tied", False),
        ("32 < d_model < 64", False),
        ("task != 'phonebook'", False),
        ("'book' in task", True),
        ("training.lr * 100 == d_model / 64", True),
        ("-d_model // 3 % 5 + 2 ** 3", -22 % 5 + 8),
        ("group is None", True),
        ("task not in ['cycle']", True),
        (" d_model ", 64),
    ],
)
def test_an_expression_means_what_it_means_in_python(text: str, value: object) -> None:
    if value is None:
        with pytest.raises(ValueError, match="no name 'missing_is_not_looked_up'; there are d_model, group, lr"):
            Expression(text)(VALUES)
    else:
        assert Expression(text)(VALUES) == value


def test_columns_are_compared_run_by_run() -> None:
    frame = pd.DataFrame({"k": [1, 2, 1], "kind": ["MoE", "MoE", "dense"], "r": [0.5, None, 1.0]})
    assert Expression("k == 1 and not kind == 'dense'")(frame).tolist() == [True, False, False]
    assert Expression("kind in ['dense'] or k > 1")(frame).tolist() == [False, True, True]
    assert Expression("kind not in ('dense',)")(frame).tolist() == [True, True, False]
    assert Expression("1 <= k < 2")(frame).tolist() == [True, False, True]
    assert Expression("r is None")(frame).tolist() == [False, True, False]
    assert Expression("k ** 2 + r / 2")(frame)[2] == 1.5


def test_names_are_told_once_in_order() -> None:
    assert Expression("b * a + col('x y') ** a.b - b").names == ["b", "a", "x y", "a.b"]
    assert Expression("col('x y') * 2")({"x y": 3}) == 6


def test_only_the_functions_that_are_given_can_be_called() -> None:
    assert Expression("log10(100) + k", {"log10": math.log10})({"k": 1}) == 3
    with pytest.raises(ValueError, match=r"a call is not allowed .*; there are .*, log10$"):
        Expression("exec(k)", {"log10": math.log10})


@given(st.integers(-50, 50), st.integers(-50, 50), st.sampled_from(["+", "-", "*", "<", "<=", "==", "!=", ">", ">="]))
def test_arithmetic_and_comparison_are_those_of_python(a: int, b: int, sign: str) -> None:
    means = {"+": operator.add, "-": operator.sub, "*": operator.mul, "<": operator.lt, "<=": operator.le}
    means |= {"==": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge}
    assert Expression(f"a {sign} b")({"a": a, "b": b}) == means[sign](a, b)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__import__('os').system('true')", "a call is not allowed"),
        ("open('/etc/passwd')", "a call is not allowed"),
        ("(1).__class__", "a dot behind anything but a name is not allowed"),
        ("task[0]", "a subscript is not allowed"),
        ("[x for x in task]", "a comprehension is not allowed"),
        ("lambda: 1", "a lambda is not allowed"),
        ("1 if tied else 2", "if ... else is not allowed"),
        ("(lr := 3)", "an assignment is not allowed"),
        ("f'{lr}'", "an f-string is not allowed"),
        ("1 << 99", "this is not allowed"),
        ("b'x' == task", "this is not allowed"),
        ("d_model <", "invalid syntax"),
        ("d_model = 64", "invalid syntax"),
        ("import os", "invalid syntax"),
        ("k == 1; k", "invalid syntax"),
        ("().__class__", "a dot behind anything but a name"),
        ("col('a').b", "a dot behind anything but a name"),
        ("tied is lr", "this is not allowed"),
        ("(*task, 1)", "a star is not allowed"),
        ("", "invalid syntax"),
        ("(" * 1500, "never closed|too many nested|nested too deeply"),
        ("-" * 1900 + "1", "nested too deeply|too many nested"),
        ("1+" * 1500 + "1", "3,001 characters; at most 2,000"),
    ],
)
def test_what_is_not_allowed_is_named_in_one_line_before_any_value_is_seen(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Expression(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("more", ["-", "not ", "1**"])
def test_depth_is_refused_when_it_is_read_or_when_it_is_evaluated_and_is_no_crash(more: str) -> None:
    for depth in range(1, 1999 // len(more)):
        with suppress(ValueError):
            Expression(more * depth + "1")({})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task.__class__ == 1", "no name 'task.__class__'"),
        ("9 ** 9 ** 9 > 1", "math range error"),
        ("task * 1000000000 == task", "'phonebook' is not a number where task='phonebook'"),
        ("lr / 0 > 1", "division by zero where lr=0.01"),
        ("task < 3", "not supported between"),
        ("lr and tied", "0.01 is neither true nor false"),
        ("d_model in lr", "not iterable"),
        ("group + 1", "None is not a number"),
        ("1 in column", "`in` a column"),
        ("column and tied", "neither true nor false"),
        ("words * 9", "a column of text"),
    ],
)
def test_what_cannot_be_computed_is_told_with_its_values(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("*", r"\*")) as error:
        Expression(text)(VALUES | COLUMNS)
    assert "\n" not in str(error.value)


def test_only_true_and_false_select() -> None:
    assert Expression("lr < 1").holds({"lr": np.float64(0.01)}) is True
    assert Expression("n == 3").holds({"n": np.int64(3)}) is True
    with pytest.raises(ValueError, match=r"is 0\.01, neither true nor false"):
        Expression("lr").holds(VALUES)
