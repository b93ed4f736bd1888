"""Per-example clipping and its private average, against optax and NumPy; no law about plain gradients applies here."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.cases import PER_EXAMPLE, close, draw

GRADS = jax.tree.map(lambda *x: jnp.stack(x), *(draw(i, scale=10.0**-i) for i in range(4)))
PARAMS = draw(9)


@pytest.mark.heavy
@pytest.mark.parametrize("bound", [0.1, 1.0, 100.0])
def test_clipping_is_that_of_optax(bound):
    close(
        jax.jit(gx.per_example_global_norm_clip)(GRADS, bound),
        optax.per_example_global_norm_clip(GRADS, bound),
        rtol=1e-12,
    )
    for uniform in (True, False):
        close(
            gx.per_example_layer_norm_clip(GRADS, bound, uniform),
            optax.per_example_layer_norm_clip(GRADS, bound, uniform),
            rtol=1e-12,
        )


@pytest.mark.heavy
@pytest.mark.parametrize("case", [case for case in PER_EXAMPLE if case.optax is not None], ids=str)
def test_noise_is_that_of_optax(case):
    """The same key gives the same noise as in optax."""

    def run(tx):
        state, found = tx.init(PARAMS), []
        for _ in range(3):
            updates, state = tx.update(GRADS, state)
            found.append(updates)
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # optax calls its own deprecated argument
        theirs = eval(case.expression, vars(optax.contrib))
    close(jax.jit(lambda: run(case.make()))(), run(theirs), rtol=1e-12)
    close(run(case.make()), run(theirs), rtol=1e-12)


@pytest.mark.heavy
def test_states_keep_their_kind_and_schedules_are_read():
    tx = gx.dpsgd(0.1, gx.linear_schedule(1.0, 0.5, 2), noise_multiplier=0.0, seed=3, momentum=0.9)
    grads = jax.tree.map(lambda g: 1e3 * g.astype("bfloat16"), GRADS)
    params = jax.tree.map(lambda p: p.astype("float32"), PARAMS)
    state = tx.init(params)
    updates, after = tx.update(grads, state)
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (state, after)]
    assert kinds[0] == kinds[1]
    assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == jax.tree.map(lambda g: (g.shape[1:], g.dtype), grads)
    known = gx.hyperparameters(tx, after)
    assert float(known["differentially_private_aggregate.l2_norm_clip"]) == 0.75
    # The second average is of gradients of norm 0.75 at most.
    aggregate = gx.differentially_private_aggregate(gx.linear_schedule(1.0, 0.5, 2), 0.0)
    one = jax.tree.map(lambda g: 1e6 * g[:1], GRADS)
    _, state = aggregate.update(one, aggregate.init(PARAMS))
    updates, _ = aggregate.update(one, state)
    np.testing.assert_allclose(float(gx.tree.norm(updates)), 0.75, rtol=1e-9)


def test_overflowing_and_zero_examples_are_clipped():
    for dtype, large in (("float16", 6e4), ("float32", 3e38)):
        g = {"w": jnp.asarray([[large, large], [0.0, 0.0]], dtype)}
        total, clipped = gx.per_example_global_norm_clip(g, 1.0)
        np.testing.assert_allclose(total["w"], np.full(2, 0.5**0.5), rtol=1e-3)
        assert int(clipped) == 1
