"""Calls `update` for the laws: with every extra argument that the transformation needs, for a few steps."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradtx import leaf
from gradtx.core.chain import chain, needs
from gradtx.core.leafwise import Elementwise
from gradtx.core.transformation import GradientTransformation
from gradtx.types import Params, State, Updates

__all__ = ["SUPPLIED", "extra_args", "trajectory", "update"]

SUPPLIED = ("params", "value", "grad", "value_fn", "grad_fn", "hessian_diag", "tokens", "max_logits")
"""The arguments that the laws pass to `update`, in addition to `updates` and `state`, if a transformation needs
them."""


def extra_args(tx: Any, grads: Updates, params: Params) -> dict[str, Any]:
    """Makes the extra arguments of `update` that the transformation might need."""
    size = sum((jnp.sum(jnp.abs(jnp.asarray(g)).astype(float) ** 2) for g in jax.tree.leaves(grads)), 0.0)
    extra: dict[str, Any] = {"value": 2 - 1 / (1 + size)}
    if isinstance(tx, GradientTransformation) and not tx.takes_any:
        if "grad" in needs(tx):
            extra["grad"] = jax.tree.map(lambda g: jnp.flip(jnp.asarray(g)), grads)
        if tx.accepts("hessian_diag"):
            extra["hessian_diag"] = jax.tree.map(_curvature, grads)
        if tx.accepts("grad_fn"):
            extra["grad_fn"] = functools.partial(_slope, grads)
        if tx.accepts("max_logits"):
            extra["max_logits"] = jnp.asarray([150.0])
        if tx.accepts("tokens"):
            extra["tokens"] = extra["value"]
    elif getattr(tx, "opaque", False):
        extra["grad_fn"] = functools.partial(_slope, grads)
    if _searches(tx):
        extra |= {"value": jnp.zeros(()), "grad": grads, "value_fn": functools.partial(_bowl, grads, params)}
    return extra


def _slope(grads: Updates, params: Params, i: Any) -> Any:
    """Returns a gradient that depends on the parameters, the same for every `i`."""
    del i
    return jax.tree.map(lambda p, g: p * 0.5 + g * 0.25, params, grads)


def _curvature(g: Any) -> Any:
    """Returns a positive Hessian diagonal in float32 or wider."""
    return jnp.minimum(jnp.abs(leaf.widen(jnp.asarray(g))), 10) + 0.5


def _searches(tx: Any) -> bool:
    """Whether `tx`, or a transformation in a chain, evaluates the loss function, as a line search does."""
    if not isinstance(tx, GradientTransformation) or tx.takes_any:
        return getattr(tx, "searches", False)
    if isinstance(tx, chain):
        return any(map(_searches, tx.links))
    in_curvature = type(tx).__module__.startswith("gradtx.curvature.") and not isinstance(tx, Elementwise)
    return in_curvature or "value_fn" in needs(tx)


def _bowl(grads: Updates, params: Params, there: Any) -> Any:
    """Returns a function of the parameters `there` that is 0 and has the gradient `grads` at `params`.

    The curvatures of its entries differ, so that a step along the gradient never ends exactly at the minimum, where the
    gradient would consist of rounding errors.
    """

    def term(g: Any, q: Any, p: Any) -> Any:
        away = jnp.asarray(q) - p
        curvature = jnp.linspace(1, 2, away.size, dtype=jnp.finfo(away.dtype).dtype).reshape(away.shape)
        return jnp.sum((jnp.conj(g) * away).real) + jnp.sum(curvature * jnp.abs(away) ** 2) / 2

    return sum(jax.tree.leaves(jax.tree.map(term, grads, there, params)), jnp.zeros(()))


def update(tx: Any, grads: Updates, state: State, params: Params) -> Any:
    """Calls `tx.update` with the extra arguments that it might need."""
    return tx.update(grads, state, params, **extra_args(tx, grads, params))


def trajectory(tx: Any, params: Params, grads: Updates) -> Any:
    """Returns the stacked updates and states of a few steps at fixed parameters, one step for each of `grads`."""

    def step(state: State, g: Any) -> Any:
        updates, state = update(tx, g, state, params)
        return state, (updates, state)

    return jax.lax.scan(step, tx.init(params), grads)[1]
