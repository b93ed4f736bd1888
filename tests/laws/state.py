"""Laws 3 and 4: the state keeps structure, shape, dtype and weak type; updates look like gradients; float32 inside."""

import itertools

import jax
import jax.numpy as jnp

from tests.cases import close, draw, stack, trajectory, update
from tests.laws.subject import law

DTYPES = ("float16", "bfloat16", "float32", "float64")


def avals(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


def step(subject, p_dtype, g_dtype):
    """Shapes of the gradients, the fresh state, the updates and the next state."""
    if (p_dtype, g_dtype) not in subject.shapes:
        subject.shapes[p_dtype, g_dtype] = _step(subject, p_dtype, g_dtype)
    return subject.shapes[p_dtype, g_dtype]


def _step(subject, p_dtype, g_dtype):
    params, grads = (jax.eval_shape(lambda dtype=dtype: draw(0, dtype)) for dtype in (p_dtype, g_dtype))
    state = jax.eval_shape(subject.tx.init, params)
    return grads, state, *jax.eval_shape(lambda *args: update(subject.tx, *args), grads, state, params)


@law(3, "stable state", compiles=False)
def the_state_is_stable(subject):
    """After `update` the state has the structure, shapes, dtypes and weak types that `init` gave; scan carries it."""
    for dtypes in itertools.product(DTYPES, DTYPES):
        _, state, _, after = step(subject, *dtypes)
        of = "parameters of {} and gradients of {}".format(*dtypes)
        assert jax.tree.structure(after) == jax.tree.structure(state), f"another structure: {of}"
        assert avals(after) == avals(state), f"other shapes or dtypes: {of}"
    params, grads = (stack([draw(i, dtype)] * n) for i, (dtype, n) in enumerate((("float32", 1), ("bfloat16", 3))))
    params = jax.tree.map(lambda p: p[0], params)
    jax.eval_shape(lambda params, grads: trajectory(subject.tx, params, grads), params, grads)


@law(4, "updates like gradients", compiles=False)
def updates_look_like_gradients(subject):
    """Updates have the structure, shapes and dtypes of the gradients, whatever those of the parameters."""
    for p_dtype, g_dtype in itertools.product(("bfloat16", "float32"), DTYPES):
        grads, _, updates, _ = step(subject, p_dtype, g_dtype)
        assert jax.tree.structure(updates) == jax.tree.structure(grads)
        assert avals(updates) == avals(grads), f"parameters of {p_dtype} and gradients of {g_dtype}"


@law(4, "wide accumulators", compiles=False)
def accumulators_are_wide(subject):
    """Accumulators of 16-bit parameters are float32 or wider, unless a dtype was asked for."""
    if "dtype" in subject.case.expression:
        return
    for dtype in ("float16", "bfloat16"):
        for x in jax.tree.leaves(jax.eval_shape(subject.tx.init, jax.eval_shape(lambda dtype=dtype: draw(0, dtype)))):
            wide = not jnp.issubdtype(x.dtype, jnp.inexact) or jnp.promote_types(x.dtype, "float32") == x.dtype
            assert wide, f"{x.dtype} in the state"


@law(4, "float32 inside", unless="rounding")
def sixteen_bit_gradients_are_computed_in_float32(subject):
    """What comes of bfloat16 numbers is what comes of the same numbers in float32, rounded once at the end."""
    if subject.case.expression.startswith("stateless"):
        return  # the function is the user's
    p16, g16 = draw(0, "bfloat16"), stack([draw(i + 1, "bfloat16") for i in range(3)])
    wide = jax.tree.map(lambda x: x.astype("float32"), (p16, g16))
    with jax.disable_jit():  # every operation is rounded to its dtype
        narrow, exact = trajectory(subject.tx, p16, g16), trajectory(subject.tx, *wide)
    # Half a unit in the last of 8 bits.
    close(narrow[0], exact[0], rtol=2.0**-8, atol=1e-30)
    close(narrow[1], exact[1], rtol=1e-6, atol=1e-30)
