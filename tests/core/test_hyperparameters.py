"""Reads and changes hyperparameters: in the transformation, in the state, and as a function of the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.cases import close, draw, stack, trajectory

PARAMS, GRADS = draw(0), stack([draw(i + 1) for i in range(5)])


def test_injected_equals_plain():
    """Whatever the arguments are: masks stay masks, flags stay flags, whole numbers that decide shapes stay static."""

    def only_matrices(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    for factory, arguments in (
        (gx.adamw, {"learning_rate": 0.1, "weight_decay": 0.2, "mask": only_matrices, "nesterov": True}),
        (gx.adamw, {"learning_rate": gx.linear_schedule(0.1, 0.0, 4), "mask": {"w": True, "deep": False}}),
        (gx.sgd, {"learning_rate": lambda count: 0.1 / (count + 1), "momentum": 0.9, "accumulator_dtype": "float32"}),
        (gx.galore, {"learning_rate": 0.1, "rank": 1, "weight_decay": 0.1}),
        (gx.prodigy, {"betas": (0.8, 0.9), "estim_lr0": 0.01}),
    ):
        injected = gx.inject_hyperparams(factory)(**arguments)
        found = jax.jit(lambda tx=injected: trajectory(tx, PARAMS, GRADS)[0])()
        close(found, trajectory(factory(**arguments), PARAMS, GRADS)[0], rtol=1e-12, atol=1e-15)
        names = set(injected.init(PARAMS).hyperparams)
        assert "learning_rate" in names
        assert not names & {"mask", "nesterov", "accumulator_dtype", "rank", "update_proj_gap", "betas"}


def test_numbers_are_float32_or_wider():
    """optax casts b2 to the parameters' dtype: 0.999 in bfloat16 is 1, and every update is NaN."""
    with jax.enable_x64(False):
        params = jax.tree.map(lambda p: p.astype("bfloat16"), PARAMS)
        for hyperparam_dtype in (None, "bfloat16", "float32"):
            tx = gx.inject_hyperparams(gx.adamw, hyperparam_dtype=hyperparam_dtype)(0.1)
            state = tx.init(params)
            assert {x.dtype.name for x in state.hyperparams.values()} == {"float32"}
            updates, state = tx.update(params, state, params)
            assert all(jnp.isfinite(u).all() for u in jax.tree.leaves(updates))


def test_numbers_in_the_state_can_be_set():
    tx = gx.inject_hyperparams(gx.sgd, static_args="momentum")(0.1, momentum=0.5)
    state = tx.init(PARAMS)
    assert set(state.hyperparams) == {"learning_rate", "dampening"}
    state.hyperparams["learning_rate"] = jnp.asarray(0.2)
    updates, state = jax.jit(tx.update)(PARAMS, state)
    close(updates, jax.tree.map(lambda p: -0.2 * p, PARAMS))
    assert gx.hyperparameters(tx, state)["learning_rate"] == 0.2
    # A schedule overrides a value that is set in the state.
    tx = gx.inject_hyperparams(gx.sgd)(gx.linear_schedule(0.1, 0.0, 2))
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.asarray(7.0)
    close(tx.update(PARAMS, state)[0], jax.tree.map(lambda p: -0.1 * p, PARAMS))


@pytest.mark.parametrize("number", [2, np.int64(2), jnp.asarray(2), 2.0, np.float64(2)])
def test_an_injected_number_may_be_set_to_any_number(number):
    tx = gx.inject_hyperparams(gx.sgd)(0.1)
    state = tx.init(jnp.zeros(1))
    state.hyperparams["learning_rate"] = number
    updates, state = tx.update(jnp.ones(1), state)
    close(updates, -2 * jnp.ones(1))
    assert state.hyperparams["learning_rate"].dtype == tx.init(jnp.zeros(1)).hyperparams["learning_rate"].dtype


def test_another_library_can_be_injected():
    close(
        trajectory(gx.inject_hyperparams(optax.adam)(0.1), PARAMS, GRADS)[0],
        trajectory(gx.adam(0.1), PARAMS, GRADS)[0],
        rtol=1e-10,
    )


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gx.inject_hyperparams(3), "inner_factory must be a function"),
        (lambda: gx.inject_hyperparams(gx.sgd, "rate"), "sgd has no argument rate; there are: learning_rate"),
        (lambda: gx.inject_hyperparams(gx.chain), r"chain takes \*links.*Write a function with named arguments"),
        (lambda: gx.inject_hyperparams(gx.sgd)(-1.0), r"learning_rate must be in \[0, inf\)"),
        (lambda: gx.inject_hyperparams(gx.sgd)(0.1).update(PARAMS, ()), "must be an InjectHyperparamsState"),
        (lambda: gx.inject_hyperparams(lambda x: x)(0.1), "expected gradient transformations"),
        (lambda: gx.reduce_on_plateau(1.0), r"factor must be in \(0, 1\)"),
        (lambda: gx.reduce_on_plateau(patience=0), "patience must be an integer of at least 1"),
        (lambda: gx.reduce_on_plateau(mode="least"), "mode must be one of 'min', 'max'"),
        (lambda: gx.reduce_on_plateau().update(1.0, gx.reduce_on_plateau().init(1.0)), "needs `value`"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises((TypeError, ValueError), match=match):
        call()


def scales(tx, values):
    def step(state, value):
        updates, state = tx.update(jnp.ones(()), state, value=value)
        return state, updates

    return np.asarray(jax.lax.scan(step, tx.init(jnp.ones(())), jnp.asarray(values))[1])


def test_plateaus_of_losses_of_any_sign():
    """The results are the same for a loss, for the loss shifted below zero, and for the negative loss with 'max'."""
    losses = np.concatenate([np.linspace(3, 1, 5), np.ones(7), np.linspace(0.9, 0.5, 3), np.full(6, 0.5)])
    options = {"factor": 0.5, "patience": 3, "rtol": 0.0, "atol": 1e-6}
    expected = scales(gx.reduce_on_plateau(**options), losses)
    assert expected.min() == 0.0625
    np.testing.assert_array_equal(expected, scales(gx.reduce_on_plateau(**options), losses - 100.0))
    np.testing.assert_array_equal(expected, scales(gx.reduce_on_plateau(**options, mode="max"), -losses))
    np.testing.assert_array_equal(expected, scales(gx.reduce_on_plateau(**options, mode="max"), 100 - losses))
    # A constant negative loss is a plateau, even with a relative tolerance; optax takes it for an improvement.
    below = np.full(20, -5.0)
    assert scales(gx.reduce_on_plateau(0.5, patience=3), below)[-1] < 1
    theirs = optax.with_extra_args_support(optax.contrib.reduce_on_plateau(0.5, patience=3))
    assert scales(theirs, below)[-1] == 1


def test_a_loss_that_is_no_number_is_no_improvement():
    tx = gx.reduce_on_plateau(0.5, patience=2)
    np.testing.assert_array_equal(scales(tx, [1.0, np.nan, np.nan, 0.5]), [1.0, 1.0, 0.5, 0.5])
    np.testing.assert_array_equal(scales(tx, [np.nan, 1.0, 0.5]), [1.0, 1.0, 1.0])


def test_the_scale_has_a_floor_and_a_pause():
    tx = gx.reduce_on_plateau(0.1, patience=1, cooldown=2, min_scale=0.05)
    found = scales(tx, np.ones(9))
    np.testing.assert_allclose(found, [1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05], rtol=1e-12)


def test_sixteen_bit_hyperparameters_are_used_in_float32():
    for dtype in ("float16", "bfloat16"):
        b2 = jnp.asarray(0.999, dtype)
        tx = gx.scale_by_adam(b2=b2)
        expected = gx.scale_by_adam(b2=b2.astype("float32"))
        g = jnp.asarray([[0.5, -2.0]], dtype)
        # bfloat16 rounds 0.999 to 1, which no arithmetic can repair, so the test uses a number that bfloat16 can
        # represent.
        if dtype == "float16":
            close(trajectory(tx, g[0], g), trajectory(expected, g[0], g), rtol=1e-6)


def test_non_scalar_hyperparameters_are_refused():
    tx = gx.scale(jnp.ones(3))
    with pytest.raises(ValueError, match=r"step_size has shape \(3,\).*vmap"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))


def test_the_keyword_arguments_of_a_factory_are_its_arguments():
    def factory(learning_rate, **options):
        return gx.sgd(learning_rate, **options)

    tx = gx.inject_hyperparams(factory)(0.5, momentum=0.9)
    state = tx.init(jnp.zeros(1))
    assert set(state.hyperparams) == {"learning_rate", "momentum"}
    np.testing.assert_allclose(tx.update(jnp.ones(1), state)[0], [-0.5])
