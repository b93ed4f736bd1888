"""Tracks the mean and the variance of per-example gradients, while an optimizer steps with the mean.

    m = sum_i g_i / n,    v = sum_i |g_i - m|^2 / (n - 1)            over the n examples of a step, entry by entry

    M <- decay * M + (1 - decay) * m,    V <- decay * V + (1 - decay) * v

If a step accumulates k batches of b examples, sums of squares S are combined batch by batch (Chan, Golub and LeVeque,
1983, "Algorithms for Computing the Sample Variance"). For batch j with the mean m_j and the sum of squares S_j, and
with the mean m of the batches before batch j:

    S <- S + S_j + |m_j - m|^2 * b (j - 1) / j,    m <- m + (m_j - m) / j
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.composite import Wrapper
from gradtx.core.fits import UNKNOWN, Owner
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.skipping import unless_skipped
from gradtx.core.slots import child_state, counter, per_param, per_tree
from gradtx.core.state import counted
from gradtx.core.value import integer, static
from gradtx.transforms.average_examples import check_axes, examples, mean_of
from gradtx.types import Params, State, Updates

__all__ = ["GradientVarianceState", "add_mean_variance_to_opt", "get_unbiased_mean_and_variance_ema"]


class GradientVarianceState(NamedTuple):
    """The step counts, the mean and sum of squares of the unfinished step, the moving averages, and the inner state.

    `micro_step` counts the batches of the unfinished step. `weight` is the bias-correction divisor: the moving averages
    start at zero and are divided by `weight` when they are read.
    """

    count: Array = counter()
    micro_step: Array = counter()
    mean_grads: Any = per_param(when="accumulates")
    sum_sq_diff_grads: Any = per_param(real=True, signed=False, when="accumulates")
    weight: Array = per_tree(signed=False)
    mean_grads_ema: Any = per_param()
    variance_grads_ema: Any = per_param(real=True, signed=False)
    inner_state: Any = child_state()


class add_mean_variance_to_opt(Wrapper, state=GradientVarianceState):
    """Steps with the mean of per-example gradients, and keeps moving averages of their mean and variance.

    Use it to see how noisy the gradient is. A batch is large enough if the variance divided by the batch size is small
    compared to the squared mean. Pass per-example gradients as the updates: each leaf needs an axis of examples, as in
    the result of `jax.vmap(jax.grad(loss), in_axes=(None, 0))`. Read the averages with
    `get_unbiased_mean_and_variance_ema(state)`.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It gets the mean of the per-example gradients.
      ema_decay: Decay rate of the moving averages; with 0 they are the values of the latest step. In [0, 1); default
        0.9 (about the last 10 steps).
      per_elt_axis: Axis of the examples in each leaf, or a sequence of several axes (default 0).
      accumulation_steps: Number of calls of `update` that make one step (default 1). At least 1. The update of the
        other calls is zero.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32), or four with more than one accumulation
        step (16 bytes in float32), in addition to the inner state.

    Raises:
      ValueError: The leaves have different numbers of examples, or a step has only one example, so the variance is
        undefined.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.add_mean_variance_to_opt(gx.sgd(1.0))
      >>> updates, state = tx.update(jnp.array([[1.0, 2.0], [3.0, 2.0]]), tx.init(jnp.zeros(2)))
      >>> print(updates, *gx.get_unbiased_mean_and_variance_ema(state))
      [-2. -2.] [2. 2.] [2. 0.]
    """

    ema_decay: Hyper = hyper(default=0.9, ge=0, lt=1)
    per_elt_axis: tuple[int, ...] = static(default=(0,), check=check_axes)
    accumulation_steps: int = integer(default=1, ge=1)

    @property
    def accumulates(self) -> bool:
        """Whether a step takes several calls of `update`."""
        return self.accumulation_steps > 1

    @property
    def reshapes(self) -> bool:
        return True  # the outgoing updates lack the axes of the examples

    def _check_trees(self, updates: Any, params: Any) -> None:
        """Checks only the axes of examples; other checks would fail, as the parameters lack these axes."""
        n = examples(type(self).__name__, updates, self.per_elt_axis)
        if jax.tree.leaves(updates) and n * self.accumulation_steps < 2:
            raise ValueError(
                f"{type(self).__name__}: a step has {n * self.accumulation_steps} examples along per_elt_axis="
                f"{self.per_elt_axis}, and a variance needs two. Give a larger batch, or more accumulation_steps."
            )

    def _check_fits(self, state: State, owner: Owner) -> None:
        super()._check_fits(state, owner._replace(like=UNKNOWN) if owner.name == "updates" else owner)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        n = examples(type(self).__name__, updates, self.per_elt_axis)
        mean = jax.tree.map(lambda g: mean_of(g, self.per_elt_axis), updates)
        squares = jax.tree.map(self._squares, updates)
        dtypes = jax.tree.map(jnp.result_type, updates)
        if not self.accumulates:
            gradient = jax.tree.map(leaf.narrow, mean, dtypes)
            return self._taken(gradient, mean, squares, n, state, params, extra)
        batches = counted(state.micro_step)
        apart = jax.tree.map(lambda m, old: m - old, mean, state.mean_grads)
        mean = jax.tree.map(lambda old, d: old + d / batches.astype(d.real.dtype), state.mean_grads, apart)
        ratio = jax.tree.map(lambda s: (n * state.micro_step).astype(s.dtype) / batches.astype(s.dtype), squares)
        between = jax.tree.map(lambda d, r: leaf.abs_sq(d) * r, apart, ratio)
        squares = jax.tree.map(lambda a, b, c: leaf.saturated(a + b + c), state.sum_sq_diff_grads, squares, between)
        waiting = state._replace(micro_step=batches, mean_grads=mean, sum_sq_diff_grads=squares)
        zeros = jax.tree.map(jnp.zeros_like, (batches, mean, squares))
        fresh = state._replace(micro_step=zeros[0], mean_grads=zeros[1], sum_sq_diff_grads=zeros[2])
        total, done = n * self.accumulation_steps, batches == self.accumulation_steps

        def take(gradient: Any) -> tuple[Any, Any]:
            return self._taken(gradient, mean, squares, total, fresh, params, extra)

        gradient = jax.tree.map(leaf.narrow, mean, dtypes)
        return unless_skipped(type(self).__name__, done, gradient, waiting, take)

    def _squares(self, g: Any) -> Array:
        """Returns the sum over the examples of the squared deviations from the mean."""
        apart = leaf.widen(jnp.asarray(g)) - mean_of(g, self.per_elt_axis, keepdims=True)
        return leaf.saturated(jnp.sum(leaf.abs_sq(apart), axis=self.per_elt_axis))

    def _taken(
        self, gradient: Any, mean: Any, squares: Any, n: int, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Takes the inner step, and returns its updates and the state with the new averages."""
        decay = self.at(state.count).ema_decay

        def blend(old: Array, new: Array) -> Array:
            return leaf.moment(old, new, decay)

        variance = jax.tree.map(lambda s: s / (n - 1), squares)
        updates, inner_state = self.inner_update(gradient, state.inner_state, params, extra)
        return updates, state._replace(
            count=counted(state.count),
            weight=blend(state.weight, jnp.ones_like(state.weight)),
            mean_grads_ema=jax.tree.map(blend, state.mean_grads_ema, mean),
            variance_grads_ema=jax.tree.map(blend, state.variance_grads_ema, variance),
            inner_state=inner_state,
        )


def get_unbiased_mean_and_variance_ema(state: State) -> tuple[Any, Any]:
    """Returns the moving averages that `add_mean_variance_to_opt` keeps, with bias correction.

    Args:
      state: A state that contains exactly one state of `add_mean_variance_to_opt`, at any depth.

    Returns:
      The moving averages of the mean and of the variance, each a tree like the parameters. Both are zero before the
      first step.

    Raises:
      ValueError: The state contains no state of `add_mean_variance_to_opt`, or several.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.add_mean_variance_to_opt(gx.sgd(0.1))
      >>> print(*gx.get_unbiased_mean_and_variance_ema(tx.init(jnp.zeros(2))))
      [0. 0.] [0. 0.]
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, GradientVarianceState))
    found = [x for x in nodes if isinstance(x, GradientVarianceState)]
    if len(found) != 1:
        raise ValueError(
            f"get_unbiased_mean_and_variance_ema: the state contains {len(found)} states of add_mean_variance_to_opt, "
            "and exactly one is needed. Pass the state that the wrapped optimizer returned."
        )
    (kept,) = found

    def corrected(x: Array) -> Array:
        return leaf.ratio(x.real, jnp.broadcast_to(kept.weight.astype(x.real.dtype), x.shape))

    def both(x: Array) -> Array:
        return jax.lax.complex(corrected(x), corrected(x.imag)) if jnp.iscomplexobj(x) else corrected(x)

    return jax.tree.map(both, kept.mean_grads_ema), jax.tree.map(both, kept.variance_grads_ema)
