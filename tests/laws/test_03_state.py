"""Laws 3 and 4: the state keeps structure, shape, dtype and weak type; updates look like gradients; float32 inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import close, costly, draw, kept, stack, trajectory, update

DTYPES = ("float16", "bfloat16", "float32", "float64")


def avals(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


@pytest.mark.parametrize("case", costly(3))
def test_state_and_updates_are_stable(case):
    tx = case.make()
    for p_dtype in DTYPES:
        params = jax.eval_shape(lambda p_dtype=p_dtype: draw(0, p_dtype))
        state = jax.eval_shape(tx.init, params)
        for g_dtype in DTYPES:
            grads = jax.eval_shape(lambda g_dtype=g_dtype: draw(0, g_dtype))
            updates, new_state = jax.eval_shape(lambda *args: update(tx, *args), grads, state, params)
            assert jax.tree.structure(new_state) == jax.tree.structure(state)
            assert avals(new_state) == avals(state), (p_dtype, g_dtype)
            assert jax.tree.structure(updates) == jax.tree.structure(grads)
            assert avals(updates) == avals(grads), (p_dtype, g_dtype)
        if "dtype" not in case.expression:
            for x in jax.tree.leaves(state):
                assert not jnp.issubdtype(x.dtype, jnp.inexact) or jnp.promote_types(x.dtype, "float32") == x.dtype


@pytest.mark.parametrize("case", costly(4))
def test_scan_carries_the_state(case):
    tx = case.make()
    params, grads = draw(0, "float32"), draw(1, "bfloat16")

    def body(state, _):
        updates, state = update(tx, grads, state, params)
        return state, updates

    state, _ = jax.eval_shape(lambda s: jax.lax.scan(body, s, length=3), tx.init(params))
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))


@pytest.mark.parametrize("case", costly(5, kept("rounding")))
def test_sixteen_bit_gradients_are_computed_in_float32(case):
    tx = case.make()
    if case.expression == "stateless(negate)":
        return  # the function is the user's
    p16, g16 = draw(0, "bfloat16"), stack([draw(i + 1, "bfloat16") for i in range(3)])
    narrow = jax.jit(lambda p, g: trajectory(tx, p, g))(p16, g16)
    wide = jax.tree.map(lambda x: x.astype("float32"), (p16, g16))
    exact = jax.jit(lambda p, g: trajectory(tx, p, g))(*wide)
    # Rounded once at the end: half a unit in the last of 8 bits.
    close(narrow[0], exact[0], rtol=2.0**-8, atol=1e-30)
    close(narrow[1], exact[1], rtol=1e-6, atol=1e-30)


def test_the_counter_stays_at_its_end():
    tx = gx.scale(gx.linear_schedule(1.0, 0.0, 10))
    state = tx.init(jnp.ones(2))._replace(count=jnp.asarray(np.iinfo(np.int32).max))
    _, state = tx.update(jnp.ones(2), state)
    assert state.count == np.iinfo(np.int32).max
