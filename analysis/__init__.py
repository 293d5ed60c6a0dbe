"""Statistics and pictures from records. Imports neither torch nor ray."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(source: "str | Path", columns: "Mapping[str, str] | None" = None, where: str = "") -> "pd.DataFrame":
    """Runs as one typed frame, from a results folder of ours or from anyone's file; see `analysis.runs.load`."""
    from analysis import runs  # pandas waits until there is something to read

    return runs.load(source, columns, where)
