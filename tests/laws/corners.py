"""Corner cases that optax 0.2.8 gets wrong; each is a call that runs in the same way on both libraries.

The laws (above all 2, 5, 6 and 7) ask the same of every case. A corner raises an error if a library gets it wrong; its
docstring says what optax does. The corners run without x64, like most programs.
"""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx as gx
from tests.cases import finite
from tests.libraries import GRADTX, LIBRARIES, OPTAX, Library

CORNERS: dict[str, Callable[[Library], None]] = {}


def corner(check: Callable[..., None]) -> Callable[[Library], None]:
    """Registers a function of a library's public names as a corner."""

    @functools.wraps(check)
    def asked(library: Library) -> None:
        with jax.enable_x64(False), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the libraries do not matter here
            check(types.SimpleNamespace(**library.names, library=library))

    CORNERS[check.__name__] = asked
    return asked


# --- the optimizers that both have


def _is_asked(name: str) -> bool:
    """Whether both libraries have this optimizer and it needs only a learning rate, its first argument."""
    ours, theirs = (library.names.get(name) for library in (GRADTX, OPTAX))
    if not inspect.isfunction(ours) or theirs is None or name.startswith(("scale_by", "sophia")):
        return False
    needs = [x for x in inspect.signature(theirs).parameters.values() if x.default is x.empty]
    return next(iter(inspect.signature(ours).parameters), "") == "learning_rate" and len(needs) <= 1


OPTIMIZERS = [name for name in gx.__all__ if _is_asked(name)]
OPTIONS = {name: {"lbfgs": {"linesearch": None}} for name in LIBRARIES}
OPTIONS["optax"]["noisy_sgd"] = {"seed": 0}


def _optimizers(lib: Any) -> Iterator[tuple[str, Any]]:
    for name in OPTIMIZERS:
        options = OPTIONS[lib.library.name].get(name, {})
        yield name, _with_extras(lib, getattr(lib, name)(0.1, **options))


def _with_extras(lib: Any, tx: Any) -> Any:
    return tx if lib.library.values else lib.with_extra_args_support(tx)


def _first_step(lib: Any, tx: Any, grads: Any, params: Any, **extra: Any) -> Any:
    return _with_extras(lib, tx).update(grads, tx.init(params), params, **extra)


def _none(wrong: list[str]) -> None:
    assert not wrong, f"{len(wrong)} of {len(OPTIMIZERS)} optimizers: {', '.join(wrong)}"


# --- dtypes


@corner
def float16_zero_gradients(lib):
    """eps = 1e-8 is zero in float16, so the update is 0 / 0: NaN in 23 optimizers of optax."""
    zeros = jnp.zeros((2, 2), jnp.float16)

    @jax.jit
    def sound():
        steps = ((name, _first_step(lib, tx, zeros, zeros, value=jnp.float32(1))) for name, tx in _optimizers(lib))
        return {name: jnp.isfinite(updates).all() for name, (updates, _) in steps}

    _none([name for name, ok in sound().items() if not ok])


@corner
def float32_gradients_of_bfloat16_parameters(lib):
    """The state changes its dtype, so that a scan fails and a jitted step is traced twice (39 optimizers of optax)."""
    params, grads = jax.ShapeDtypeStruct((2, 2), "bfloat16"), jax.ShapeDtypeStruct((2, 2), "float32")

    def changes(tx):
        before = jax.eval_shape(tx.init, params)
        try:
            after = jax.eval_shape(lambda g, p: _first_step(lib, tx, g, p, value=jnp.float32(1))[1], grads, params)
        except TypeError as error:
            return "branches must have equal output types" in str(error)
        return _avals(after) != _avals(before)

    _none([name for name, tx in _optimizers(lib) if changes(tx)])


def _avals(tree: Any) -> Any:
    return [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]


@corner
def injected_numbers_of_bfloat16_parameters(lib):
    """optax keeps b2 = 0.999 in the parameters' dtype, where it is 1, and divides by 1 - b2."""
    params = jnp.ones(2, jnp.bfloat16)
    tx = lib.inject_hyperparams(lib.adamw)(0.1)
    assert finite(_first_step(lib, tx, params, params)[0]), "the update of adamw is NaN"
    np.testing.assert_allclose(float(tx.init(params).hyperparams["b2"]), 0.999, rtol=1e-6)


@corner
def the_norm_of_a_thousand_bfloat16_leaves(lib):
    """The norm of 1,000 leaves of 100 x 0.01 is 3.162; optax adds the squares in bfloat16 and gets stuck at 2."""
    tree = [jnp.full(100, 0.01, jnp.bfloat16)] * 1000
    norm = gx.tree.norm if lib.library.values else lib.global_norm
    np.testing.assert_allclose(float(norm(tree)), 3.162, rtol=2e-3)


@corner
def clipping_float16_where_the_norm_overflows(lib):
    """The sum of the squares of [300, 300] is infinite in float16, and optax's update zero."""
    _clips(lib, jnp.full(2, 300.0, jnp.float16))


@corner
def clipping_float32_where_the_norm_overflows(lib):
    """The sum of the squares of [1e20, 1e20] is infinite in float32, and optax's update zero."""
    _clips(lib, jnp.full(2, 1e20, jnp.float32))


def _clips(lib: Any, g: Any) -> None:
    np.testing.assert_allclose(_first_step(lib, lib.clip_by_global_norm(1.0), g, g)[0], np.full(2, 0.5**0.5), rtol=1e-3)


# --- degenerate points


@corner
def clipping_zeros_to_zero(lib):
    """0 / 0 * 0 is NaN."""
    zeros = jnp.zeros(2)
    np.testing.assert_array_equal(_first_step(lib, lib.clip_by_global_norm(0.0), zeros, zeros)[0], zeros)


@corner
def derivatives_through_adam_at_a_zero_gradient(lib):
    """At a zero gradient the update is differentiable, but the root of the second moment is not: NaN in optax."""
    slope = jax.jit(jax.grad(lambda g: _first_step(lib, lib.adam(0.1), g, jnp.ones(()))[0]))(jnp.zeros(()))
    np.testing.assert_allclose(slope, -0.1 / 1e-8, rtol=1e-5)


# --- buffers


@corner
def params_and_fresh_state_donated_together(lib):
    """The fresh states of six optimizers of optax, and of two other methods, contain the parameters' own buffers."""
    params = jnp.ones((2, 2))
    more = {
        "mechanize": lib.mechanize(lib.sgd(0.1)),
        "scale_by_distance_over_gradients": lib.scale_by_distance_over_gradients(),
    }

    def shares(tx):
        leaves = [x for x in jax.tree.leaves(tx.init(params)) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
        pointers = [x.unsafe_buffer_pointer() for x in (params, *leaves) if x.size]
        return len(set(pointers)) < len(pointers)

    _none([name for name, tx in [*_optimizers(lib), *more.items()] if shares(tx)])


@corner
def states_of_abstract_parameters(lib):
    """Nine optimizers of optax fail with an AttributeError if `init` gets `jax.ShapeDtypeStruct`s.

    Under `jax.eval_shape`, JAX's way to ask for shapes, all of both libraries work. Given to `init` itself, abstract
    parameters are an error in gradtx, which says so.
    """
    params = jax.ShapeDtypeStruct((2, 2), "float32")
    wrong = []
    for name, tx in _optimizers(lib):
        assert jax.tree.leaves(jax.eval_shape(tx.init, params)) is not None
        try:
            tx.init(params)
        except (TypeError, AttributeError) as error:
            if "jax.eval_shape" not in str(error):
                wrong.append(name)
    _none(wrong)


# --- what an argument means


@corner
def a_callable_mask_is_no_schedule(lib):
    """optax's inject_hyperparams calls the mask with the step count, which is no matrix, and no leaf decays."""

    def only_matrices(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    tx = lib.inject_hyperparams(lib.adamw)(0.1, weight_decay=0.5, mask=only_matrices)
    updates = _first_step(lib, tx, jnp.zeros((2, 2)), jnp.ones((2, 2)))[0]
    np.testing.assert_allclose(updates, np.full((2, 2), -0.05), rtol=1e-6)


@corner
def the_decay_of_adafactor_follows_the_learning_rate(lib):
    """With the rate 0.01 and a gradient of zero, optax still takes 0.1 of the parameters away at every step."""
    argument = "weight_decay" if lib.library.values else "weight_decay_rate"
    updates = _first_step(lib, lib.adafactor(0.01, **{argument: 0.1}), jnp.zeros((2, 2)), jnp.ones((2, 2)))[0]
    np.testing.assert_allclose(updates, np.full((2, 2), -0.001), rtol=1e-6)


@corner
def a_plateau_below_zero(lib):
    """For a best value b < 0, (1 - rtol) * b is larger than b: optax takes a constant loss for an improvement."""
    tx = lib.reduce_on_plateau(factor=0.5, patience=3)
    state, g, losses = tx.init(jnp.ones(())), jnp.ones(()), jnp.full(20, -5.0)
    factors = jax.jit(lambda: jax.lax.scan(lambda s, v: tx.update(g, s, value=v)[::-1], state, losses)[1])()
    np.testing.assert_allclose(factors[-1], 0.5**6)


@corner
def nan_after_the_limit_of_apply_if_finite(lib):
    """After its limit of errors, optax's `apply_if_finite` accepts every NaN, and Adam never recovers."""
    grads, tx = jnp.asarray([1.0, *[jnp.nan] * 5, 1.0, 1.0]), lib.apply_if_finite(lib.adam(0.1), 2)
    state, p = tx.init(grads[0]), grads[0]
    updates = jax.jit(lambda: jax.lax.scan(lambda s, g: tx.update(g, s, p)[::-1], state, grads)[1])()
    assert finite(updates), f"updates {[round(float(x), 4) for x in updates]}"


@corner
def neighbouring_large_steps(lib):
    """optax computes with step counts in float32, which cannot distinguish 2^24 + 1 from 2^24."""
    steps = jnp.asarray([2**24, 2**24 + 1], jnp.int32)
    values = jax.vmap(lib.linear_schedule(1.0, 0.0, 2**25))(steps)
    assert values[0] > values[1], "both have the same value"


@corner
def an_update_of_another_shape_is_refused(lib):
    """optax adds a (2, 2) update to a (2,) parameter, whose shape is then (2, 2)."""
    try:
        new = lib.apply_updates(jnp.ones(2), jnp.ones((2, 2)))
    except ValueError:
        return
    raise AssertionError(f"accepted: the parameters have the shape {new.shape} from then on")
