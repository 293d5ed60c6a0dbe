"""Everything that a trial is made of is declared on `Frozen`: immutable, typed, validated once, and with one canonical JSON."""

import json
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator


class Frozen(BaseModel):
    """An immutable value. An unknown field, a wrong type or a value out of range is a ValueError at construction."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, given: Any) -> Any:
        if isinstance(given, dict) and (unknown := given.keys() - cls.model_fields.keys()):
            raise ValueError(f"no field {min(unknown)!r}; there are {', '.join(cls.model_fields)}")
        return given


ALWAYS = object()
"""In place of a field's default where the field is said whatever its value."""


@lru_cache
def _defaults(kind: type[BaseModel]) -> tuple[tuple[str, Any], ...]:
    """The fields of a class and their defaults."""
    fields = kind.model_fields.items()
    return tuple((name, ALWAYS if name == "kind" or one.is_required() else one.get_default()) for name, one in fields)


def canonical(value: Any) -> Any:
    """What identifies `value`, as plain JSON data: every field that differs from its default, and each `kind`.

    Defaults are left out so that a new option does not rename the trials that were run before it existed.
    """
    if isinstance(value, BaseModel):
        said = ((name, getattr(value, name), default) for name, default in _defaults(type(value)))
        return {name: canonical(v) for name, v, default in said if default is ALWAYS or v != default}
    if isinstance(value, (tuple, list)):
        return [canonical(v) for v in value]
    return value


def canonical_json(value: Any) -> str:
    """`canonical(value)` as one line: keys sorted, no spaces, the shortest digits that give each float back."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def one_line(error: ValidationError) -> str:
    """The first thing wrong, as `field=value: what is allowed`, for people rather than for debuggers."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ").splitlines()[0]
    given = first["input"]
    if first["type"] != "missing" and not isinstance(given, (dict, BaseModel)):
        where += f"={given!r}"
    return f"{where}: {said}" if where else said


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
