"""Everything that a trial is made of is declared on `Frozen`: immutable, typed, validated once, and with one canonical JSON."""

import json
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


def canonical(value: Any) -> Any:
    """What identifies `value`, as plain JSON data: every field that differs from its default, and each `kind`.

    Defaults are left out so that a new option does not rename the trials that were run before it existed.
    """
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        said = {name: getattr(value, name) for name in fields}
        return {
            k: canonical(v) for k, v in said.items() if k == "kind" or fields[k].is_required() or v != fields[k].get_default()
        }
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
