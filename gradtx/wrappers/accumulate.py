"""Gradient accumulation: one step of the inner transformation for every k micro-batches.

With micro-batches i = 1, ..., k, their gradients g_i and weights w_i,

    g = sum_i w_i g_i / sum_i w_i

is the gradient of the large batch, if g_i is that of a mean over w_i examples (or tokens) and w_i is how many there
were; with equal weights it is the plain mean. The mean runs, so that no sum leaves the range of its dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from gradtx import checks, leaf, tree
from gradtx.core.branch import alike, branch
from gradtx.core.composite import Wrapper
from gradtx.core.constructor import constructor
from gradtx.core.engine import run_update
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.metrics import reports
from gradtx.core.slots import child_state, counter, per_param, per_tree
from gradtx.core.state import counted
from gradtx.core.value import dtype, flag, function, static

__all__ = ["MultiSteps", "MultiStepsState", "accumulate", "skip_large_updates", "skip_not_finite"]


class _MeanState(NamedTuple):
    count: Array = counter()
    mean: Array = per_param(dtype="accumulator_dtype")
    weight: Array = per_tree(signed=False)


class _mean(Elementwise, state=_MeanState, takes=("weight",)):
    """The weighted mean of the updates, or their sum, in the state; a weight of 0 leaves it as it is.

    Without `all_count` a weight may be 0, and what has none may be no number. The updates stay as they are.
    """

    use_grad_mean: bool = flag(default=True)
    all_count: bool = flag(default=True)
    accumulator_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any, *, weight: Any) -> tuple[Any, Any]:
        total = numbers.weight + weight
        new = leaf.ratio(weight, total) if self.use_grad_mean else weight
        old = 1 - new if self.use_grad_mean else jnp.where(numbers.weight > 0, 1.0, 0.0)
        return Shared(old=old, new=new), numbers._replace(weight=total)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        new = g * shared.new if self.all_count else jnp.where(shared.new > 0, g * shared.new, 0)
        return g, slots._replace(mean=jnp.where(shared.old > 0, slots.mean * shared.old, 0) + new)


@reports("mini_step", "gradient_step")
class MultiStepsState(NamedTuple):
    """Micro-batches since the last step, steps, the mean and its weight, what the skip function said, the inner state.

    Where `acc_weight` is 0, after a step, nothing is read from `acc_grads`. With k = 1 both are (): there is no mean.
    """

    mini_step: Array = counter()
    gradient_step: Array = counter()
    acc_grads: Array = per_param(dtype="accumulator_dtype", when="accumulates")
    acc_weight: Array = per_tree(signed=False, when="accumulates")
    skip_state: Any = per_tree(start="first_skip_state")
    inner_state: Any = child_state()


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
    """A step of `inner` with the mean gradient of every `every` updates; in between the update is zero.

    Args:
      inner: the transformation.
      every: how many, at least 1, or a function (or schedule) from the steps taken to how many.
      weight: None for equal weights, or the name of an extra argument of `update`, not negative: with
        `weight="tokens"` call `tx.update(grads, state, params, tokens=n)`. A micro-batch of weight 0 does not count.
      use_grad_mean: False for the sum in place of the mean.
      should_skip_update_fn: a function `f(updates, gradient_step, params)` that returns whether to leave this
        micro-batch out, and something to keep in the state, such as `skip_not_finite`.
      accumulator_dtype: the dtype of the mean; float32 or wider by default.

    With `every=1` it is `inner`, and keeps no buffer. The mean goes to `inner` as wide as it is kept; what `update` has
    of other extra arguments at the last micro-batch goes to it too.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.accumulate(gx.sgd(1.0), 2, weight="tokens")
    >>> state = tx.init(jnp.zeros(1))
    >>> for g, n in ((1.0, 10), (4.0, 30)):
    ...     updates, state = tx.update(jnp.array([g]), state, tokens=n)
    ...     print(updates)
    [0.]
    [-3.25]

    Raises:
      TypeError, ValueError: an argument is none of those; `update` is called without the weight.
    """

    every: Any = static(check=_check_every)
    weight: str | None = static(default=None, check=_check_weight)
    use_grad_mean: bool = flag(default=True, kw_only=True)
    should_skip_update_fn: Any = static(default=None, check=_check_skip, kw_only=True)
    accumulator_dtype: Any = dtype(default=None, kw_only=True)

    @property
    def accumulates(self) -> bool:
        """Whether a mean is kept: with `every=1` there is none."""
        return self.every != 1

    def first_skip_state(self, params: Any) -> Any:
        """Zeros like what the skip function says of a micro-batch."""
        info = jax.eval_shape(lambda p: self._skip(p, jnp.zeros((), jnp.int32), p)[1], params)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info)

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, MultiStepsState]:
        skip, info = self._skip(updates, state.gradient_step, params)
        steps = jnp.where(skip, state.mini_step, counted(state.mini_step))
        emit = ~skip & (steps >= self._steps(state.gradient_step))
        mean, weight = self._accumulated(updates, state, skip, emit, params, extra)
        out, kept, inner_state = self._stepped(updates, mean, emit, state.inner_state, params, extra)
        done = jnp.where(emit, counted(state.gradient_step), state.gradient_step)
        return out, MultiStepsState(
            mini_step=jnp.where(emit, 0, steps),
            gradient_step=done,
            acc_grads=kept if self.accumulates else (),
            acc_weight=weight,
            skip_state=alike("accumulate", info, state.skip_state),
            inner_state=inner_state,
        )

    def _accumulated(
        self, updates: Any, state: Any, skip: Any, emit: Any, params: Any, extra: dict[str, Any]
    ) -> tuple[Any, Any]:
        """The mean with this micro-batch, and its weight after the step."""
        if not self.accumulates:
            return updates, ()
        all_count = self.weight is None and self.should_skip_update_fn is None
        rule = _mean(self.use_grad_mean, all_count, self.accumulator_dtype)
        before = _MeanState(count=state.mini_step, mean=state.acc_grads, weight=state.acc_weight)
        given = {"weight": jnp.where(skip, 0, self._weight(extra))}
        _, (after,) = run_update((rule,), updates, (before,), params, given)
        return after.mean, jnp.where(emit, 0, after.weight)

    def _stepped(
        self, updates: Any, mean: Any, emit: Any, inner_state: Any, params: Any, extra: dict[str, Any]
    ) -> tuple[Any, Any, Any]:
        """The update, the next mean, and the next inner state; `inner` steps where `emit`."""
        extra = {**extra, "grad": mean} if "grad" in extra else extra
        if not self.accumulates and self.should_skip_update_fn is None:
            out, inner_state = self.inner_update(updates, inner_state, params, extra)
            return out, mean, inner_state
        # The update takes the mean's place: where nothing is done no buffer is copied or filled with zeros.
        held, inner_state = branch(
            "accumulate",
            emit,
            lambda: self.inner_update(mean, inner_state, params, extra),
            lambda: (_as_wide(mean, updates), inner_state),
        )
        return _if(emit, held, updates), alike("accumulate", held, mean), inner_state

    def has_updated(self, state: MultiStepsState) -> Array:
        """Whether the last update was a step of `inner`."""
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> accumulate:
        """Itself, for those who come from optax."""
        return self

    def _steps(self, gradient_step: Array) -> Any:
        return self.every(gradient_step) if callable(self.every) else self.every

    def _weight(self, extra: dict[str, Any]) -> Any:
        if self.weight is None:
            return 1
        weight = extra.get(self.weight)
        checks.needed("accumulate", **{self.weight: weight})
        if leaf.is_number(weight) and weight < 0:
            raise ValueError(f"accumulate.update: {self.weight} is a weight and must not be negative, got {weight}.")
        return weight

    def _skip(self, updates: Any, gradient_step: Any, params: Any) -> tuple[Any, Any]:
        if self.should_skip_update_fn is None:
            return jnp.array(False), ()
        return self.should_skip_update_fn(updates, gradient_step, params)

    def accepts(self, name: str) -> bool:
        return name == self.weight or super().accepts(name)


def _as_wide(mean: Any, updates: Any) -> Any:
    """The mean in a dtype that holds the updates, too."""
    return jax.tree.map(lambda m, u: m.astype(jnp.promote_types(m.dtype, jnp.result_type(u))), mean, updates)


def _if(emit: Any, held: Any, updates: Any) -> Any:
    """What is held, in the dtypes of the updates, or zeros."""
    if not isinstance(emit, Tracer):
        return alike("accumulate", held, updates) if emit else tree.zeros_like(updates)
    return jax.tree.map(lambda h, u: leaf.narrow(jnp.where(emit, h, 0), jnp.result_type(u)), held, updates)


@constructor
def MultiSteps(  # noqa: N802  (its name in optax)
    opt: Any,
    every_k_schedule: int | Callable[[Any], Any],
    use_grad_mean: bool = True,
    should_skip_update_fn: Callable[..., Any] | None = None,
    accumulator_dtype: Any = None,
) -> accumulate:
    """`accumulate`, under optax's name and with its arguments.

    >>> import gradtx as gx
    >>> gx.MultiSteps(gx.sgd(0.1), every_k_schedule=4)
    accumulate(inner=chain(scale_by_learning_rate(learning_rate=0.1)), every=4)
    """
    return accumulate(
        opt,
        every_k_schedule,
        use_grad_mean=use_grad_mean,
        should_skip_update_fn=should_skip_update_fn,
        accumulator_dtype=accumulator_dtype,
    )


def skip_not_finite(updates: Any, gradient_step: Any = None, params: Any = None) -> tuple[Array, dict[str, Array]]:
    """For `accumulate`: leave out the micro-batches whose gradient is not finite, and say how many entries were not.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.skip_not_finite(jnp.array([1.0, jnp.nan]))[0])
    True
    """
    del gradient_step, params
    count = sum(
        (jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in jax.tree.leaves(updates)), jnp.zeros((), jnp.int32)
    )
    return count > 0, {"should_skip": count > 0, "num_not_finite": count}


def skip_large_updates(
    updates: Any, gradient_step: Any = None, params: Any = None, *, max_squared_norm: Any
) -> tuple[Array, dict[str, Array]]:
    """For `accumulate`: leave out the micro-batches whose gradient's squared norm is not below `max_squared_norm`.

    Give it as `functools.partial(gx.skip_large_updates, max_squared_norm=100.0)`. A norm that is no number is left out.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.skip_large_updates(jnp.array([3.0, 4.0]), max_squared_norm=20.0)[0])
    True
    """
    del gradient_step, params
    square = tree.norm_sq(updates)
    skip = ~(square < max_squared_norm)
    return skip, {"should_skip": skip, "norm_squared": square}
