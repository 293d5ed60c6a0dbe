"""What a wrong prediction costs: Huber's loss of a residual, or the binomial deviance of a share.

Each gives, for predictions of any shape that ends in R runs, its value and its first and second derivative by the prediction,
and the curvature of a parabola that lies above it and touches it (the weight of an iteratively reweighted step).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy.stats import norm

EDGE = 1e-9  # a share is kept this far from 0 and 1


class Costs(NamedTuple):
    """Arrays of the prediction's shape."""

    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    above: np.ndarray


class Errors(Protocol):
    """A cost of each run."""

    def value(self, prediction: np.ndarray) -> np.ndarray:
        """The cost alone."""

    def costs(self, prediction: np.ndarray) -> Costs:
        """The cost and its derivatives."""


@dataclass(frozen=True)
class Huber:
    """Half the square of a residual up to `delta`, linear beyond it; plain squares without a delta."""

    y_R: np.ndarray
    delta: float = np.inf

    def value(self, prediction: np.ndarray) -> np.ndarray:
        """As `scipy.special.huber`."""
        away = np.abs(self.y_R - prediction)
        near = np.minimum(away, self.delta)
        return near * (away - 0.5 * near)

    def costs(self, prediction: np.ndarray) -> Costs:
        """The value and its derivatives."""
        residual = prediction - self.y_R
        away = np.abs(residual)
        near = np.minimum(away, self.delta)
        inside = (away <= self.delta).astype(float)
        above = np.where(inside, 1.0, self.delta / np.maximum(away, 1e-300)) if np.isfinite(self.delta) else inside
        return Costs(near * (away - 0.5 * near), np.clip(residual, -self.delta, self.delta), inside, above)


@dataclass(frozen=True)
class Binomial:
    """Half the deviance of y_R, shares of n_R trials: zero for a prediction equal to the share."""

    y_R: np.ndarray
    n_R: np.ndarray

    def value(self, prediction: np.ndarray) -> np.ndarray:
        """Minus the log likelihood, less that of the shares themselves."""
        p = np.clip(prediction, EDGE, 1 - EDGE)
        y = np.clip(self.y_R, EDGE, 1 - EDGE)
        return self.n_R * (self.y_R * np.log(y / p) + (1 - self.y_R) * np.log((1 - y) / (1 - p)))

    def information(self, prediction: np.ndarray) -> np.ndarray:
        """Fisher's, of the prediction: one over the variance of the share."""
        p = np.clip(prediction, EDGE, 1 - EDGE)
        return self.n_R / (p * (1 - p))

    def costs(self, prediction: np.ndarray) -> Costs:
        """The value and its derivatives; Fisher's information for the curvature above."""
        p, information = np.clip(prediction, EDGE, 1 - EDGE), self.information(prediction)
        curvature = self.n_R * (self.y_R / p**2 + (1 - self.y_R) / (1 - p) ** 2)
        return Costs(self.value(prediction), information * (p - self.y_R), curvature, information)


@dataclass(frozen=True)
class Tobit:
    """Squares of residuals, of which some are only known to lie above (side 1) or below (-1) what is written; Tobin 1958.

    In units of the square: minus sigma^2 times the log likelihood of normal errors with this standard deviation.
    """

    y_R: np.ndarray
    side_R: np.ndarray
    sigma: float

    def value(self, prediction: np.ndarray) -> np.ndarray:
        """Half the square, or the cost of lying on the wrong side."""
        return self.costs(prediction).value

    def costs(self, prediction: np.ndarray) -> Costs:
        """The value and its derivatives."""
        residual = prediction - self.y_R
        inside = self.side_R * residual / self.sigma
        hazard = np.exp(norm.logpdf(inside) - norm.logcdf(inside))
        known = self.side_R == 0
        return Costs(
            np.where(known, residual**2 / 2, -(self.sigma**2) * norm.logcdf(inside)),
            np.where(known, residual, -self.side_R * self.sigma * hazard),
            np.where(known, 1.0, hazard * (hazard + inside)),
            np.ones_like(residual),
        )

    def spread(self, prediction_R: np.ndarray) -> float:
        """The standard deviation that these predictions leave, hidden residuals at their expected square."""
        inside = self.side_R * (prediction_R - self.y_R) / self.sigma
        hidden = self.sigma**2 * (1 - inside * np.exp(norm.logpdf(inside) - norm.logcdf(inside)))
        seen = (prediction_R - self.y_R) ** 2
        return float(np.sqrt(np.mean(np.where(self.side_R == 0, seen, hidden))))
