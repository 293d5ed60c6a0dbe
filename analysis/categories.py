"""The benchmarks of figures 1 and 5 to 12 by category, and the columns that hold them, however a table spells their names."""

import re
from collections.abc import Iterator

import pandas as pd

CATEGORIES: dict[str, dict[str, tuple[str, ...]]] = {  # category -> benchmark -> what else it is called
    "knowledge": {
        "triviaqa": ("triviaqanocontext",),
        "nq": ("nqopen", "naturalquestions"),
        "hotpotqa": (),
        "webquestions": ("webqs", "webq"),
        "complexwebquestions": ("cwq",),
    },
    "commonsense": {
        "arc_challenge": ("arcc",),
        "arc_easy": ("arce",),
        "commonsense_qa": ("csqa",),
        "hellaswag": (),
        "openbookqa": ("obqa",),
        "piqa": (),
        "sciq": (),
        "siqa": ("socialiqa",),
        "winogrande": (),
    },
    "math": {"svamp": (), "gsm8k": (), "gsm_hard": (), "hendrycks_math": ("mathhendrycks",), "minerva_math": ()},
}
MEASURES = {"knowledge": "mean world-knowledge F1", "commonsense": "mean commonsense accuracy", "math": "mean math accuracy"}
SCORES = ("f1", "accuracy", "exact_match", "acc")
"""What follows a benchmark's name in a record's metric, as in triviaqa/f1."""
TRAINED_ON = ("_train", "_trained_on")
"""What follows a benchmark's name in a table's column of scores on examples of the training."""


def with_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs with the mean of each category, over the benchmarks that every run has, and gaps between training and test.

    `frame.attrs["benchmarks"]`: category -> benchmark -> its column.
    """
    found = {category: dict(benchmarks(frame, category)) for category in CATEGORIES}
    more = {
        category: frame[list(columns.values())].mean(axis=1, skipna=False)
        for category, columns in found.items()
        if columns and category not in frame
    }
    for columns in found.values():
        for benchmark, column in columns.items():
            trained = next((f"{column}{end}" for end in TRAINED_ON if f"{column}{end}" in frame), "")
            if trained and f"{benchmark}_gap" not in frame:
                more[f"{benchmark}_gap"] = frame[trained] - frame[column]
            if benchmark not in frame:
                more[benchmark] = frame[column]
    made = frame.assign(**more)
    made.attrs["benchmarks"] = found
    return made


def benchmarks(frame: pd.DataFrame, category: str) -> Iterator[tuple[str, str]]:
    """The benchmarks of a category that the table has: (name, column)."""
    folded: dict[str, str] = {}
    for column in frame.columns:
        name, slash, score = str(column).partition("/")
        if (not slash or score in SCORES) and pd.api.types.is_numeric_dtype(frame[column]):
            folded.setdefault(fold(name), column)
    for name, others in CATEGORIES[category].items():
        column = next((folded[one] for one in (fold(name), *others) if one in folded), None)
        if column is not None and frame[column].notna().any():
            yield name, column


def fold(name: str) -> str:
    """A name without case and punctuation: arc:challenge is ARC-Challenge."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())
