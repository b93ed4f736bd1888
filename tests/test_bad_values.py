"""A loss of NaN or infinity skips only its own step, and arguments that must be scalars are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import finite

READ_THE_VALUE = ["momo(1.0)", "momo_adam(0.1)", "polyak_sgd()", "momo(0.5, weight_decay=0.1, adapt_lower_bound=True)"]
BAD = [jnp.nan, jnp.inf, -jnp.inf]


def descend(tx, values, spoilt=()):
    """Returns the parameters after each step on |p|^2 / 2; at the steps in `spoilt` the loss is bad, and the gradient
    NaN."""
    params, found = jnp.array([2.0, -1.0]), []
    state = tx.init(params)
    for t, value in enumerate(values):
        f = jnp.sum(params**2) / 2 if value is None else value
        grads = params * (jnp.nan if t in spoilt else 1.0)
        updates, state = tx.update(grads, state, params, value=f)
        params = gx.apply_updates(params, updates)
        found.append(params)
    return found, state


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("expression", READ_THE_VALUE)
def test_a_bad_value_costs_its_own_step(expression, place, bad):
    """The update is zero, and the run continues as if the step had not happened."""
    tx = eval(expression, vars(gx))
    expected, _ = descend(tx, [None] * 5)
    for spoilt in ((), (place,)):
        found, state = descend(tx, [bad if t == place else None for t in range(6)], spoilt)
        before = found[place - 1] if place else jnp.array([2.0, -1.0])
        np.testing.assert_array_equal(found[place], before)
        np.testing.assert_allclose(found[:place] + found[place + 1 :], expected, rtol=1e-12)
        assert finite(state)
        assert int(gx.metrics(state)["skipped"]) == 1
        assert int(state[-1].count) == 6


def test_a_scheduled_decay_after_a_bad_value():
    """The averaging weights are the weights of the steps that were taken."""
    tx = gx.momo_adam(0.1, b1=gx.constant_schedule(0.8), b2=gx.constant_schedule(0.9))
    expected, _ = descend(gx.momo_adam(0.1, 0.8, 0.9), [None] * 5)
    found, _ = descend(tx, [None, jnp.nan, None, None, None, None])
    np.testing.assert_allclose(found[:1] + found[2:], expected, rtol=1e-12)


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_on_a_plateau_costs_one_comparison(bad):
    for mode in ("min", "max"):
        tx = gx.reduce_on_plateau(factor=0.5, patience=2, mode=mode)
        state, scales = tx.init(jnp.ones(1)), []
        for value in (3.0, bad, *((2.0, 1.0, 0.5) if mode == "min" else (4.0, 5.0, 6.0)), 3.0, 3.0):
            _, state = tx.update(jnp.ones(1), state, value=value)
            scales.append(float(state.scale))
        assert scales == [1.0] * 6 + [0.5], mode


NEEDY = [
    "momo()",
    "momo_adam()",
    "polyak_sgd()",
    "scale_by_polyak()",
    "reduce_on_plateau()",
    "adam(0.1)",
    "scale(1.0)",
    "identity()",
    "apply_if_finite(momo())",
    "accumulate(polyak_sgd(), 2)",
    "partition({'a': momo()}, 'a')",
    "with_metrics(polyak_sgd())",
    "inject_hyperparams(momo)(1.0)",
    "flatten(momo())",
    "stored(momo_adam(), 'bfloat16')",
]


@pytest.mark.parametrize("expression", NEEDY)
@pytest.mark.parametrize("shape", [(1,), (2,), (3, 1), (0,)])
def test_a_value_of_another_shape_raises(expression, shape):
    tx, params = eval(expression, vars(gx)), jnp.ones(3)
    state = tx.init(params)
    for value in (jnp.ones(shape), np.ones(shape)):
        for update in (tx.update, jax.jit(tx.update)):
            with pytest.raises(ValueError, match=rf"value has shape \({shape[0]},.*; it is one number"):
                update(params, state, params, value=value)


@pytest.mark.parametrize("value", ["1.0", 1j, jnp.array(1j), [1.0]])
def test_a_value_of_another_kind_raises(value):
    with pytest.raises(TypeError, match="value must be a real number"):
        gx.polyak_sgd().update(jnp.ones(2), gx.polyak_sgd().init(jnp.ones(2)), value=value)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2.0), np.int64(2), np.array(2.0), jnp.array(2), jnp.array(2.0)])
def test_numbers_of_any_kind_are_values(value):
    tx = gx.polyak_sgd(10.0)
    updates, _ = tx.update(jnp.full(2, 2.0), tx.init(jnp.ones(2)), value=value)
    np.testing.assert_allclose(updates, -0.5)


@pytest.mark.parametrize("expression", ["add_noise(0.1, 0.5)", "noisy_sgd(0.1)", "adam(0.1)"])
def test_a_key_is_one_random_key(expression):
    tx, g = eval(expression, vars(gx)), jnp.ones(2)
    state = tx.init(g)
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        tx.update(g, state, g, key=key)
    for key, error in ((3, TypeError), (jnp.ones(2), TypeError), ("x", TypeError), (jnp.uint32(1), TypeError)):
        with pytest.raises(error, match="key must be a random key, such as"):
            tx.update(g, state, g, key=key)
    for keys in (jax.random.split(jax.random.key(0)), jax.random.split(jax.random.PRNGKey(0))):
        with pytest.raises(ValueError, match=r"key has shape .*; it is one random key"):
            tx.update(g, state, g, key=keys)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
@pytest.mark.parametrize("every", [1, 2])
def test_a_weight_of_another_shape_raises(every, shape):
    tx, params = gx.accumulate(gx.sgd(1.0), every, weight="n"), jnp.ones(3)
    for update in (tx.update, jax.jit(tx.update)):
        with pytest.raises(ValueError, match=r"n has shape .*; it is one number"):
            update(params, tx.init(params), params, n=jnp.ones(shape))
    with pytest.raises(TypeError, match="n must be a real number"):
        tx.update(params, tx.init(params), params, n="many")
