"""The module `optax.experimental.aggregating`: transformations of per-example gradients.

For most programs, `gx.average_per_element_updates` or `gx.add_mean_variance_to_opt` is enough. The transformations here
have the names of optax's; combine them with `process`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

import gradtx as gx
from gradtx.compat.optax.spelled import GradientTransformationExtraArgs, lenient
from gradtx.compat.optax.transforms import chain
from gradtx.core.branch import branch
from gradtx.core.state import EmptyState
from gradtx.core.transformation import as_transformation

__all__ = [
    "AccumulateAvgUpdatesState",
    "AggregatedUpdates",
    "Aggregator",
    "AggregatorUpdateFn",
    "MaybeAxis",
    "PerElementMeanAndSumSqDiffGradsState",
    "PerElementMeanAndVarianceEMAState",
    "PerElementUpdates",
    "accumulate_avg_updates",
    "add_mean_variance_to_opt",
    "average_incrementally_updates",
    "average_per_element_updates",
    "get_batch_size_from_per_elt_updates",
    "get_per_element_mean_and_sum_sq_diff_grads",
    "get_unbiased_mean_and_variance_ema",
    "process",
    "track_per_element_mean_and_variance_with_ema",
]

PerElementUpdates = Any
"""A tree like the parameters whose leaves have axes of examples in addition."""

AggregatedUpdates = Any
"""A tree like the parameters."""

MaybeAxis = int | Sequence[int] | None
"""The axes of the examples; None if no axis holds examples."""


class AggregatorUpdateFn(Protocol):
    """The `update` of an aggregator."""

    def __call__(self, per_elt_updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Returns the aggregated updates and the next state."""
        ...


class Aggregator(GradientTransformationExtraArgs):
    """A transformation from per-example gradients to updates like the parameters.

    Args:
      init: Function of the parameters that returns the state before the first step.
      update: Function `update(per_elt_updates, state, params=None)` that returns the aggregated updates and the next
        state.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.experimental.aggregating.average_per_element_updates()
      >>> print(tx.update(jnp.array([[1.0], [3.0]]), tx.init(jnp.zeros(1)))[0])
      [2.]
    """

    def __init__(self, init: Callable[..., Any], update: Callable[..., Any]) -> None:
        super().__init__(init, update)


def process(preprocessor: Any, aggregator: Any, postprocessor: Any, aggregator_has_aux: bool = False) -> Any:
    """Applies a transformation to per-example gradients, then an aggregator, then an optimizer.

    While the aggregator's state says that it is not `ready`, the update is zero and the optimizer's state does not
    change.

    Args:
      preprocessor: Transformation of the per-example gradients, such as a clip.
      aggregator: Transformation from per-example gradients to updates like the parameters.
      postprocessor: The optimizer.
      aggregator_has_aux: Whether the aggregator returns a pair of the updates and a dict of extra arguments for the
        optimizer. Default False.

    Returns:
      A transformation. State: a tuple of the three states.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> agg = optax.experimental.aggregating
      >>> tx = agg.process(optax.identity(), agg.average_per_element_updates(), optax.sgd(1.0))
      >>> print(tx.update(jnp.array([[1.0], [3.0]]), tx.init(jnp.zeros(1)))[0])
      [-2.]
    """
    before, middle, after = (
        lenient(as_transformation("process", tx)) for tx in (preprocessor, aggregator, postprocessor)
    )

    def init(params: Any) -> Any:
        return before.init(params), middle.init(params), after.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        first, second, last = state
        updates, first = before.update(updates, first, params, **extra)
        updates, second = middle.update(updates, second, params, **extra)
        if aggregator_has_aux:
            updates, more = updates
            extra = {**extra, **more}
        given, ready = updates, gx.tree.get(second, "ready", True)
        updates, last = branch(
            "process",
            ready,
            lambda: after.update(given, last, params, **extra),
            lambda: (gx.tree.zeros_like(given), last),
        )
        return updates, (first, second, last)

    kind = Aggregator if isinstance(aggregator, Aggregator) else GradientTransformationExtraArgs
    return kind(init, update)


def average_per_element_updates(per_elt_axis: Any = 0) -> Aggregator:
    """Averages per-example gradients over the axes of the examples.

    Args:
      per_elt_axis: Axis of the examples in every leaf, or a sequence of several axes (default 0).

    Returns:
      A transformation without state.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.experimental.aggregating.average_per_element_updates()
      >>> print(tx.update(jnp.array([[1.0], [3.0]]), tx.init(jnp.zeros(1)))[0])
      [2.]
    """
    return Aggregator._around(gx.average_per_element_updates(per_elt_axis))


class AccumulateAvgUpdatesState(NamedTuple):
    """The number of micro-batches so far, whether the latest micro-batch completed a step, and the mean so far."""

    micro_step: Any
    ready: Any
    avg_grad: Any


def _running_mean(mean: Any, new: Any, count: Any) -> Any:
    """Returns the mean of `count` trees: `new` is the latest tree, and `mean` is the mean of the others."""
    return jax.tree.map(lambda m, x: m + (x - m) / count, mean, new)


def _emitted(done: Any, result: Any, kept: Any) -> tuple[Any, Any]:
    """Returns the result and the values to keep for the next micro-batch.

    If `done`, the kept values are zeros; otherwise the result is zeros.
    """
    return jax.tree.map(lambda x: jnp.where(done, x, jnp.zeros_like(x)), result), jax.tree.map(
        lambda x: jnp.where(done, jnp.zeros_like(x), x), kept
    )


def _check_steps(who: str, steps: int) -> None:
    if steps < 1:
        raise ValueError(f"{who}: accumulation_steps must be at least 1, got {steps}.")


def accumulate_avg_updates(accumulation_steps: int) -> Any:
    """Averages `accumulation_steps` updates: the last call returns the mean, all other calls return zeros.

    Args:
      accumulation_steps: Number of updates to average. At least 1.

    Returns:
      A transformation. State: one array per parameter and two numbers; none for one step.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.experimental.aggregating.accumulate_avg_updates(2)
      >>> _, state = tx.update(jnp.array(1.0), tx.init(jnp.zeros(())))
      >>> print(tx.update(jnp.array(3.0), state)[0])
      2.0
    """
    _check_steps("accumulate_avg_updates", accumulation_steps)
    if accumulation_steps == 1:
        return lenient(gx.identity())

    def init(params: Any) -> AccumulateAvgUpdatesState:
        return AccumulateAvgUpdatesState(jnp.zeros((), jnp.int32), jnp.array(False), gx.tree.zeros_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        step = state.micro_step + 1
        done, mean = step == accumulation_steps, _running_mean(state.avg_grad, updates, step)
        updates, (step, mean) = _emitted(done, mean, (step, mean))
        return updates, AccumulateAvgUpdatesState(step, done, mean)

    return lenient(gx.GradientTransformation(init, update))


def average_incrementally_updates(per_elt_axis: Any, accumulation_steps: int) -> Any:
    """Averages per-example gradients over the axes of the examples and over `accumulation_steps` micro-batches.

    Args:
      per_elt_axis: Axis of the examples in every leaf, or a sequence of several axes; None if there is no such axis.
      accumulation_steps: Number of micro-batches to average. At least 1.

    Returns:
      A transformation. State: one array per parameter and two numbers; none for one step.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.experimental.aggregating.average_incrementally_updates(0, 1)
      >>> print(tx.update(jnp.array([[1.0], [3.0]]), tx.init(jnp.zeros(1)))[0])
      [2.]
    """
    accumulated = accumulate_avg_updates(accumulation_steps)
    if per_elt_axis is None:
        return accumulated
    return Aggregator._around(gx.chain(gx.average_per_element_updates(per_elt_axis), accumulated.inner))


def get_batch_size_from_per_elt_updates(per_elt_updates: Any, per_elt_axis: int | Sequence[int]) -> int:
    """Returns the number of examples along the axes of every leaf.

    Args:
      per_elt_updates: Tree of per-example gradients.
      per_elt_axis: Axis of the examples in every leaf, or a sequence of several axes.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> optax.experimental.aggregating.get_batch_size_from_per_elt_updates(jnp.zeros((4, 2)), 0)
      4

    Raises:
      ValueError: The leaves have different numbers of examples.
    """
    axes = (per_elt_axis,) if isinstance(per_elt_axis, int) else per_elt_axis
    sizes = {math.prod(x.shape[i] for i in axes) for x in jax.tree.leaves(per_elt_updates)}
    if len(sizes) != 1:
        raise ValueError(
            f"get_batch_size_from_per_elt_updates: the leaves have {sorted(sizes)} examples along the axes {axes}. "
            "Give all leaves the same number of them."
        )
    return sizes.pop()


class PerElementMeanAndSumSqDiffGradsState(NamedTuple):
    """The fields of `AccumulateAvgUpdatesState`, and the sum of squared deviations from the mean."""

    micro_step: Any
    ready: Any
    mean_grads: Any
    sum_sq_diff_grads: Any


def get_per_element_mean_and_sum_sq_diff_grads(
    per_elt_axis: int | Sequence[int] = 0, accumulation_steps: int = 1
) -> Aggregator:
    """Averages over examples and micro-batches; also returns the sum of squared deviations and the sample size.

    The updates are a pair: the mean, and a dict with `sum_sq_diff_grads` and `sample_size`.

    Args:
      per_elt_axis: Axis of the examples in every leaf, or a sequence of several axes (default 0).
      accumulation_steps: Number of micro-batches in a step (default 1). At least 1.

    Returns:
      An aggregator. State: two arrays per parameter and two numbers; none for one step.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.experimental.aggregating.get_per_element_mean_and_sum_sq_diff_grads()
      >>> (mean, more), _ = tx.update(jnp.array([[1.0], [3.0]]), tx.init(jnp.zeros(1)))
      >>> print(mean, more["sum_sq_diff_grads"], more["sample_size"])
      [2.] [2.] 2
    """
    _check_steps("get_per_element_mean_and_sum_sq_diff_grads", accumulation_steps)

    def of_batch(updates: Any) -> tuple[Any, Any, int]:
        mean = jax.tree.map(lambda x: jnp.mean(x, axis=per_elt_axis), updates)
        squares = jax.tree.map(lambda x: jnp.var(x, axis=per_elt_axis), updates)
        size = get_batch_size_from_per_elt_updates(updates, per_elt_axis)
        return mean, jax.tree.map(lambda x: x * size, squares), size

    def init(params: Any) -> Any:
        if accumulation_steps == 1:
            return EmptyState()
        zeros = gx.tree.zeros_like(params)
        return PerElementMeanAndSumSqDiffGradsState(
            jnp.zeros((), jnp.int32), jnp.array(False), zeros, gx.tree.zeros_like(params)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        mean, squares, size = of_batch(updates)
        if accumulation_steps == 1:
            return (mean, {"sum_sq_diff_grads": squares, "sample_size": size}), state
        before, step = state.micro_step, state.micro_step + 1
        apart = jax.tree.map(jnp.subtract, mean, state.mean_grads)
        squares = jax.tree.map(
            lambda a, b, d: a + b + d**2 * (before * size / step), state.sum_sq_diff_grads, squares, apart
        )
        mean, done = _running_mean(state.mean_grads, mean, step), step == accumulation_steps
        more = {"sum_sq_diff_grads": squares, "sample_size": size * step}
        result, kept = _emitted(done, (mean, more), (step, mean, squares))
        return result, PerElementMeanAndSumSqDiffGradsState(kept[0], done, *kept[1:])

    return Aggregator(init, update)


class PerElementMeanAndVarianceEMAState(NamedTuple):
    """The number of steps, the decay rate, and the moving averages of the mean and of the variance."""

    count: Any
    ema_decay: Any
    mean_grads_ema: Any
    variance_grads_ema: Any


def track_per_element_mean_and_variance_with_ema(ema_decay: Any = 0.9) -> GradientTransformationExtraArgs:
    """Keeps moving averages of the updates and of their variance, and leaves the updates unchanged.

    `update` needs the extra arguments `sum_sq_diff_grads` and `sample_size`, which `process` passes on from the
    aggregator.

    Args:
      ema_decay: Decay rate of the moving averages; closer to 1 averages over more steps. Default 0.9 (about the last 10
        steps).

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.experimental.aggregating.track_per_element_mean_and_variance_with_ema(0.0)
      >>> g = jnp.array([2.0])
      >>> print(tx.update(g, tx.init(g), sum_sq_diff_grads=g, sample_size=3)[1].variance_grads_ema)
      [1.]
    """

    def init(params: Any) -> PerElementMeanAndVarianceEMAState:
        zeros = gx.tree.zeros_like
        return PerElementMeanAndVarianceEMAState(
            jnp.zeros((), jnp.int32), jnp.asarray(ema_decay), zeros(params), zeros(params)
        )

    def update(updates: Any, state: Any, params: Any = None, *, sum_sq_diff_grads: Any, sample_size: Any) -> Any:
        del params
        decay = state.ema_decay
        variance = jax.tree.map(lambda x: x / (sample_size - 1), sum_sq_diff_grads)
        new, old = (updates, variance), (state.mean_grads_ema, state.variance_grads_ema)
        averages = jax.tree.map(lambda x, m: ((1 - decay) * x + decay * m).astype(m.dtype), new, old)
        return updates, PerElementMeanAndVarianceEMAState(gx.safe_increment(state.count), decay, *averages)

    return GradientTransformationExtraArgs(init, update)


def get_unbiased_mean_and_variance_ema(state: Any) -> tuple[Any, Any]:
    """Returns the moving averages in a state, with bias correction.

    Args:
      state: A state that contains a `PerElementMeanAndVarianceEMAState` at any depth.

    Returns:
      The moving averages of the mean and of the variance, each a tree like the parameters.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> agg = optax.experimental.aggregating
      >>> tx = agg.add_mean_variance_to_opt(optax.sgd(1.0))
      >>> _, state = tx.update(jnp.array([[1.0], [3.0]]), tx.init(jnp.zeros(1)))
      >>> print(agg.get_unbiased_mean_and_variance_ema(state)[1])
      [2.]

    Raises:
      ValueError: The state contains no `PerElementMeanAndVarianceEMAState`.
    """
    found = gx.tree.get(state, "PerElementMeanAndVarianceEMAState")
    if found is None:
        raise ValueError(
            "get_unbiased_mean_and_variance_ema: the state has no PerElementMeanAndVarianceEMAState. Make the "
            "transformation with add_mean_variance_to_opt."
        )
    left = 1 - found.ema_decay**found.count
    return jax.tree.map(lambda x: x / left, (found.mean_grads_ema, found.variance_grads_ema))


def add_mean_variance_to_opt(
    opt: Any, ema_decay: Any = 0.9, per_elt_axis: int | Sequence[int] = 0, accumulation_steps: int = 1
) -> Any:
    """Steps `opt` with the mean of per-example gradients, and keeps moving averages of their mean and variance.

    Args:
      opt: The optimizer, such as `optax.adamw(1e-3)`.
      ema_decay: Decay rate of the moving averages; closer to 1 averages over more steps. Default 0.9 (about the last 10
        steps).
      per_elt_axis: Axis of the examples in every leaf, or a sequence of several axes (default 0).
      accumulation_steps: Number of micro-batches in a step (default 1). At least 1.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32), or four with several accumulation steps,
        in addition to the state of `opt`.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.experimental.aggregating.add_mean_variance_to_opt(optax.sgd(1.0))
      >>> print(tx.update(jnp.array([[1.0], [3.0]]), tx.init(jnp.zeros(1)))[0])
      [-2.]
    """
    return process(
        gx.identity(),
        get_per_element_mean_and_sum_sq_diff_grads(per_elt_axis, accumulation_steps),
        chain(track_per_element_mean_and_variance_with_ema(ema_decay), opt),
        aggregator_has_aux=True,
    )
