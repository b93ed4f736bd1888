"""Sharpness-aware minimization (SAM): steps with the gradient at the worst point nearby.

An adversary climbs for k - 1 steps (k is `sync_period`), to the point x + e. The optimizer then takes its step from x
with the gradient at x + e. With k = 2:

    e_t     = -adv_optimizer(g(x_t))                              the adversary climbs
    x_(t+1) = x_t + optimizer(g(x_t + e_t))

Foret, Kleiner, Mobahi and Neyshabur, 2021, "Sharpness-Aware Minimization for Efficiently Improving Generalization".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf
from gradtx.core.branch import alike, branch
from gradtx.core.composite import Inner, Wrapper, inner
from gradtx.core.packed import repacked
from gradtx.core.slots import PARAM, child_state, counter, per_param
from gradtx.core.transformation import GradientTransformation, apply_updates
from gradtx.core.value import flag, integer, static
from gradtx.types import Params, State, Updates

__all__ = ["SAMState", "sam"]


class SAMState(NamedTuple):
    """The calls since the optimizer's latest step, both inner states, and the parameters where the climb started.

    In opaque mode the parameters are not kept: `cache` is ().
    """

    steps_since_sync: Array = counter()
    inner_state: Any = child_state()
    adv_state: Any = child_state(of="adv_optimizer")
    cache: Array = per_param(start=PARAM, when="transparent")


def _check_axis(who: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{who}: {name} must be None or the name of an axis, got {value!r}.")


class sam(Wrapper, state=SAMState, needs=("params",), takes=("grad_fn",)):
    """Steps with the gradient at a worst point nearby, which finds flatter minima (sharpness-aware minimization).

    Use it to improve generalization at the price of `sync_period` gradients per step. `adv_optimizer` climbs from the
    parameters for `sync_period - 1` steps. Then `inner` takes a step from the starting point, with the gradient at the
    point that the climb reached.

        e = -adv_optimizer(g(p)),     p <- p + inner(g(p + e))

    In the default mode every call of `update` makes one of these steps. The parameters really move up and back down, so
    always pass the gradient at the current parameters. With `opaque_mode` one call makes all `sync_period` steps;
    `update` then needs the extra argument `grad_fn(params, i)`, which returns the gradient after the i-th climbing
    step. `value_and_step` passes `grad_fn` automatically.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      adv_optimizer: The optimizer that climbs. Pass an ordinary optimizer; its updates are negated. Usually
        `gx.chain(gx.normalize(), gx.sgd(0.05))`, where the learning rate is the radius of the neighborhood.
      sync_period: Number of gradients for one step of `inner` (default 2: one step up). At least 1.
      reset_state: Whether to reinitialize the state of `adv_optimizer` after each step of `inner`. Default True.
      opaque_mode: Whether one call of `update` makes all climbing steps and the step of `inner`. Default False.
      batch_axis_name: Name of the mapped axis, as in `jax.pmap`, over which to average the gradients in opaque mode.
        None by default.

    Returns:
      A transformation whose `update` needs `params`, and `grad_fn` in opaque mode. State: one array per parameter (4
        bytes in float32; no array in opaque mode), in addition to the states of `inner` and `adv_optimizer`.

    References:
      Foret, Kleiner, Mobahi and Neyshabur, 2021, "Sharpness-Aware Minimization for Efficiently Improving
        Generalization".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.sam(gx.sgd(0.1), gx.chain(gx.normalize(), gx.sgd(0.05)), opaque_mode=True)
      >>> params = jnp.array([1.0])
      >>> gradient = lambda params, i: 2 * params
      >>> updates, state = tx.update(gradient(params, 0), tx.init(params), params, grad_fn=gradient)
      >>> print(updates)
      [-0.21]
    """

    adv_optimizer: Inner = inner()
    sync_period: int = integer(default=2, ge=1)
    reset_state: bool = flag(default=True)
    opaque_mode: bool = flag(default=False)
    batch_axis_name: Any = static(default=None, check=_check_axis)

    @property
    def transparent(self) -> bool:
        """Whether each call of `update` makes one step (the default), so the state must hold the starting point."""
        return not self.opaque_mode

    def movers(self) -> dict[str, GradientTransformation]:
        """Returns only `inner`, because the steps of `adv_optimizer` are undone."""
        return {"inner": self.inner}

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, SAMState]:
        grad_fn = extra.pop("grad_fn", None)
        if self.transparent:
            return self._one_step(updates, state, params, extra)
        if self.sync_period > 1 and jax.tree.leaves(updates):
            checks.needed("sam", grad_fn=grad_fn)
        return self._round(updates, state, params, grad_fn, extra)

    def _climb(self, updates: Updates, adv_state: Any, params: Params, extra: Any) -> tuple[Any, Any]:
        given = self.adv_optimizer.accepted(extra)
        updates, adv_state = self.adv_optimizer.update(updates, adv_state, params, **given)
        return _negated(updates), adv_state

    def _one_step(self, updates: Updates, state: SAMState, params: Params, extra: Any) -> tuple[Any, SAMState]:
        first = state.steps_since_sync == 0
        last = state.steps_since_sync == self.sync_period - 1
        cache = _where(first, params, state.cache)

        def climb() -> tuple[Any, Any, Any]:
            up, adv_state = self._climb(updates, state.adv_state, params, extra)
            return up, adv_state, state.inner_state

        def descend() -> tuple[Any, Any, Any]:
            start = jax.tree.map(lambda x, p: leaf.narrow(x, jnp.result_type(p)), cache, params)
            down, inner_state = self.inner_update(updates, state.inner_state, start, extra)
            adv_state = state.adv_state
            if self.reset_state:
                adv_state = repacked(self.adv_optimizer.init(start), adv_state)
            return _from(params, cache, down), adv_state, inner_state

        out, adv_state, inner_state = branch("sam", last, descend, climb)
        steps = (state.steps_since_sync + 1) % self.sync_period
        return out, SAMState(steps_since_sync=steps, cache=cache, adv_state=adv_state, inner_state=inner_state)

    def _round(
        self, updates: Updates, state: SAMState, params: Params, grad_fn: Any, extra: Any
    ) -> tuple[Any, SAMState]:
        there, adv_state, g = params, state.adv_state, updates
        for i in range(self.sync_period - 1):
            up, adv_state = self._climb(g, adv_state, there, extra)
            there = apply_updates(there, up)
            g = grad_fn(there, i)
            if self.batch_axis_name is not None:
                g = lax.pmean(g, self.batch_axis_name)
        if self.reset_state:
            adv_state = self.adv_optimizer.init(params)
        out, inner_state = self.inner_update(g, state.inner_state, params, extra)
        out = alike("sam", out, updates)
        return out, state._replace(adv_state=adv_state, inner_state=inner_state)


@jax.jit
def _negated(updates: Updates) -> Any:
    return jax.tree.map(jnp.negative, updates)


@jax.jit
def _where(pred: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(pred, jnp.asarray(x).astype(y.dtype), y), a, b)


@jax.jit
def _from(params: Params, start: Any, updates: Updates) -> Any:
    """Returns the update that leads from `params` to `start + updates`, in the dtypes of the updates."""

    def one(p: Any, s: Array, u: Array) -> Array:
        p, s, wide = jnp.asarray(p), jnp.asarray(s), leaf.widen(jnp.asarray(u))
        return leaf.narrow(s - leaf.widen(p) + wide, jnp.result_type(u))

    return jax.tree.map(one, params, start, updates)
