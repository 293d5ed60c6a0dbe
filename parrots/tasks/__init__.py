"""The tasks by name: one file in this folder each, imported when a trial asks for it."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pydantic import ValidationError

from parrots.frozen import one_line
from parrots.tasks.task import Task

KINDS = sorted(m.name for m in iter_modules(__path__) if m.name not in ("task", "store"))


def task_from(declared: Any) -> Any:
    """The task that `{"kind": ..., fields}` declares; ValueError names what is not known and what is."""
    if not isinstance(declared, dict):
        return declared
    kind = declared.get("kind")
    if kind not in KINDS:
        raise ValueError(f"no task {kind!r}; there are {', '.join(KINDS)}")
    module = vars(import_module(f"{__name__}.{kind}"))
    (cls,) = (v for v in module.values() if isinstance(v, type) and issubclass(v, Task) and v is not Task)
    try:
        return cls.model_validate(declared)
    except ValidationError as error:
        raise ValueError(one_line(error)) from error
