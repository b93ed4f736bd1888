"""Runs races of optimizers on a function of two variables, each optimizer at its best learning rate.

An optimizer has arrived if the gap f(x_t) - min f stays below `tol` times the gap at the start for the rest of the
race, which must be at least a tenth of all steps. The best learning rate is the learning rate with which the optimizer
arrives first. If the optimizer arrives with no learning rate, the best is the learning rate with the smallest mean gap
over the last tenth of the steps. All learning rates run at the same time under `jax.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx import checks
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.schedules.cosine import cosine_decay_schedule
from gradtx.viz.problems import PROBLEMS, Problem
from gradtx.wrappers.value_and_step import value_and_step

__all__ = ["Race", "Racer", "race"]

_RATES = tuple(np.geomspace(1e-4, 10.0, 61).tolist())  # each is 21% larger than the previous one


class Racer(NamedTuple):
    """One optimizer in a race.

    Fields:
      label: The name under which it runs.
      rate: The best learning rate, or None if the optimizer was a transformation and ran unchanged.
      path: The points from the start on, one per row.
      gaps: f - min f at each of the points.
      arrival: The step at which the optimizer arrived, or None.
      matrix: Whether the optimizer treats the point, a 2 x 1 matrix, differently from a vector.
    """

    label: str
    rate: float | None
    path: np.ndarray
    gaps: np.ndarray
    arrival: int | None
    matrix: bool


class Race(NamedTuple):
    """The result of a race, which `plot_race` and `animate_race` draw.

    Fields:
      problem: The function of two variables.
      racers: The optimizers, in the order in which they were given.
      goal: The gap below which an optimizer has arrived.
      decay: Whether the learning rates decayed to zero over the race.
    """

    problem: Problem
    racers: tuple[Racer, ...]
    goal: float
    decay: bool


def race(
    optimizers: Mapping[str, GradientTransformation | Callable[[Any], Any]],
    problem: str | Problem = "rosenbrock",
    steps: int = 300,
    *,
    rates: Sequence[float] = _RATES,
    tol: float = 1e-4,
    decay: bool = False,
) -> Race:
    """Runs optimizers on a function of two variables, each at its best learning rate.

    An optimizer is a function of the learning rate, such as `gx.adam` or `lambda rate: gx.sgd(rate, momentum=0.9)`, or
    a transformation, such as `gx.dog()`. A function runs with all learning rates in `rates`, and only its best run
    enters the race. A transformation runs unchanged.

    The best learning rate is the learning rate with which the optimizer arrives first. To arrive means that f(x_t) -
    min f stays below `tol` times the gap at the start for the rest of the race, which must be at least a tenth of all
    steps. If an optimizer never arrives, its best learning rate is the learning rate with the smallest mean gap over
    the last tenth of the steps.

    The parameters are a 2 x 1 matrix, because some methods need matrices. Most methods treat its two entries like a
    vector. For Muon it is a matrix of rank one, so each update is the momentum divided by the norm of the momentum:
    with a constant learning rate, Muon circles the minimum at a distance of about the learning rate. The result marks
    such optimizers with `matrix=True`.

    Args:
      optimizers: A dict from a label to a transformation, or to a function of the learning rate.
      problem: "rosenbrock" (default), "beale", "himmelblau", "saddle", "ravine", or a `gx.viz.Problem`.
      steps: Number of steps, 300 by default.
      rates: The learning rates to try; by default 61 from 1e-4 to 10, equally spaced on a logarithmic scale.
      tol: The goal, as a fraction of the gap at the start. Between 0 and 1; 1e-4 by default.
      decay: Whether each learning rate in `rates` decays to zero over the race, by `gx.cosine_decay_schedule`. This
        suits methods whose steps do not get shorter near the minimum, such as Lion and Muon. Transformations run
        unchanged. False by default.

    Returns:
      A `Race`, which `gx.viz.plot_race` and `gx.viz.animate_race` draw.

    >>> import gradtx as gx
    >>> result = gx.viz.race({"sgd": gx.sgd, "newton": gx.newton()}, "ravine", steps=200)
    >>> for racer in result.racers:
    ...     print(racer.label, racer.rate and round(racer.rate, 3), racer.arrival)
    sgd 0.083 169
    newton None 1

    Raises:
      TypeError: `optimizers` is not a dict of transformations and functions, or an argument has the wrong type.
      ValueError: there is no optimizer, or no problem with that name; a number is out of range; an optimizer needs more
        than a loss function, such as residuals.
    """
    problem = _problem(problem)
    checks.integer("race", "steps", steps, ge=1)
    tried = _checked_rates(rates)
    checks.flag("race", "decay", decay)
    if not (isinstance(tol, (int, float)) and 0 < tol < 1):
        raise ValueError(f"race: tol must be a number in (0, 1), got {checks.shown(tol)}.")
    goal = tol * (float(problem.f(*problem.start)) - problem.lowest)

    def at(rate: Any) -> Any:
        return cosine_decay_schedule(rate, steps) if decay else rate

    entries = _entries(optimizers, at(float(tried[0])))
    racers = (_best(label, entry, at, problem, steps, tried, goal) for label, entry in entries.items())
    return Race(problem, tuple(racers), goal, decay)


def _best(label: str, entry: Any, at: Any, problem: Problem, steps: int, rates: np.ndarray, goal: float) -> Racer:
    """Returns an optimizer's run at its best learning rate."""
    swept = not isinstance(entry, GradientTransformation)
    tried = rates if swept else rates[:1]

    def make(rate: Any) -> GradientTransformation:
        return as_transformation("race", entry(at(rate))) if swept else entry

    paths = np.asarray(jax.jit(jax.vmap(lambda rate: _path(make(rate), problem, steps)))(jnp.asarray(tried)), float)
    gaps = _gaps(problem, paths)
    arrivals = _arrivals(gaps, goal)
    tails = gaps[:, -max(1, steps // 10) :].mean(axis=1)
    best = int(np.lexsort((tails, arrivals))[0])
    arrival = int(arrivals[best]) if arrivals[best] <= steps else None
    rate = float(tried[best]) if swept else None
    return Racer(label, rate, paths[best], gaps[best], arrival, _sees_matrix(make(float(tried[best]))))


def _gaps(problem: Problem, paths: np.ndarray) -> np.ndarray:
    """Returns the gaps along paths; infinity where a gap is not finite."""
    with np.errstate(all="ignore"):
        gaps = problem.f(paths[..., 0], paths[..., 1]) - problem.lowest
    return np.where(np.isfinite(gaps), np.maximum(gaps, 0), np.inf)


def _path(tx: GradientTransformation, problem: Problem, steps: int) -> Any:
    """Returns the points of a run, including the start."""
    start = jnp.asarray(problem.start, jnp.result_type(float)).reshape(2, 1)
    step = value_and_step(lambda point: problem.f(point[0, 0], point[1, 0]), tx)

    def body(carry: Any, _: Any) -> Any:
        params, state, _ = step(*carry)
        return (params, state), params

    _, points = jax.lax.scan(body, (start, tx.init(start)), length=steps)
    return jnp.concatenate([start[None], points])[:, :, 0]


def _arrivals(gaps: np.ndarray, goal: float) -> np.ndarray:
    """Returns the step of arrival for each row of gaps: from there on, no gap exceeds the goal; steps + 1 if none."""
    steps = gaps.shape[1] - 1
    outside = gaps > goal
    first = np.where(outside.any(axis=1), steps + 1 - np.argmax(outside[:, ::-1], axis=1), 0)
    return np.where(first <= steps - steps // 10, first, steps + 1)


def _sees_matrix(tx: GradientTransformation) -> bool:
    """Whether the state for a 2 x 1 matrix has a different structure than the state for a vector."""
    kernel, vector = (jax.ShapeDtypeStruct(shape, jnp.result_type(float)) for shape in ((2, 1), (2,)))
    return jax.tree.structure(jax.eval_shape(tx.init, kernel)) != jax.tree.structure(jax.eval_shape(tx.init, vector))


def _problem(problem: Any) -> Problem:
    if isinstance(problem, Problem):
        return problem
    return PROBLEMS[checks.choice("race", "problem", problem, tuple(PROBLEMS))]


def _checked_rates(rates: Any) -> np.ndarray:
    values = np.asarray(rates, float) if not isinstance(rates, str) else np.zeros(0)
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(
            f"race: rates must be positive numbers, such as np.geomspace(1e-4, 10, 61), got {checks.shown(rates)}."
        )
    return values


def _entries(optimizers: Any, rate: Any) -> dict[str, Any]:
    """Checks the optimizers, calls each function of the learning rate once, and returns the optimizers by label."""
    if not isinstance(optimizers, Mapping):
        raise TypeError(
            "race: optimizers must be a dict from a label to a transformation or a function of the learning rate, "
            f"such as {{'adam': gx.adam, 'dog': gx.dog()}}, got {checks.shown(optimizers)}."
        )
    if not optimizers:
        raise ValueError("race: optimizers is empty. Give at least one, as in {'adam': gx.adam}.")
    return {str(label): _entry(label, entry, rate) for label, entry in optimizers.items()}


def _entry(label: Any, entry: Any, rate: Any) -> Any:
    who = f"race: optimizers[{label!r}]"
    if not callable(entry):
        return as_transformation(who, entry)
    as_transformation(f"{who}({rate})", entry(rate))
    return entry
