"""The problems of nonlinear regression of NIST StRD, recorded by `tests/record_nist.py`: 27 models, two starts each.

`digits` is NIST's measure, the log relative error: the number of correct leading digits of the worst parameter, at most
the eleven certified digits.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tests.record_nist import FILE

CERTIFIED_DIGITS = 11


def _gaussians(b: Any, x: Array) -> Array:
    bells = [b[i] * jnp.exp(-(((x - b[i + 1]) / b[i + 2]) ** 2)) for i in (2, 5)]
    return b[0] * jnp.exp(-b[1] * x) + bells[0] + bells[1]


def _exponentials(b: Any, x: Array) -> Array:
    return b[0] * jnp.exp(-b[1] * x) + b[2] * jnp.exp(-b[3] * x) + b[4] * jnp.exp(-b[5] * x)


def _rational(above: int) -> Callable[[Any, Array], Array]:
    """A quotient of polynomials; the first `above` parameters belong to the numerator."""

    def model(b: Any, x: Array) -> Array:
        top = sum(b[i] * x**i for i in range(above))
        return top / (1 + sum(b[above + i] * x ** (i + 1) for i in range(above - 1)))

    return model


def _waves(b: Any, x: Array) -> Array:
    """A sum of waves with a period of a year and with two periods that are parameters."""
    total = b[0]
    for period, cosine, sine in ((12.0, b[1], b[2]), (b[3], b[4], b[5]), (b[6], b[7], b[8])):
        angle = 2 * jnp.pi * x / period
        total = total + cosine * jnp.cos(angle) + sine * jnp.sin(angle)
    return total


MODELS: dict[str, Callable[..., Array]] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Chwirut1": lambda b, x: jnp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "Chwirut2": lambda b, x: jnp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": _waves,
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": _gaussians,
    "Gauss2": _gaussians,
    "Gauss3": _gaussians,
    "Hahn1": _rational(4),
    "Kirby2": _rational(3),
    "Lanczos1": _exponentials,
    "Lanczos2": _exponentials,
    "Lanczos3": _exponentials,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1a": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x, z: b[0] - b[1] * x * jnp.exp(-b[2] * z),  # of the logarithm of the response
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi,
    "Thurber": _rational(4),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One data set; `starts` has shape (2, parameters)."""

    name: str
    level: str
    starts: np.ndarray
    certified: np.ndarray
    deviation: np.ndarray
    sum_of_squares: float
    data: tuple[np.ndarray, ...]

    def residual(self, b: Any) -> Array:
        """Returns the model minus the response; the parameters are the entries of `b`."""
        y, *x = (jnp.asarray(column) for column in self.data)
        return MODELS[self.name](b, *x) - (jnp.log(y) if self.name == "Nelson" else y)

    def digits(self, params: Any) -> float:
        """Returns the number of correct digits of the worst parameter, from 0 to 11."""
        error = np.max(np.abs(np.asarray(params) - self.certified) / np.abs(self.certified))
        return _digits(error)

    def digits_of_sum(self, value: Any) -> float:
        """Returns the number of correct digits of the residual sum of squares, which is twice the value."""
        return _digits(abs(2 * float(value) / self.sum_of_squares - 1))


def _digits(error: float) -> float:
    if not np.isfinite(error):
        return 0.0
    return float(np.clip(-np.log10(max(error, 10.0**-CERTIFIED_DIGITS)), 0, CERTIFIED_DIGITS))


def _load() -> dict[str, Problem]:
    arrays = ("starts", "certified", "deviation")
    return {
        name: Problem(
            name=name,
            level=entry["level"],
            sum_of_squares=entry["sum_of_squares"],
            data=tuple(map(np.asarray, entry["data"])),
            **{key: np.asarray(entry[key]) for key in arrays},
        )
        for name, entry in json.loads(FILE.read_text()).items()
    }


PROBLEMS = _load()
STARTS = [(problem, start) for problem in PROBLEMS.values() for start in (0, 1)]


def together() -> tuple[Callable[[Any, Array], Array], Array, Array]:
    """Returns all 54 starts as one batch, so that they compile once: `(residual(params, index), starts, indices)`.

    Starts are padded with zeros (parameters that no residual uses), and residuals are padded with zeros.
    """
    width = max(problem.certified.size for problem in PROBLEMS.values())
    height = max(problem.data[0].size for problem in PROBLEMS.values())

    def branch(problem: Problem) -> Callable[[Any], Array]:
        return lambda b: jnp.pad(problem.residual(b), (0, height - problem.data[0].size))

    branches = [branch(problem) for problem in PROBLEMS.values()]
    starts = np.zeros((len(STARTS), width))
    for i, (problem, start) in enumerate(STARTS):
        starts[i, : problem.certified.size] = problem.starts[start]
    indices = jnp.arange(len(STARTS)) // 2
    return (lambda b, index: jax.lax.switch(index, branches, b)), jnp.asarray(starts), indices
