"""Law 6: derivatives with respect to parameters, gradients and hyperparameters are finite, also at zero gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.testing.calls import update
from gradtx.testing.data import draw, finite
from gradtx.testing.subject import NotApplicableError, Subject, law
from gradtx.types import Params, State, Transformation, Updates


def loss(tx: Transformation, params: Params, grads: Updates) -> Any:
    """Returns a number that depends on all updates and states of three steps."""

    def step(carry: tuple[Params, State], scale: Array) -> tuple[tuple[Params, State], None]:
        params, state = carry
        updates, state = update(tx, jax.tree.map(lambda g: scale * g, grads), state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.asarray([1.0, -0.5, 2.0]))
    return sum(jnp.sum(x) for x in jax.tree.leaves(params))


def _derivative(subject: Subject) -> tuple[Callable[[Any], Any], Any]:
    """Returns the compiled value and gradient of `loss`, and the point at which the laws evaluate them."""
    if "derivative" not in subject.memory:
        if subject.is_value:  # hyperparameters are differentiated as well; as arrays, they need one compilation
            point = jax.tree.map(np.asarray, (subject.tx, subject.params, draw(1)))
            compiled = jax.jit(jax.value_and_grad(lambda point: loss(*point)))
        else:
            point = jax.tree.map(np.asarray, (subject.params, draw(1)))
            compiled = jax.jit(jax.value_and_grad(lambda point: loss(subject.tx, *point)))
        subject.memory["derivative"] = compiled, point
    return subject.memory["derivative"]


@law(6, "derivatives", unless="reverse")
def derivatives_are_finite(subject: Subject) -> None:
    """Derivatives through three steps are finite, also at zero gradients."""
    value_and_grad, point = _derivative(subject)
    grads = point[-1]
    one_zero = {**grads, "deep": [np.asarray([0.0, 1.0, -1.0, 0.0, 2.0, 0.5, -0.5, 1.0])]}
    kinds = {"with a zero": one_zero, "of zeros": jax.tree.map(np.zeros_like, grads), "of plain numbers": grads}
    for kind, g in kinds.items():
        value, found = value_and_grad((*point[:-1], g))
        assert finite((value, found)), f"derivatives at gradients {kind} are not finite"

    # In float32 the square of a small number is zero, and derivatives of quotients divide by such squares.
    narrow = jax.tree.map(lambda x: jnp.asarray(x, "float32"), (subject.params, kinds["of zeros"]))
    with jax.disable_jit():
        found = jax.grad(lambda point: loss(subject.tx, *point))(narrow)
    assert finite(found), "derivatives at float32 gradients of zeros are not finite"


@law(6, "difference quotients", unless="derivatives")
def derivatives_are_right(subject: Subject) -> None:
    """Derivatives through three steps equal central differences along a random direction of all inputs."""
    if "reverse" in subject.unless:
        raise NotApplicableError(subject.unless["reverse"])
    for word, why in {"clip": "a corner of the function is near", "bfloat16": "it rounds to 8 bits"}.items():
        if word in subject.expression:
            raise NotApplicableError(f"{why}: difference quotients say nothing about the derivative")
    value_and_grad, point = _derivative(subject)
    _, found = value_and_grad(point)
    rng = np.random.default_rng(0)
    leaves, treedef = jax.tree.flatten(point)
    size = [np.where(np.isfinite(x), np.abs(x), 0) for x in leaves]  # an infinite bound is not moved
    direction = [0.1 * rng.uniform(size=jnp.shape(x)) * x for x in size]
    slope = sum(np.sum(d * s) for d, s in zip(direction, jax.tree.leaves(found), strict=True))
    h = 1e-5
    ahead, behind = (
        value_and_grad(treedef.unflatten([x + sign * h * d for x, d in zip(leaves, direction, strict=True)]))[0]
        for sign in (1, -1)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-7)
