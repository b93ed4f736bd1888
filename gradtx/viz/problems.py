"""Functions of two variables on which optimizers race. Each function is difficult in a different way.

- Rosenbrock has a curved valley that is flat along its floor.
- Beale has a flat plain between steep corners.
- Himmelblau has four minima, all with value zero.
- The saddle is between two minima.
- The ravine is a narrow valley that runs across both axes.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["PROBLEMS", "Problem"]


class Problem(NamedTuple):
    """A function of two variables, and how a race on it is run and drawn.

    Fields:
      name: The name of the problem.
      f: The function `f(x, y)`, in operations that work on arrays.
      start: The point from which every optimizer starts.
      minima: The points at which `f` has its lowest value.
      lowest: The lowest value of `f`.
      window: The region of the plane that is drawn, as `((left, right), (bottom, top))`.
      formula: `f` in LaTeX, without dollar signs.
      source: The publication of the function and of the start.
    """

    name: str
    f: Callable[[Any, Any], Any]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    lowest: float
    window: tuple[tuple[float, float], tuple[float, float]]
    formula: str
    source: str


def _rosenbrock(x: Any, y: Any) -> Any:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _beale(x: Any, y: Any) -> Any:
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _himmelblau(x: Any, y: Any) -> Any:
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def _saddle(x: Any, y: Any) -> Any:
    return x**2 / 2 + y**4 / 4 - y**2 / 2


def _ravine(x: Any, y: Any) -> Any:
    return (x + y) ** 2 / 20 + 5 * (x - y) ** 2


_ALL = (
    Problem(
        name="rosenbrock",
        f=_rosenbrock,
        start=(-1.2, 1.0),
        minima=((1.0, 1.0),),
        lowest=0.0,
        window=((-1.7, 1.7), (-0.8, 2.0)),
        formula="(1 - x)^2 + 100\\,(y - x^2)^2",
        source="Rosenbrock, 1960, 'An Automatic Method for Finding the Greatest or Least Value of a Function'; "
        "the start is from More, Garbow and Hillstrom, 1981, 'Testing Unconstrained Optimization Software', problem 1",
    ),
    Problem(
        name="beale",
        f=_beale,
        start=(1.0, 1.0),
        minima=((3.0, 0.5),),
        lowest=0.0,
        window=((-0.5, 4.0), (-1.2, 1.6)),
        formula="(1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2",
        source="Beale, 1958, 'On an Iterative Method for Finding a Local Minimum of a Function of More than One "
        "Variable'; the start is taken from More, Garbow and Hillstrom, 1981, problem 5",
    ),
    Problem(
        name="himmelblau",
        f=_himmelblau,
        start=(0.0, -1.0),
        minima=((3.0, 2.0), (-2.805118, 3.131313), (-3.779310, -3.283186), (3.584428, -1.848127)),
        lowest=0.0,
        window=((-5.0, 5.0), (-5.0, 5.0)),
        formula="(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
        source="Himmelblau, 1972, 'Applied Nonlinear Programming'; the start is ours, near the local maximum",
    ),
    Problem(
        name="saddle",
        f=_saddle,
        start=(1.5, 1e-3),
        minima=((0.0, 1.0), (0.0, -1.0)),
        lowest=-0.25,
        window=((-1.0, 2.0), (-1.5, 1.5)),
        formula="x^2 / 2 + y^4 / 4 - y^2 / 2",
        source="Nesterov, 2004, 'Introductory Lectures on Convex Optimization', section 1.2.3: from y = 0 gradient "
        "descent ends in the saddle point at the origin; the start is ours, close to that line",
    ),
    Problem(
        name="ravine",
        f=_ravine,
        start=(-4.0, -1.0),
        minima=((0.0, 0.0),),
        lowest=0.0,
        window=((-5.0, 2.0), (-4.0, 2.0)),
        formula="(x + y)^2 / 20 + 5\\,(x - y)^2",
        source="ours: a quadratic of condition number 100, rotated so that step sizes for each coordinate do not help; "
        "compare Goodfellow, Bengio and Courville, 2016, 'Deep Learning', section 4.3.1",
    ),
)

PROBLEMS = MappingProxyType({problem.name: problem for problem in _ALL})
"""The problems by their names."""
