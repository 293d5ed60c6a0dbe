"""The board's page: one HTML file that asks nobody but the server that it came from, or nobody at all.

Its policy allows the one script and the one style that it was made with, by their hashes, and no address but its own: what a
record says can be shown and cannot be run.
"""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

SCRIPTS = ("data.js", "filter.js", "scale.js", "parallel.js", "scatter.js", "table.js", "trial.js", "main.js")


@cache
def part(*names: str) -> str:
    """The text of files of this folder, one after another."""
    return "\n".join(files("analysis.board").joinpath(name).read_text() for name in names)


def script() -> str:
    """All of its JavaScript, in one scope."""
    return f'"use strict";\n(() => {{\n{part(*SCRIPTS)}\n}})();\n'


def policy() -> str:
    """What the page may do."""
    allowed = {"script-src": script(), "style-src": part("look.css")}
    hashes = (f"{what} 'sha256-{digest(text)}'" for what, text in allowed.items())
    return f"default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; {'; '.join(hashes)}"


def digest(text: str) -> str:
    """SHA-256 as a content security policy writes it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(about: dict[str, Any], rows: dict[str, Any] | None = None) -> str:
    """The page; `rows` (a reply as the server gives it) make it one that stands alone."""
    environment = Environment(loader=PackageLoader("analysis", "board"), autoescape=True, undefined=StrictUndefined)
    view = {
        "title": about["title"],
        "policy": policy(),
        "style": part("look.css"),
        "script": script(),
        "data": embedded({"about": about, "rows": rows}),
    }
    return environment.get_template("page.html.jinja").render(**view)


def embedded(said: Any) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element or begins a comment."""
    return json.dumps(said, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
