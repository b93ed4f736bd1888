"""The range test for the learning rate (Smith, 2017, "Cyclical Learning Rates for Training Neural Networks").

The learning rate grows from step to step while the model trains, and the loss of each batch is recorded. Here the
learning rate grows by a constant factor (in Smith's paper, by a constant amount). The test ends when the loss diverges.

The suggestion is the learning rate at which the loss falls most steeply before its minimum. For each step, a straight
line is fitted to the losses of the neighboring steps, as a function of log10 of the learning rate. The suggestion is
the learning rate of the step with the most negative slope. Steps after the lowest fitted loss are ignored, because
there the loss may fall from a spike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from gradtx import checks, leaf
from gradtx.core.transformation import GradientTransformation, as_transformation, hyperparameters
from gradtx.core.value import function
from gradtx.types import Params, State
from gradtx.viz.style import COLOURS, GREY, new_figure, style
from gradtx.wrappers.value_and_step import value_and_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RangeTest", "plot_range_test", "range_test"]


class RangeTest(NamedTuple):
    """The result of a range test.

    Fields:
      rates: The learning rates of the steps, in order.
      losses: The losses of the steps.
      smooth: The fitted loss at each step.
      slope: The change of the fitted loss when the learning rate grows by a factor of ten.
      suggestion: The learning rate at the steepest descent, or None if the loss never falls.
      diverged: Whether the test ended early because the loss diverged.
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    slope: np.ndarray
    suggestion: float | None
    diverged: bool


def range_test(
    loss_fn: Callable[..., Any],
    tx: GradientTransformation | Callable[[Any], Any],
    params: Params,
    batches: Iterable[Any],
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    has_aux: bool = False,
) -> RangeTest:
    """Trains while the learning rate grows, and suggests the learning rate at which the loss falls most steeply.

    Use it before the first long run with a new model, optimizer or batch size (Smith, 2017,
    https://arxiv.org/abs/1506.01186). The suggestion is a first guess: look at the curve, which
    `gx.viz.plot_range_test` draws. At the minimum of the curve, training is already close to divergence.

    For each step, a straight line is fitted to the losses of the neighboring steps (a tenth of all steps), as a
    function of log10 of the learning rate. The suggestion is the learning rate of the step with the most negative
    slope. Steps after the lowest fitted loss are ignored, because there the loss may fall from a spike.

    The test ends early when the loss diverges: when the loss is not finite, or when the mean loss over a tenth of the
    steps has risen too far above the lowest such mean. Too far means by more than the absolute value of the first mean,
    and by more than the mean had fallen before.

    Args:
      loss_fn: A function `(params, *batch)` that returns a real scalar, as for `gx.value_and_step`.
      tx: A transformation with a single `learning_rate`, which is replaced, or a function of the learning rate,
        such as `gx.adamw`.
      params: The initial parameters.
      batches: Batches, each a tuple of the arguments of `loss_fn` after the parameters. A list is repeated when it
        ends.
      low: The first learning rate. Positive; 1e-6 by default.
      high: The last learning rate, greater than `low`; 10 by default.
      steps: Number of steps from `low` to `high`; use more if the losses are noisy. At least 10; 100 by default.
      has_aux: Whether `loss_fn` returns a pair (loss, aux). False by default.

    Returns:
      A `RangeTest`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> x = jnp.linspace(-1, 1, 32)
    >>> loss = lambda w, x, y: jnp.mean((w[0] + w[1] * x - y) ** 2)
    >>> result = gx.viz.range_test(loss, gx.sgd, jnp.zeros(2), [(x, 3 * x + 1)], low=1e-4)
    >>> print(f"{result.suggestion:.2f}")
    0.06

    Raises:
      TypeError: an argument has the wrong type, or the loss is not a real scalar.
      ValueError: a number is out of range; `tx` has no learning rate, or several, or its state holds the learning
        rate; `batches` ends too early; the first loss is not finite.
    """
    function("range_test", "loss_fn", loss_fn)
    checks.integer("range_test", "steps", steps, ge=10)
    _check_range(low, high)
    if not isinstance(batches, Iterable):
        raise _no_batch("batches must be tuples", batches)
    make = _maker(tx)
    _check_read(make(low), make(high), params)
    rates = np.geomspace(low, high, steps)
    return _result(rates, *_train(loss_fn, make, params, rates, batches, has_aux))


def _train(
    loss_fn: Any, make: Any, params: Params, rates: np.ndarray, batches: Iterable[Any], has_aux: bool
) -> tuple[list[float], bool]:
    """Returns the losses up to the last step or to divergence, and whether the loss diverged."""

    @jax.jit
    def step(rate: Any, params: Params, state: State, *batch: Any) -> Any:
        return value_and_step(loss_fn, make(rate), has_aux)(params, state, *batch)[:3]

    state, losses = make(float(rates[0])).init(params), []
    for rate, batch in zip(rates, _repeated(batches, len(rates)), strict=True):
        params, state, value = step(rate, params, state, *batch)
        losses.append(float(value))
        if _diverges(losses, len(rates)):
            return losses, True
    return losses, False


def _diverges(losses: list[float], steps: int) -> bool:
    """Whether the latest loss is not finite, or the mean of the latest losses is far above the lowest such mean."""
    few = max(5, steps // 10)
    if not np.isfinite(losses[-1]):
        return True
    if len(losses) < few:
        return False
    means = np.convolve(losses, np.full(few, 1 / few), "valid")
    return bool(means[-1] > means.min() + max(abs(means[0]), means[0] - means.min()))


def _result(rates: np.ndarray, losses: list[float], diverged: bool) -> RangeTest:
    """Fits a line to the losses around each step: up to a twentieth of all steps on each side."""
    if not np.isfinite(losses[0]):
        raise ValueError(f"range_test: the loss is {losses[0]} before the first step. Check params and the batch.")
    half, n = max(2, len(rates) // 20), len(losses)
    logs, y = np.log10(rates[:n]), np.asarray(losses)
    smooth, slope = np.full((2, n), np.nan)
    for i in range(n):
        near = [k for k in range(max(0, i - half), min(n, i + half + 1)) if np.isfinite(y[k])]
        if len(near) > half:
            slope[i], smooth[i] = np.polyfit(logs[near] - logs[i], y[near], 1)
    lowest = int(np.nanargmin(smooth)) if np.isfinite(smooth).any() else 0
    # only steps up to the lowest fitted loss, with neighbours on both sides
    slopes = np.nan_to_num(slope[half : min(lowest + 1, n - half)], nan=np.inf)
    falls = bool(len(slopes)) and slopes.min() < 0
    suggestion = float(rates[half + int(np.argmin(slopes))]) if falls else None
    return RangeTest(rates[:n], y, smooth, slope, suggestion, diverged)


def _maker(tx: Any) -> Callable[[Any], GradientTransformation]:
    if not isinstance(tx, GradientTransformation) and callable(tx):
        return lambda rate: as_transformation("range_test", tx(rate))
    tx = as_transformation("range_test", tx)
    names = [name for name in hyperparameters(tx) if name.rpartition(".")[2] == "learning_rate"]
    if len(names) != 1:
        raise ValueError(
            f"range_test: tx must have one learning_rate, and has {len(names)}{': ' * bool(names)}{', '.join(names)}. "
            "Give a function of the learning rate instead, such as lambda rate: gx.adamw(rate, weight_decay=0.1)."
        )
    return lambda rate: tx.replace(learning_rate=rate)


def _check_read(low: GradientTransformation, high: GradientTransformation, params: Params) -> None:
    """Raises if the state holds the learning rate, like the state of `inject_hyperparams`, so that it never changes."""

    def differ(state: State) -> bool:
        one, other = (hyperparameters(tx, state).values() for tx in (low, high))
        return not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    if differ(None) and not differ(low.init(params)):
        raise ValueError(
            "range_test: the state of tx holds the learning rate, so it would stay the same. Give the transformation "
            "without inject_hyperparams, such as gx.adam: the test sets its learning rate."
        )


def _repeated(batches: Iterable[Any], steps: int) -> Iterator[tuple[Any, ...]]:
    """Yields a batch for each step; repeats the batches when they end."""
    taken = 0
    while True:
        before = taken
        for batch in batches:
            if not isinstance(batch, (tuple, list)):
                raise _no_batch("each batch must be a tuple", batch)
            yield tuple(batch)
            taken += 1
            if taken == steps:
                return
        if taken == before or iter(batches) is batches:
            raise ValueError(
                f"range_test: batches ended after {taken} of {steps} steps. Pass more batches, or a list, which is "
                "repeated."
            )


def _no_batch(what: str, got: Any) -> TypeError:
    return TypeError(
        f"range_test: {what} of the arguments of loss_fn after the parameters, as in [(x, y), ...], got "
        f"{checks.shown(got)}."
    )


def _check_range(low: Any, high: Any) -> None:
    if not all(leaf.is_number(x) for x in (low, high)) or not 0 < low < high < np.inf:
        raise ValueError(
            f"range_test: low and high must be positive numbers, low less than high, got {checks.shown(low)} and "
            f"{checks.shown(high)}."
        )


@style()
def _drawn(result: RangeTest) -> Figure:
    rates, losses = result.rates, result.losses
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    axes.plot(rates, losses, linestyle="-", linewidth=0.8, color=COLOURS[0], alpha=0.5, label="loss of each batch")
    axes.plot(rates, result.smooth, linestyle="-", linewidth=2, color=COLOURS[0], label="fitted")
    finite = losses[np.isfinite(losses)]
    top = np.max(finite[: 1 + int(np.argmin(finite))])
    room = 0.1 * (top - finite.min()) or 1.0
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(finite.min() - room, top + 3 * room))
    axes.grid()
    if result.suggestion is not None:
        at = int(np.argmin(np.abs(rates - result.suggestion)))
        axes.axvline(result.suggestion, color=COLOURS[1], linestyle="--", linewidth=1.2)
        axes.plot(result.suggestion, result.smooth[at], "o", color=COLOURS[1], zorder=5)
        label = f"steepest descent: {result.suggestion:.2g} "
        axes.text(result.suggestion, top + 2.8 * room, label, color=COLOURS[1], ha="right", va="top")
    if result.diverged:
        axes.axvline(rates[-1], color=GREY, linestyle=":", linewidth=1.2)
        axes.text(rates[-1], finite.min(), f"diverges at {rates[-1]:.2g} ", color=GREY, ha="right", rotation=90)
    axes.legend(loc="lower left")
    return figure


def plot_range_test(result: RangeTest) -> Figure:
    """Draws the loss of a range test against the learning rate, and marks the suggestion and the divergence.

    Args:
      result: The result of `gx.viz.range_test`.

    Returns:
      A matplotlib figure; save it with `figure.savefig`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> loss = lambda w: jnp.sum((w - 1) ** 2)
    >>> figure = gx.viz.plot_range_test(gx.viz.range_test(loss, gx.sgd, jnp.zeros(2), [()], low=1e-4))
    >>> figure.axes[0].get_xlabel()
    'learning rate'

    Raises:
      TypeError: `result` is not a result of `gx.viz.range_test`.
      ImportError: matplotlib is not installed.
    """
    if not isinstance(result, RangeTest):
        raise TypeError(f"plot_range_test: result must be a result of range_test, got {checks.shown(result)}.")
    return _drawn(result)
