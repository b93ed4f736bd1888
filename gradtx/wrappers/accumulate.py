"""Accumulates gradients: the inner transformation takes one step for every k micro-batches.

The micro-batches i = 1, ..., k have the gradients g_i and the weights w_i. The inner transformation gets their mean

    g = sum_i w_i g_i / sum_i w_i

If micro-batch i has w_i examples (or tokens), and g_i is the gradient of the mean loss over them, then g is the
gradient of the large batch. With equal weights, g is the plain mean. The state holds a running mean, because a sum
could overflow (as it may with `use_grad_mean=False`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from gradtx import checks, leaf, mesh, tree
from gradtx.core.branch import alike, branch
from gradtx.core.composite import Wrapper
from gradtx.core.engine import run_update
from gradtx.core.hyper import of_step
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.metrics import reports
from gradtx.core.slots import child_state, counter, per_param, per_tree
from gradtx.core.state import counted
from gradtx.core.value import dtype, flag, function, static
from gradtx.types import Params, Slots, State, Updates

__all__ = ["MultiStepsState", "accumulate", "skip_large_updates", "skip_not_finite"]


class _MeanState(NamedTuple):
    count: Array = counter()
    mean: Array = per_param(dtype="accumulator_dtype")
    weight: Array = per_tree(signed=False)


class _mean(Elementwise, state=_MeanState, takes=("weight",)):
    """Adds the updates to a weighted mean (or sum) in the state, and returns the updates unchanged.

    Set `all_count=False` when some weights may be 0: updates of weight 0 are then ignored even if they contain NaN.
    """

    use_grad_mean: bool = flag(default=True)
    all_count: bool = flag(default=True)
    accumulator_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any, *, weight: Any) -> tuple[Any, Any]:
        total = numbers.weight + weight
        new = leaf.ratio(weight, total) if self.use_grad_mean else weight
        # While the weight is 0, `mean` may be scratch data (see `_step_if`), so `mean` gets the factor 0.
        old = jnp.where(numbers.weight > 0, 1 - new if self.use_grad_mean else 1.0, 0.0)
        return Shared(old=old, new=new), numbers._replace(weight=total)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        new = g * shared.new if self.all_count else jnp.where(shared.new > 0, g * shared.new, 0)
        return g, slots._replace(mean=jnp.where(shared.old > 0, slots.mean * shared.old, 0) + new)


@reports("mini_step", "gradient_step", "bad_weights")
class MultiStepsState(NamedTuple):
    """The state of `accumulate`.

    `mini_step` counts the micro-batches since the last step, `gradient_step` the steps of the inner transformation.
    `acc_grads` is the mean gradient so far, and `acc_weight` the sum of the weights in it. After a step, `acc_weight`
    is 0 and `acc_grads` holds scratch data: do not read `acc_grads` then. With `every=1`, both fields are `()`.
    `skip_state` is what the skip function returned for the last micro-batch. `updated` says whether the last
    micro-batch made a step; this field exists only with weights or a skip function, because otherwise the two counters
    tell. `bad_weights` counts the weights that were negative, infinite or NaN.
    """

    mini_step: Array = counter()
    gradient_step: Array = counter()
    inner_state: Any = child_state()
    acc_grads: Array = per_param(dtype="accumulator_dtype", when="accumulates")
    skip_state: Any = per_tree(start="first_skip_state")
    acc_weight: Array = per_tree(signed=False, when="accumulates")
    updated: Array = per_tree(start=False, dtype=bool, when="may_not_update")
    bad_weights: Array = per_tree(start=0, dtype=jnp.int32, when="weight")


def _check_every(who: str, name: str, value: Any) -> Any:
    return value if callable(value) else checks.integer(who, name, value, ge=1)


def _check_weight(who: str, name: str, value: Any) -> Any:
    if value is None or (isinstance(value, str) and value.isidentifier()):
        return value
    raise TypeError(
        f"{who}: {name} must be None or the name of the extra argument of `update` that holds the weight of a "
        f"micro-batch, as in weight='tokens'; got {checks.shown(value)}."
    )


def _check_skip(who: str, name: str, value: Any) -> Any:
    return None if value is None else function(who, name, value)


class accumulate(Wrapper, state=MultiStepsState):
    """Accumulates gradients: takes one step of `inner` for `every` micro-batches, with their mean gradient.

    Use it to train with a batch that does not fit in memory. Between two steps the update is zero, and the inner state
    does not change. With `weight`, `every` micro-batches whose weights are all 0 make no step either. If fewer than
    `every` micro-batches are left at the end of the data, call `update` with micro-batches of weight 0 until the step
    is made.

        g = sum_i w_i g_i / sum_i w_i

    With `every=1` the updates are the updates of `inner`, and no buffer is kept. `inner` gets the mean in
    `accumulator_dtype`. If `update` gets the extra argument `grad`, `inner` gets the mean gradient in its place; other
    extra arguments take their value from the last micro-batch. `tx.has_updated(state)` says whether the last
    micro-batch made a step.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      every: Number of micro-batches in a step, at least 1; or a function (or schedule) of the number of steps taken
        that returns it.
      weight: None for equal weights (default); or the name of an extra argument of `update` that holds the weight of
        the micro-batch, such as its number of tokens. With `weight="tokens"`, call
        `tx.update(grads, state, params, tokens=n)` with a number that is not negative. A micro-batch of weight 0 counts
        toward `every`, but its gradient is ignored. In compiled code, a weight that is negative, infinite or NaN is
        replaced by 0; `gx.metrics(state)["bad_weights"]` counts such weights.
      use_grad_mean: True for the mean gradient (default); False for the weighted sum.
      should_skip_update_fn: A function `f(updates, gradient_step, params)`, such as `skip_not_finite`. It returns
        whether to skip this micro-batch, and arrays to keep in the state. A skipped micro-batch does not count toward
        `every`. None by default: no micro-batch is skipped.
      accumulator_dtype: Dtype in which the mean is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    Returns:
      A transformation. State: one array per parameter (4 bytes in float32; no array with `every=1`) and a few scalars,
        in addition to the inner state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.accumulate(gx.sgd(1.0), 2, weight="tokens")
      >>> state = tx.init(jnp.zeros(1))
      >>> for g, n in ((1.0, 10), (4.0, 30)):
      ...     updates, state = tx.update(jnp.array([g]), state, tokens=n)
      ...     print(updates)
      [0.]
      [-3.25]

    Raises:
      TypeError, ValueError: An argument is of the wrong kind, or `update` is called without the weight.
    """

    every: Any = static(check=_check_every)
    weight: str | None = static(default=None, check=_check_weight)
    use_grad_mean: bool = flag(default=True, kw_only=True)
    should_skip_update_fn: Any = static(default=None, check=_check_skip, kw_only=True)
    accumulator_dtype: Any = dtype(default=None, kw_only=True)

    @property
    def accumulates(self) -> bool:
        """Whether the state holds a mean; with `every=1` no mean is needed."""
        return self.every != 1

    @property
    def may_not_update(self) -> bool:
        """Whether `every` micro-batches may pass without a step: all their weights may be 0, or some may be skipped."""
        return self.weight is not None or self.should_skip_update_fn is not None

    def first_skip_state(self, params: Any) -> Any:
        """Returns zeros with the shapes and dtypes that the skip function returns."""
        info = jax.eval_shape(lambda p: self._skip(p, jnp.zeros((), jnp.int32), p)[1], params)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info)

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, MultiStepsState]:
        skip, info = self._skip(updates, state.gradient_step, params)
        weight, is_bad = self._weight(extra)
        filled = jnp.where(skip, state.mini_step, counted(state.mini_step))
        full = ~skip & (filled >= self._period(state.gradient_step))
        mean, total = self._add_micro_batch(updates, state, jnp.where(skip, 0, weight), params)
        emit = full if self.weight is None else full & (total > 0)
        out, buffer, inner_state = self._step_if(emit, updates, mean, state.inner_state, params, extra)
        done = jnp.where(emit, counted(state.gradient_step), state.gradient_step)
        return out, MultiStepsState(
            mini_step=jnp.where(full, 0, filled),
            gradient_step=done,
            acc_grads=buffer if self.accumulates else (),
            acc_weight=jnp.where(full, 0, total) if self.accumulates else (),
            skip_state=alike("accumulate", info, state.skip_state),
            inner_state=inner_state,
            updated=jnp.asarray(emit) if self.may_not_update else (),
            bad_weights=() if self.weight is None else jnp.where(is_bad, counted(state.bad_weights), state.bad_weights),
        )

    def _add_micro_batch(self, updates: Any, state: Any, weight: Any, params: Any) -> tuple[Any, Any]:
        """Adds the micro-batch to the running mean (or sum); returns the mean and the total weight so far."""
        if not self.accumulates:
            summed = not self.use_grad_mean and self.weight is not None
            return jax.tree.map(lambda g: _times(g, weight), updates) if summed else updates, weight
        rule = _mean(self.use_grad_mean, not self.may_not_update, self.accumulator_dtype)
        before = _MeanState(count=state.mini_step, mean=state.acc_grads, weight=state.acc_weight)
        _, (after,) = run_update((rule,), updates, (before,), params, {"weight": weight})
        return after.mean, after.weight

    def _step_if(
        self, emit: Any, updates: Updates, mean: Any, inner_state: Any, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, Any, Any]:
        """Steps `inner` with the mean if `emit`; returns the update, the next `acc_grads` and the next inner state."""
        # `grad` is the gradient that `inner` steps with: the mean, not the gradient of the last micro-batch.
        extra = {**extra, "grad": mean} if "grad" in extra else extra
        if not (self.accumulates or self.may_not_update):
            out, inner_state = self.inner_update(updates, inner_state, params, extra)
            return out, mean, inner_state
        # Both branches return the same buffer: the update if `emit`, else the mean. This avoids a copy of the mean.
        # After a step the next micro-batch gives the old buffer weight 0.
        buffer, inner_state = branch(
            "accumulate",
            emit,
            lambda: self.inner_update(mean, inner_state, params, extra),
            lambda: (_promoted(mean, updates), inner_state),
        )
        return _update_or_zeros(emit, buffer, updates), alike("accumulate", buffer, mean), inner_state

    def has_updated(self, state: MultiStepsState) -> Array:
        """Returns whether the last micro-batch made a step of `inner`."""
        return state.updated if self.may_not_update else (state.mini_step == 0) & (state.gradient_step > 0)

    def _period(self, gradient_step: Array) -> Any:
        """Returns the number of micro-batches in the next step."""
        return of_step(self.every, gradient_step) if callable(self.every) else self.every

    def _weight(self, extra: dict[str, Any]) -> tuple[Any, Any]:
        """Returns the weight of this micro-batch, with 0 in place of a bad one, and whether it is bad."""
        if self.weight is None:
            return 1, False
        weight: Any = extra.get(self.weight)
        checks.needed("accumulate", **{self.weight: weight})
        checks.scalar("accumulate.update", self.weight, weight)
        if leaf.is_number(weight) and not 0 <= weight < math.inf:
            raise ValueError(
                f"accumulate.update: {self.weight} is the weight of a micro-batch and must be in [0, inf), got "
                f"{weight}. Give 0 for one that is not to count."
            )
        is_good = jnp.isfinite(weight) & (weight >= 0)
        return jnp.where(is_good, weight, 0), ~is_good

    def _skip(self, updates: Any, gradient_step: Any, params: Any) -> tuple[Any, Any]:
        """Returns whether to skip this micro-batch, and the next `skip_state`."""
        if self.should_skip_update_fn is None:
            return jnp.array(False), ()
        skip, info = self.should_skip_update_fn(updates, gradient_step, params)
        if np.shape(skip) != ():
            raise ValueError(
                f"accumulate: should_skip_update_fn returned {checks.shown(skip)} for whether to skip the micro-batch; "
                "it is one boolean, of shape (). Take jnp.any or jnp.all of it first."
            )
        return jnp.asarray(skip, bool), info

    def accepts(self, name: str) -> bool:
        return name == self.weight or super().accepts(name)

    def known_extra_args(self) -> frozenset[str]:
        return super().known_extra_args() | ({self.weight} if self.weight else set())


def _times(g: Any, weight: Any) -> Array:
    return leaf.narrow(leaf.widen(jnp.asarray(g)) * weight, jnp.result_type(g))


def _promoted(mean: Any, updates: Updates) -> Any:
    """Returns the mean in dtypes that can also hold the updates."""
    return jax.tree.map(lambda m, u: m.astype(jnp.promote_types(m.dtype, jnp.result_type(u))), mean, updates)


def _update_or_zeros(emit: Any, buffer: Any, updates: Updates) -> Any:
    """Returns the buffer in the updates' dtypes if `emit`, else zeros."""
    if not isinstance(emit, Tracer):
        return alike("accumulate", buffer, updates) if emit else tree.zeros_like(updates)
    return jax.tree.map(lambda b, u: leaf.narrow(jnp.where(emit, b, 0), jnp.result_type(u)), buffer, updates)


def skip_not_finite(
    updates: Updates, gradient_step: Any = None, params: Params = None
) -> tuple[Array, dict[str, Array]]:
    """Skips micro-batches whose gradient contains NaN or infinity: a skip function for `accumulate`.

    Pass it as `accumulate(inner, 4, should_skip_update_fn=gx.skip_not_finite)`.

    Args:
      updates: Tree of gradients of the micro-batch.
      gradient_step: Number of steps taken so far; not used (default None).
      params: The parameters; not used (default None).

    Returns:
      Whether to skip the micro-batch, and a dict with this boolean (`should_skip`) and the number of entries that are
        NaN or infinite (`num_not_finite`), which `accumulate` keeps in `state.skip_state`.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> print(gx.skip_not_finite(jnp.array([1.0, jnp.nan]))[0])
      True
    """
    del gradient_step, params
    counts = [jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in jax.tree.leaves(updates)]
    (count,) = mesh.added([(jnp.zeros((), jnp.int32),), *((x,) for x in counts)])
    return count > 0, {"should_skip": count > 0, "num_not_finite": count}


def skip_large_updates(
    updates: Updates, gradient_step: Any = None, params: Params = None, *, max_squared_norm: Any
) -> tuple[Array, dict[str, Array]]:
    """Skips micro-batches whose gradient is too long: a skip function for `accumulate`.

    Pass it as `functools.partial(gx.skip_large_updates, max_squared_norm=100.0)`. Gradients whose norm is NaN are also
    skipped.

    Args:
      updates: Tree of gradients of the micro-batch.
      gradient_step: Number of steps taken so far; not used (default None).
      params: The parameters; not used (default None).
      max_squared_norm: Smallest squared Euclidean norm, over all leaves, at which a gradient is skipped.

    Returns:
      Whether to skip the micro-batch, and a dict with this boolean (`should_skip`) and the squared norm
        (`norm_squared`), which `accumulate` keeps in `state.skip_state`.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> print(gx.skip_large_updates(jnp.array([3.0, 4.0]), max_squared_norm=20.0)[0])
      True
    """
    del gradient_step, params
    square = tree.norm_sq(updates)
    skip = ~(square < max_squared_norm)
    return skip, {"should_skip": skip, "norm_squared": square}
