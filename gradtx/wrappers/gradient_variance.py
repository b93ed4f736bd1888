"""The mean and the variance of per-example gradients, tracked while an optimizer steps by the mean.

    m = sum_i g_i / n,    v = sum_i |g_i - m|^2 / (n - 1)            over the n examples of a step, entry by entry

    M <- decay * M + (1 - decay) * m,    V <- decay * V + (1 - decay) * v

If a step takes k batches of b examples, sums of squares are joined as they come (Chan, Golub and LeVeque, 1983,
"Algorithms for Computing the Sample Variance"), for batch j with mean m_j and the mean m of those before:

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
    """The steps, the batches of the step under way with their mean and sum of squares, and the moving averages.

    `weight` holds what the averages weigh, by which they are corrected for their start at zero.
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
    """Steps by the mean of per-example gradients, and keeps moving averages of their mean and variance.

    Take it to see the noise of the gradient: a batch is large enough where the variance over its size is small beside
    the squared mean. `updates` have an axis of examples, as from `jax.vmap(jax.grad(loss), in_axes=(None, 0))`.

    Args:
      inner: The optimizer, which gets the mean.
      ema_decay: Decay rate of the moving averages (default 0.9), in [0, 1). 0 keeps those of the last step.
      per_elt_axis: The axis of the examples in each leaf (default 0), or several.
      accumulation_steps: How many calls of `update` make one step (default 1). In the others the update is zero.

    Returns:
      A transformation. State: beside that of `inner` two arrays per parameter, four where steps accumulate.

    Raises:
      ValueError: the leaves disagree in the number of examples, or there is one example in a step: it has no variance.

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
        """Whether a step takes several calls."""
        return self.accumulation_steps > 1

    @property
    def reshapes(self) -> bool:
        return True  # the updates lose the axes of the examples

    def _check_trees(self, updates: Any, params: Any) -> None:
        """The updates have axes that neither params nor later updates have."""
        n = examples(type(self).__name__, updates, self.per_elt_axis)
        if jax.tree.leaves(updates) and n * self.accumulation_steps < 2:
            raise ValueError(
                f"{type(self).__name__}: a step has {n} examples along per_elt_axis={self.per_elt_axis}; a variance "
                "needs two. Give a larger batch, or more accumulation_steps."
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
        """The sum over examples of the squared distance from their mean."""
        apart = leaf.widen(jnp.asarray(g)) - mean_of(g, self.per_elt_axis, keepdims=True)
        return leaf.saturated(jnp.sum(leaf.abs_sq(apart), axis=self.per_elt_axis))

    def _taken(
        self, gradient: Any, mean: Any, squares: Any, n: int, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, Any]:
        """The inner step, and the averages after it."""
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


def get_unbiased_mean_and_variance_ema(state: Any) -> tuple[Any, Any]:
    """The moving averages that `add_mean_variance_to_opt` keeps, corrected for their start at zero; zeros at the start.

    `state` is its state, or one that has it inside.

    Raises:
      ValueError: there is no such state inside, or several.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.add_mean_variance_to_opt(gx.sgd(0.1))
    >>> print(*gx.get_unbiased_mean_and_variance_ema(tx.init(jnp.zeros(2))))
    [0. 0.] [0. 0.]
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, GradientVarianceState))
    found = [x for x in nodes if isinstance(x, GradientVarianceState)]
    if len(found) != 1:
        raise ValueError(
            f"get_unbiased_mean_and_variance_ema: the state has {len(found)} states of add_mean_variance_to_opt; pass "
            "one that has one."
        )
    (kept,) = found

    def corrected(x):
        return leaf.ratio(x.real, jnp.broadcast_to(kept.weight.astype(x.real.dtype), x.shape))

    def both(x):
        return jax.lax.complex(corrected(x), corrected(x.imag)) if jnp.iscomplexobj(x) else corrected(x)

    return jax.tree.map(both, kept.mean_grads_ema), jax.tree.map(both, kept.variance_grads_ema)
