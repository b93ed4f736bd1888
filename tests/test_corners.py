"""Corners that optax 0.2.8 gets wrong: what it does there, and what gradtx does in the same call.

The laws hold every case of gradtx to the same (2, 5, 6 and 7 above all); here each corner has one test that
shows both libraries. Dtypes are what they are without x64, as in most programs.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gradtx as gx
from tests.cases import finite

pytestmark = pytest.mark.filterwarnings("ignore")  # what optax warns of is not the matter here

GRADTX, OPTAX = "gradtx", "optax"


def _makes_an_optimizer(name):
    """Whether both libraries have it, with a learning rate first and needing no more than that."""
    needs = [x for x in inspect.signature(_of(name, OPTAX)).parameters.values() if x.default is x.empty]
    return next(iter(inspect.signature(getattr(gx, name)).parameters), "") == "learning_rate" and len(needs) <= 1


def _of(name, library):
    return getattr(gx, name) if library == GRADTX else getattr(optax.contrib, name, None) or getattr(optax, name)


OPTIMIZERS = [
    name
    for name in gx.__all__
    if inspect.isfunction(getattr(gx, name))
    and not name.startswith(("scale_by", "sophia"))  # sophia takes a function more in optax
    and (hasattr(optax.contrib, name) or hasattr(optax, name))
    and _makes_an_optimizer(name)
]
OPTIONS = {("lbfgs", GRADTX): {"linesearch": None}, ("lbfgs", OPTAX): {"linesearch": None}}
OPTIONS |= {("noisy_sgd", OPTAX): {"seed": 0}}


@pytest.fixture(autouse=True)
def _as_in_most_programs():
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        yield


def made(name, library):
    return _of(name, library)(0.1, **OPTIONS.get((name, library), {}))


def first_step(tx, grads, params, **extra):
    if not isinstance(tx, gx.GradientTransformation):
        tx = optax.with_extra_args_support(tx)
    return tx.update(grads, tx.init(params), params, **extra)


def names_where(wrong, library):
    return {name for name in OPTIMIZERS if wrong(made(name, library))}


def avals(tree):
    return [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]


# --- dtypes


def test_float16_zero_gradients():
    """eps = 1e-8 is zero in float16, and the update 0 / 0: NaN in 23 of the 44 optimizers of optax."""
    zeros = jnp.zeros((2, 2), jnp.float16)

    @jax.jit
    def sound():
        return {
            (name, library): jnp.isfinite(first_step(made(name, library), zeros, zeros, value=jnp.float32(1))[0]).all()
            for name in OPTIMIZERS
            for library in (GRADTX, OPTAX)
        }

    wrong = {key for key, ok in sound().items() if not ok}
    assert not {name for name, library in wrong if library == GRADTX}
    assert len({name for name, library in wrong if library == OPTAX}) >= 14
    assert {("adam", OPTAX), ("adamw", OPTAX), ("rmsprop", OPTAX), ("muon", OPTAX)} <= wrong


def test_float32_gradients_of_bfloat16_parameters():
    """The state changes its dtype, so that a scan fails and a jitted step is traced twice: 39 of optax's 44."""
    params, grads = jax.ShapeDtypeStruct((2, 2), "bfloat16"), jax.ShapeDtypeStruct((2, 2), "float32")

    def wrong(tx):
        before = jax.eval_shape(tx.init, params)
        try:
            after = jax.eval_shape(lambda g, p: first_step(tx, g, p, value=jnp.float32(1))[1], grads, params)
        except TypeError as error:
            return "branches must have equal output types" in str(error)
        return avals(after) != avals(before)

    assert not names_where(wrong, GRADTX)
    assert len(names_where(wrong, OPTAX)) >= 24


def test_injected_numbers_of_bfloat16_parameters():
    """optax keeps b2 = 0.999 in the parameters' dtype, where it is 1. See tests/test_hyperparameters.py."""
    params = jnp.ones(2, jnp.bfloat16)
    theirs = optax.inject_hyperparams(optax.adamw)(0.1)
    assert float(theirs.init(params).hyperparams["b2"]) == 1.0
    assert not finite(first_step(theirs, params, params)[0])
    ours = gx.inject_hyperparams(gx.adamw)(0.1)
    assert float(ours.init(params).hyperparams["b2"]) == np.float32(0.999)
    assert finite(first_step(ours, params, params)[0])


def test_the_norm_of_a_thousand_bfloat16_leaves():
    """The true norm is sqrt(1000 * 100 * 1e-4) = 3.162; optax adds the squares in bfloat16, and stands still at 2."""
    tree = [jnp.full(100, 0.01, jnp.bfloat16)] * 1000
    assert float(optax.global_norm(tree)) == 2.0
    np.testing.assert_allclose(float(gx.tree.norm(tree)), 3.162, rtol=2e-3)


@pytest.mark.parametrize(("dtype", "entry"), [("float16", 300.0), ("float32", 1e20)])
def test_clipping_where_the_norm_overflows(dtype, entry):
    """The sum of squares is infinite, and optax's update zero."""
    g = jnp.full(2, entry, dtype)
    np.testing.assert_array_equal(first_step(optax.clip_by_global_norm(1.0), g, g)[0], np.zeros(2))
    np.testing.assert_allclose(first_step(gx.clip_by_global_norm(1.0), g, g)[0], np.full(2, 0.5**0.5), rtol=1e-3)


# --- degenerate points


def test_clipping_zeros_to_zero():
    """0 / 0 * 0."""
    zeros = jnp.zeros(2)
    assert jnp.isnan(first_step(optax.clip_by_global_norm(0.0), zeros, zeros)[0]).all()
    np.testing.assert_array_equal(first_step(gx.clip_by_global_norm(0.0), zeros, zeros)[0], zeros)


def test_derivatives_through_adam_at_a_zero_gradient():
    """The root of the second moment has no derivative at zero; the update has one."""

    def slope(tx):
        return jax.jit(jax.grad(lambda g: first_step(tx, g, jnp.ones(()))[0]))(jnp.zeros(()))

    assert jnp.isnan(slope(optax.adam(0.1)))
    np.testing.assert_allclose(slope(gx.adam(0.1)), -0.1 / 1e-8, rtol=1e-5)


# --- buffers


def test_params_and_fresh_state_donated_together():
    """The fresh states of six of optax's optimizers, and of two more methods, hold the parameters themselves."""
    params = jnp.ones((2, 2))

    def shares(tx):
        leaves = [x for x in jax.tree.leaves(tx.init(params)) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
        pointers = [x.unsafe_buffer_pointer() for x in (params, *leaves) if x.size]
        return len(set(pointers)) < len(pointers)

    assert not names_where(shares, GRADTX)
    assert not shares(gx.mechanize(gx.sgd(0.1)))
    assert not shares(gx.scale_by_distance_over_gradients())
    assert names_where(shares, OPTAX) == {"cocob", "dog", "dowg", "lbfgs", "madgrad", "prodigy"}
    assert shares(optax.contrib.mechanize(optax.sgd(0.1)))
    assert shares(optax.scale_by_distance_over_gradients())

    def step(tx):
        fresh = jnp.full((2, 2), 2.0)
        update = jax.jit(lambda p, s: tx.update(p, s, p, value=1.0)[0], donate_argnums=(0, 1))
        return update(fresh, tx.init(fresh))

    with pytest.raises(jax.errors.JaxRuntimeError, match="donated in the same call"):
        step(optax.with_extra_args_support(made("dog", OPTAX)))
    assert finite(step(made("dog", GRADTX)))


def test_states_of_abstract_parameters():
    """Nine of optax's optimizers fail on `jax.ShapeDtypeStruct`s given to `init` itself, the others take them.

    Under `jax.eval_shape`, the way of JAX to ask for shapes, all of optax's work, and all of gradtx's; given to `init`
    itself they are an error here, which says so.
    """
    params = jax.ShapeDtypeStruct((2, 2), "float32")

    def fails(tx):
        try:
            tx.init(params)
        except (TypeError, AttributeError):
            return True
        return False

    nine = {"dadapt_adamw", "dog", "dowg", "galore", "momo", "momo_adam", "prodigy"}
    nine |= {"schedule_free_adamw", "schedule_free_sgd"}
    assert names_where(fails, OPTAX) == nine
    for name in OPTIMIZERS:
        assert jax.tree.leaves(jax.eval_shape(made(name, OPTAX).init, params)) is not None
        state = jax.eval_shape(made(name, GRADTX).init, params)
        assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(state))
    with pytest.raises(TypeError, match=r"jax.eval_shape\(tx.init, params\)"):
        made("adam", GRADTX).init({"w": params})


# --- what an argument means


def test_a_callable_mask_is_no_schedule():
    """optax's inject_hyperparams calls the mask with the step count, which is no matrix, and no leaf decays."""

    def only_matrices(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    g, p = jnp.zeros((2, 2)), jnp.ones((2, 2))
    arguments = {"weight_decay": 0.5, "mask": only_matrices}
    decayed = np.full((2, 2), -0.05)
    np.testing.assert_allclose(first_step(optax.adamw(0.1, **arguments), g, p)[0], decayed, rtol=1e-6)
    theirs = optax.inject_hyperparams(optax.adamw)(0.1, **arguments)
    np.testing.assert_array_equal(first_step(theirs, g, p)[0], np.zeros((2, 2)))
    ours = gx.inject_hyperparams(gx.adamw)(0.1, **arguments)
    np.testing.assert_allclose(first_step(ours, g, p)[0], decayed, rtol=1e-6)


def test_the_decay_of_adafactor_follows_the_learning_rate():
    """With the rate 0.01 and a gradient of zero, optax still takes 0.1 of the parameters away at every step."""
    g, p = jnp.zeros((2, 2)), jnp.ones((2, 2))
    theirs = optax.adafactor(0.01, weight_decay_rate=0.1)
    np.testing.assert_allclose(first_step(theirs, g, p)[0], np.full((2, 2), -0.1), rtol=1e-6)
    ours = gx.adafactor(0.01, weight_decay=0.1)
    np.testing.assert_allclose(first_step(ours, g, p)[0], np.full((2, 2), -0.001), rtol=1e-6)


def test_a_plateau_below_zero():
    """(1 - rtol) * b lies above a best value b < 0: to optax a standstill there is an improvement.

    More of it is in tests/test_hyperparameters.py.
    """

    def last_factor(tx):
        state, g = tx.init(jnp.ones(())), jnp.ones(())
        losses = jnp.full(20, -5.0)
        return jax.jit(lambda: jax.lax.scan(lambda s, v: tx.update(g, s, value=v)[::-1], state, losses)[1])()

    options = {"factor": 0.5, "patience": 3}
    assert last_factor(optax.contrib.reduce_on_plateau(**options))[-1] == 1
    assert last_factor(gx.reduce_on_plateau(**options))[-1] == 0.5**6


def test_nan_after_the_limit_of_apply_if_finite():
    """After its limit optax's lets every NaN through, and its Adam never recovers. See tests/test_skipping.py."""

    def updates(tx):
        grads = jnp.asarray([1.0, *[jnp.nan] * 5, 1.0, 1.0])
        state, p = tx.init(grads[0]), grads[0]
        return jax.jit(lambda: jax.lax.scan(lambda s, g: tx.update(g, s, p)[::-1], state, grads)[1])()

    found = updates(optax.apply_if_finite(optax.adam(0.1), 2))
    assert jnp.isnan(found[3:]).all()
    assert finite(updates(gx.apply_if_finite(gx.adam(0.1), 2)))


def test_neighbouring_large_steps():
    """float32 cannot tell 2^24 + 1 from 2^24; tests/test_schedules.py has the other schedules."""
    steps = jnp.asarray([2**24, 2**24 + 1], jnp.int32)
    arguments = (1.0, 0.0, 2**25)
    theirs = jax.vmap(optax.linear_schedule(*arguments))(steps)
    assert theirs[0] == theirs[1]
    ours = gx.linear_schedule(*arguments)(steps)
    assert ours[0] > ours[1]


def test_an_update_of_another_shape_is_refused():
    """optax adds them with broadcasting, and the parameters have another shape from then on."""
    params, updates = jnp.ones(2), jnp.ones((2, 2))
    assert optax.apply_updates(params, updates).shape == (2, 2)
    with pytest.raises(ValueError, match=r"updates has shape \(2, 2\) and params has shape \(2,\)"):
        gx.apply_updates(params, updates)
