"""From where on a training looks wrong. A sweep or a placement may say other bounds: no result changes, only what is told."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, ValidationError

from parrots.frozen import Frozen, one_line


class Thresholds(Frozen):
    """The bounds of the alarms (parrots/training/curves.py)."""

    steps: Annotated[int, Field(ge=1)] = 100
    """For which an expert's share has to be out of bounds, without a break; also of the running median."""
    starved: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Times its fair share of the rows that an expert gets at least."""
    swamped: Annotated[float, Field(gt=1)] = 5.0
    """And at most."""
    entropy: Annotated[float, Field(ge=0, lt=1)] = 0.10
    """Mean entropy of a token's router probabilities at least, over log E."""
    gradient: Annotated[float, Field(gt=1)] = 10.0
    """Times the running median of its norm that a gradient has at most."""

    def but(self, said: Sequence[str]) -> "Thresholds":
        """These with others by name, as `swamped=8`. ValueError in a line that says what is allowed."""
        pairs = [text.partition("=") for text in said]
        if bad := next((text for text, (_, equals, _) in zip(said, pairs, strict=True) if not equals), None):
            raise ValueError(f"{bad!r} is not NAME=VALUE, as swamped=8")
        try:
            return Thresholds.model_validate(self.model_dump() | {name.strip(): value.strip() for name, _, value in pairs})
        except ValidationError as error:
            raise ValueError(one_line(error)) from error


USUAL = Thresholds()
