"""Law 12: parity with optax in float64, 50 steps, rtol 1e-10, wherever optax has the method and is right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.cases import SCHEDULES, TRANSFORMATIONS, Case, close, costly, draw, stack, update

STEPS = 50
NOISE = stack([draw(i + 1) for i in range(STEPS)])


# Three problems as the coefficients of grad = a * p + b * p / (1 + p^2) + c * noise: a noisy quadratic, an ill-scaled
# one without noise, and a noisy one whose slope falls off (Cauchy's loss).
SPREAD = jax.tree.map(lambda p: jnp.geomspace(0.01, 3.0, p.size).reshape(p.shape), draw(0))
ONE, ZERO = jax.tree.map(jnp.ones_like, SPREAD), jax.tree.map(jnp.zeros_like, SPREAD)
PROBLEMS = stack([(ONE, ZERO, ONE), (SPREAD, ZERO, ZERO), (ZERO, ONE, SPREAD)])


def descend(tx):
    """50 steps on every problem: parameters and updates of every step."""

    def run(problem):
        def body(carry, noise):
            params, state = carry
            grads = jax.tree.map(lambda p, n, a, b, c: a * p + b * p / (1 + p**2) + c * n, params, noise, *problem)
            updates, state = update(tx, grads, state, params)
            params = jax.tree.map(lambda p, u: p + u if u.shape else p + 0.1 * u, params, updates)
            return (params, state), (params, updates)

        params = draw(0)
        return jax.lax.scan(body, (params, tx.init(params)), NOISE)[1]

    return jax.vmap(run)(PROBLEMS)


@pytest.mark.parametrize("case", costly(0, [c for c in TRANSFORMATIONS if c.optax is not None], every=3))
def test_parity(case: Case):
    reference = optax.with_extra_args_support(case.reference())
    with jax.numpy_rank_promotion("allow"):  # for optax's sake
        gradtx_steps, optax_steps = jax.jit(lambda: (descend(case.make()), descend(reference)))()
    # Links that are no descent method blow up or stand still: relative to the largest entry of a leaf.
    for a, b in zip(jax.tree.leaves(gradtx_steps), jax.tree.leaves(optax_steps), strict=True):
        scale = np.abs(b).max(axis=tuple(range(2, b.ndim)), keepdims=True)
        scale = np.where(scale > 0, scale, 1)
        np.testing.assert_allclose(a / scale, b / scale, 1e-10, 1e-10)


@pytest.mark.parametrize("case", [c for c in SCHEDULES if c.optax is not None], ids=str)
def test_schedule_parity(case: Case):
    expected = [float(case.reference()(t)) for t in range(30)]
    np.testing.assert_allclose(case.make()(jnp.arange(30)), expected, rtol=1e-12, atol=1e-15)


def test_every_case_without_a_reference_says_why():
    assert all(c.why for c in TRANSFORMATIONS + SCHEDULES if c.optax != "")


def test_optax_inside_and_around():
    """optax's transformations are links of a gradtx chain, and the other way round, with the same numbers."""

    params, grads = draw(0), draw(1)
    results = []
    for tx in (
        gx.chain(gx.clip_by_global_norm(0.5), optax.adam(0.1)),
        optax.chain(gx.clip_by_global_norm(0.5), gx.adam(0.1)),
        gx.chain(gx.clip_by_global_norm(0.5), gx.adam(0.1)),
    ):
        results.append(tx.update(grads, tx.init(params), params)[0])
    close(results[0], results[2], rtol=1e-12)
    close(results[1], results[2], rtol=1e-12)
