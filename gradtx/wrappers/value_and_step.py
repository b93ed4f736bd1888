"""A whole training step as one function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx import checks
from gradtx.core.metrics import find
from gradtx.core.transformation import apply_updates, as_transformation
from gradtx.core.value import function
from gradtx.types import Params, State
from gradtx.wrappers.loss_scale import DynamicLossScaleState

__all__ = ["value_and_step"]


def value_and_step(loss_fn: Callable[..., Any], tx: Any, has_aux: bool = False) -> Callable[..., Any]:
    """Makes a training step that differentiates a loss, computes the updates, and applies them to the parameters.

    The result is `step(params, state, *batch, **extra) -> (params, state, value)`, or `(params, state, value, aux)`
    with `has_aux`. It is a pure function; to compile it and reuse the memory of the old parameters and state, call
    `jax.jit(step, donate_argnums=(0, 1))`. The step passes to `tx.update` all extra arguments that a transformation may
    need: `value`, `grad`, `value_fn(params)`, the keyword arguments of `step`, such as `key=` or `tokens=`, and, if
    `tx` uses it (`sam`, for example), `grad_fn(params, i)`. The gradient of a complex leaf is conjugated, so that the
    step descends. If the state contains a `dynamic_loss_scale`, the step multiplies the loss by the scale before
    differentiation; the returned `value` is not scaled.

    Args:
      loss_fn: Function `loss_fn(params, *batch)` that returns the loss, a real scalar; with `has_aux` a pair of the
        loss and anything else.
      tx: The transformation that makes updates from gradients, such as `gx.adamw(1e-3)`.
      has_aux: Whether `loss_fn` returns a pair (loss, aux). Default False.

    Returns:
      The function `step`.

    Example:
      >>> import jax, jax.numpy as jnp, gradtx as gx
      >>> tx = gx.adam(0.1)
      >>> step = jax.jit(gx.value_and_step(lambda w, x: jnp.mean((w * x) ** 2), tx), donate_argnums=(0, 1))
      >>> params = jnp.ones(3)
      >>> state = tx.init(params)
      >>> for _ in range(100):
      ...     params, state, value = step(params, state, jnp.array([1.0, 2.0, 3.0]))
      >>> print(bool(value < 1e-3))
      True

    Raises:
      TypeError: `loss_fn` is not a function, `tx` is not a transformation, or the loss is not a real scalar.
    """
    function("value_and_step", "loss_fn", loss_fn)
    tx = as_transformation("value_and_step", tx)

    def step(params: Params, state: State, *batch: Any, **extra: Any) -> tuple[Any, ...]:
        scales = [part.loss_scale for _, part in find(state, DynamicLossScaleState)]

        def value_and_aux(params: Params) -> tuple[Any, Any]:
            out = loss_fn(params, *batch)
            if has_aux and not (isinstance(out, tuple) and len(out) == 2):
                raise TypeError(
                    "value_and_step: with has_aux the loss function must return a pair (loss, aux), got "
                    f"{checks.shown(out)}."
                )
            value, aux = out if has_aux else (out, None)
            return _real_scalar(value), aux

        def scaled(params: Params) -> tuple[Any, tuple[Any, Any]]:
            value, aux = value_and_aux(params)
            return functools.reduce(jnp.multiply, scales, value), (value, aux)

        def gradient(params: Params) -> tuple[Any, Any]:
            grads, out = jax.grad(scaled, has_aux=True)(params)
            return jax.tree.map(jnp.conj, grads), out

        grads, (value, aux) = gradient(params)
        given = {"value": value, "grad": grads, "value_fn": lambda params: value_and_aux(params)[0], **extra}
        if tx.accepts("grad_fn"):
            given["grad_fn"] = lambda params, i=0: gradient(params)[0]
        updates, state = tx.update(grads, state, params, **given)
        new = apply_updates(params, updates)
        return (new, state, value, aux) if has_aux else (new, state, value)

    return step


def _real_scalar(value: Any) -> Any:
    dtype = getattr(value, "dtype", None) or (float if isinstance(value, float) else None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or jnp.shape(value) != ():
        raise TypeError(
            f"value_and_step: the loss must be a real scalar, got {checks.shown(value)}. Return one number, such as a "
            "mean over the batch; if the loss function returns a pair (loss, aux), pass has_aux=True."
        )
    return value
