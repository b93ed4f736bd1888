"""Laws 3 and 4: the state keeps shapes and dtypes, updates match the gradients, and arithmetic is in float32."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.testing.calls import trajectory, update
from gradtx.testing.data import close, draw, stack
from gradtx.testing.subject import NotApplicableError, Subject, law
from gradtx.types import Params, Transformation, Updates

DTYPES = ("float16", "bfloat16", "float32", "float64")


def avals(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


def step(tx: Transformation, params: Params, grads: Updates) -> tuple[Any, Any, Any]:
    """Returns the abstract initial state, updates and next state, from abstract parameters and gradients."""
    state = jax.eval_shape(tx.init, params)
    return state, *jax.eval_shape(lambda *args: update(tx, *args), grads, state, params)


def alike(actual: Any, expected: Any, about: str) -> None:
    """Asserts that two abstract trees have the same structure, shapes, dtypes and weak types."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected), f"the structures differ: {about}"
    assert avals(actual) == avals(expected), f"shapes or dtypes differ: {about}"


def wide(tx: Transformation, params: Params) -> None:
    """Asserts that all floating-point arrays of a fresh state are float32 or wider."""
    for x in jax.tree.leaves(jax.eval_shape(tx.init, params)):
        narrow = jnp.issubdtype(x.dtype, jnp.inexact) and jnp.promote_types(x.dtype, "float32") != x.dtype
        assert not narrow, f"{x.dtype} in the state: start it in float32 or wider, as gradtx.leaf.full(p) does"


def asks_for_a_dtype(expression: str) -> bool:
    """Whether the expression sets the dtype of some state, which may then be narrower than float32."""
    return "dtype" in expression or "stored(" in expression


def shapes(dtype: str) -> Any:
    return jax.eval_shape(lambda: draw(0, dtype))


def of_dtypes(subject: Subject, p_dtype: str, g_dtype: str) -> tuple[Any, Any, Any, str]:
    """Runs `step` on the trees of the laws in these dtypes, for two laws; returns the results with a description."""
    dtypes = p_dtype, g_dtype
    if dtypes not in subject.memory:
        subject.memory[dtypes] = step(subject.tx, *map(shapes, dtypes))
    return *subject.memory[dtypes], "parameters of {} and gradients of {}".format(*dtypes)


@law(3, "stable state")
def the_state_is_stable(subject: Subject) -> None:
    """`update` keeps the structure, shapes, dtypes and weak types of the state, so that `lax.scan` can carry it."""
    for dtypes in itertools.product(DTYPES, DTYPES):
        state, _, after, about = of_dtypes(subject, *dtypes)
        alike(after, state, about)
    params, grads = (stack([draw(i, dtype)] * n) for i, (dtype, n) in enumerate((("float32", 1), ("bfloat16", 3))))
    params = jax.tree.map(lambda p: p[0], params)
    jax.eval_shape(lambda params, grads: trajectory(subject.tx, params, grads), params, grads)


@law(4, "updates like gradients", unless="like gradients")
def updates_look_like_gradients(subject: Subject) -> None:
    """Updates have the structure, shapes and dtypes of the gradients, whatever the dtypes of the parameters."""
    for p_dtype, g_dtype in itertools.product(("bfloat16", "float32"), DTYPES):
        _, updates, _, about = of_dtypes(subject, p_dtype, g_dtype)
        alike(updates, shapes(g_dtype), about)


@law(4, "wide accumulators", quick=True)
def accumulators_are_wide(subject: Subject) -> None:
    """Accumulators for 16-bit parameters are float32 or wider, unless the user sets their dtype."""
    if asks_for_a_dtype(subject.expression):
        raise NotApplicableError("the user sets the dtype")
    for dtype in ("float16", "bfloat16"):
        wide(subject.tx, shapes(dtype))


@law(4, "float32 inside", unless="rounding")
def sixteen_bit_gradients_are_computed_in_float32(subject: Subject) -> None:
    """Steps on bfloat16 arrays give the results of the same steps in float32, rounded once at the end."""
    if subject.expression.startswith("stateless"):
        raise NotApplicableError("the user's function gets the gradients in their own dtype")
    p16, g16 = draw(0, "bfloat16"), stack([draw(i + 1, "bfloat16") for i in range(3)])
    wide = jax.tree.map(lambda x: x.astype("float32"), (p16, g16))
    with jax.disable_jit():  # so that every operation is rounded to its dtype
        narrow, exact = trajectory(subject.tx, p16, g16), trajectory(subject.tx, *wide)
    # Half a unit in the last of 8 significant bits.
    close(narrow[0], exact[0], rtol=2.0**-8, atol=1e-30, about="updates differ from the updates in float32")
    close(narrow[1], exact[1], rtol=1e-6, atol=1e-30, about="the state differs from the state in float32")
