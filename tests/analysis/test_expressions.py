"""The language of filters and formulas reads what it should, and refuses everything else in a line."""

import math

import pandas as pd
import pytest

from analysis.expressions import LONGEST, Expression

ROW = {"step": 249000, "k": 1, "routing_frequency": 0.5, "kind": "MoE", "model.d_model": 64, "a b": 7}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("step == 249000 and k == 1 and routing_frequency == 0.5", True),
        ("step > 1e5 or k > 1", True),
        ("not k == 1", False),
        ("1 < k < 3", False),
        ("1 <= k < 3 and kind in ['MoE', 'dense']", True),
        ("kind not in ('dense',)", True),
        ("model.d_model == 64", True),
        ("col('a b') + 2 * -k", 5),
        ("2 ** 3 ** 2", 512),
        ("7 // 2 + 7 % 2", 4),
        ("log10(100) + k", 3.0),
    ],
)
def test_an_expression_means_what_python_means(text, value):
    assert Expression(text)(ROW, {"log10": math.log10}) == value


def test_columns_are_compared_run_by_run():
    frame = pd.DataFrame({"k": [1, 2, 1], "kind": ["MoE", "MoE", "dense"]})
    assert Expression("k == 1 and not kind == 'dense'")(frame).tolist() == [True, False, False]
    assert Expression("kind in ['dense'] or k > 1")(frame).tolist() == [False, True, True]
    assert Expression("1 <= k < 2")(frame).tolist() == [True, False, True]


def test_names_are_told_once_in_order():
    assert Expression("b * a + col('x y') ** a.b - b").names == ["b", "a", "x y", "a.b"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("__import__('os').system('true')", "a call"),
        ("().__class__", "attribute"),
        ("k.__class__ == 1", "underscore"),
        ("_k == 1", "underscore"),
        ("open", None),
        ("frame['k'] == 1", "indexing"),
        ("[x for x in k]", "listcomp"),
        ("lambda: k", "lambda"),
        ("k if k else k", "if-else"),
        ("f'{k}'", "f-string"),
        ("(k := 1)", "assignment"),
        ("k == 1; k", "not an expression"),
        ("k =", "not an expression"),
        ("", "not an expression"),
        ("k is None", "not allowed"),
        ("'a' * 1000000000", "string"),
        ("k == b'a'", "constant"),
        ("min(*k)", "not allowed"),
        ("f(k, key=1)", "call"),
        ("(" * 500 + "k" + ")" * 500, "not an expression"),
        ("k" * (LONGEST + 1), "characters"),
    ],
)
def test_what_is_not_of_the_language_is_refused_in_one_line(text, word):
    if word is None:  # a bare name is a column, never Python's own
        assert Expression(text).names == ["open"]
        return
    with pytest.raises(ValueError, match=word) as caught:
        Expression(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("9 ** 9 ** 9 ** 9", "too large"),
        ("k / 0", "zero"),
        ("k and step", "neither true nor false"),
        ("kind > 3", "not supported"),
        ("exec(kind)", "no function exec"),
    ],
)
def test_what_has_no_value_is_said_in_one_line(text, word):
    with pytest.raises(ValueError, match=word) as caught:
        Expression(text)(ROW)
    assert "\n" not in str(caught.value)
