"""A figure that knows what it drew: each mark says which trial it is, and every number drawn is a row of a table.

A page usually becomes interactive by a plotting library inside it, a script that draws a second picture, which need not agree
with the one in print. Here page and print are the same SVG. Its marks carry titles, which any browser shows
without script; `hover.js` shows them at once and under a finger too.
"""

import io
import xml.etree.ElementTree as ET  # nosec B405 # parses what matplotlib wrote, nothing from outside
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from parrots.atomic import atomic

# Okabe and Ito (2008); circles and squares, whole and broken lines besides
LOOKS: dict[str, dict[str, Any]] = {"dense": {"color": "#0072B2", "marker": "o"}, "MoE": {"color": "#D55E00", "marker": "s"}}
STROKES = {"dense": "-", "MoE": "--"}
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "parrots",
    "figure.constrained_layout.use": True,
    "figure.max_open_warning": 0,  # a report draws all of its figures before it writes them
}
NARROWEST = 640  # pixels of a figure on a page; on a phone it is scrolled
SVG = "http://www.w3.org/2000/svg"
COLUMNS = ["figure", "panel", "series", "x_axis", "y_axis", "x", "y", "low", "high", "trial_id", "about"]
ET.register_namespace("", SVG)
ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")


P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws in the house's style."""

    @wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return within


@dataclass
class Picture:
    """A matplotlib figure, drawn on through here."""

    name: str
    caption: str
    figure: Figure
    _drawn: list[tuple[Axes, dict[str, Any]]] = field(default_factory=list)
    _titles: dict[str, list[str]] = field(default_factory=dict)

    def points(self, panel: Axes, frame: pd.DataFrame, x: str, y: str, series: str, **look: Any) -> None:
        """Marks at two columns of `frame`; its column `about` is what each says, and its index the trials, if so named."""
        frame = frame[np.isfinite(frame[x].astype(float)) & np.isfinite(frame[y].astype(float))]
        if frame.empty:
            return
        artist = panel.scatter(frame[x].to_numpy(float), frame[y].to_numpy(float), **look)
        self._tell(artist, frame["about"])
        about = {"trial_id": frame.index if frame.index.name == "trial_id" else "", "about": frame["about"]}
        self._note(panel, series, x=frame[x], y=frame[y], **about)

    def line(self, panel: Axes, x: Any, y: Any, series: str, about: str = "", trial_id: str = "", **look: Any) -> None:
        """A line through points; nan breaks it."""
        (artist,) = panel.plot(x, y, **look)
        if about:
            self._tell(artist, [about])
        self._note(panel, series, x=x, y=y, trial_id=trial_id, about="" if trial_id else about)

    def band(self, panel: Axes, x: Any, low: Any, high: Any, series: str, **look: Any) -> None:
        """The room between two lines."""
        panel.fill_between(x, low, high, linewidth=0, **look)
        self._note(panel, series, x=x, low=low, high=high)

    def cells(self, panel: Axes, table: pd.DataFrame, series: str) -> Any:
        """A heat map of `table`, its rows and columns named by numbers, with each value in its cell; returns the image."""
        values = table.to_numpy(float)
        image = panel.pcolormesh(np.ma.masked_invalid(values), cmap="cividis")
        for axis, names in ((panel.xaxis, table.columns), (panel.yaxis, table.index)):
            axis.set_ticks(np.arange(len(names)) + 0.5, [quantity(one) for one in names])
        panel.grid(visible=False)
        low, high = np.nanmin(values), np.nanmax(values)
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = value < low + 0.55 * (high - low)
                panel.text(j + 0.5, i + 0.5, quantity(value), ha="center", va="center", color="white" if dark else "black")
        x, y = np.meshgrid(table.columns.to_numpy(float), table.index.to_numpy(float))
        known = np.isfinite(values)
        self._note(panel, series, x=x[known], y=y[known], about=[f"{value:.6g}" for value in values[known]])
        return image

    def _tell(self, artist: Any, titles: Iterable[str]) -> None:
        gid = f"{self.name}-{len(self._titles)}"
        artist.set_gid(gid)
        self._titles[gid] = list(titles)

    def _note(self, panel: Axes, series: str, **columns: Any) -> None:
        self._drawn.append((panel, {"series": series, **columns}))

    def numbers(self) -> pd.DataFrame:
        """Every number drawn, in `COLUMNS`; a mark has x and y, a band low and high."""
        parts = []
        for panel, columns in self._drawn:
            part = pd.DataFrame({k: np.asarray(v) if np.ndim(v) else v for k, v in columns.items()}, index=_rows(columns))
            axes = {"x_axis": panel.get_xlabel(), "y_axis": panel.get_ylabel() or self.figure.axes[0].get_ylabel()}
            parts.append(part.assign(figure=self.name, panel=panel.get_title(loc="left"), **axes))
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
        return table.reindex(columns=COLUMNS)

    def svg(self) -> str:
        """The figure with its titles, for a page; the same bytes for the same numbers."""
        text = io.StringIO()
        plain(self.figure)
        with plt.rc_context(STYLE):  # the salt of its ids
            self.figure.savefig(text, format="svg", metadata={"Date": None})
        root = ET.fromstring(text.getvalue())  # nosec B314 # as above
        for group in root.iter(f"{{{SVG}}}g"):
            titles = self._titles.get(group.get("id", ""))
            if titles is not None:
                _entitle(group, titles)
        natural = 96 * self.figure.get_figwidth()  # pixels; a page shrinks it no further than can be read
        low, high = (max(NARROWEST, round(share * natural)) for share in (0.85, 1.15))
        root.set("style", f"min-width: {low}px; max-width: {high}px")
        return ET.tostring(root, encoding="unicode")

    def save(self, folder: Path) -> str:
        """Write the figure as SVG, PDF and PNG into `folder`; returns the SVG for a page."""
        folder.mkdir(parents=True, exist_ok=True)
        svg = self.svg()
        with atomic(folder / f"{self.name}.svg") as sink:
            sink.write(svg.encode())
        for kind in ("pdf", "png"):
            with atomic(folder / f"{self.name}.{kind}") as sink:
                self.figure.savefig(sink, format=kind, dpi=160)
        plt.close(self.figure)
        return svg


def _rows(columns: dict[str, Any]) -> range:
    return range(max(np.size(value) for value in columns.values()))


def _entitle(group: ET.Element, titles: list[str]) -> None:
    """Give each drawn element of a group its title; a line gets a wider one that is not seen, for fingers."""
    hidden = {id(part) for defs in group.iter(f"{{{SVG}}}defs") for part in defs.iter()}
    marks = [part for part in group.iter() if part.tag in (f"{{{SVG}}}use", f"{{{SVG}}}path") and id(part) not in hidden]
    for mark, title in zip(marks, titles * len(marks) if len(titles) == 1 else titles, strict=True):
        ET.SubElement(mark, f"{{{SVG}}}title").text = title
        if mark.tag.endswith("path"):
            wide = ET.SubElement(
                group, f"{{{SVG}}}path", mark.attrib | {"style": "fill: none; stroke: #000; stroke-opacity: 0"}
            )
            wide.set("stroke-width", "9")
            ET.SubElement(wide, f"{{{SVG}}}title").text = title


def drawn(makers: Mapping[str, Callable[[], Picture]]) -> tuple[list[Picture], list[tuple[str, str]]]:
    """The pictures that could be drawn, and of the others the name with the reason."""
    made, absent = [], []
    for name, make in makers.items():
        try:
            made.append(make())
        except ValueError as error:
            absent.append((name, str(error)))
    return made, absent


def plain(figure: Figure) -> None:
    """Have its words say what they say: a dollar sign, of a claim or a column, begins no formula. Ticks' may be some."""
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    ticks = {label for axis in axes for label in axis.get_ticklabels(which="both")}
    for text in set(figure.findobj(Text)) - ticks:
        text.set_parse_math(False)


def panels(count: int, width: float = 5.2, height: float = 3.7, most: int = 3, **share: bool) -> tuple[Figure, Sequence[Axes]]:
    """So many panels in rows of at most `most`, and no empty one."""
    wide = min(count, most)
    figure, grid = plt.subplots(
        -(-count // wide), wide, figsize=(width * wide, height * -(-count // wide)), squeeze=False, **share
    )
    for spare in grid.flat[count:]:
        spare.remove()
    return figure, grid.flat[:count]


def sparse_ticks(panel: Axes, upright: bool = False) -> None:
    """Ticks that a narrow panel's logarithmic x (or y) axis can hold: numbers as people say them."""
    low, high = panel.get_ylim() if upright else panel.get_xlim()
    axis = panel.yaxis if upright else panel.xaxis
    if high / low < 30:
        wanted = [m * 10.0**e for e in range(-4, 13) for m in ((1, 2, 5) if high / low > 3 else (1, 1.5, 2, 3, 4, 5, 6, 8))]
        axis.set_ticks([v for v in wanted if low <= v <= high])
    axis.set_major_formatter(lambda v, _: quantity(v))
    axis.set_minor_formatter(lambda v, _: "")


def quantity(v: float) -> str:
    """12000 as 12k, 3.4e6 as 3.4M, 0.05 as 0.05."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if v >= unit:
            return f"{v / unit:.3g}{name}"
    return f"{v:.3g}"
