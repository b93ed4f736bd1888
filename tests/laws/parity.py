"""Law 12: parity with optax in float64, 50 steps, rtol 1e-10, wherever optax has the method and is right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.cases import draw, stack, update
from tests.laws.subject import NotApplicableError, law

STEPS = 50
NOISE = stack([draw(i + 1) for i in range(STEPS)])


# Three problems as the coefficients of grad = a * p + b * p / (1 + p^2) + c * noise: a noisy quadratic, an ill-scaled
# one without noise, and a noisy one whose slope falls off (Cauchy's loss).
SPREAD = jax.tree.map(lambda p: jnp.geomspace(0.01, 3.0, p.size).reshape(p.shape), draw(0))
ONE, ZERO = jax.tree.map(jnp.ones_like, SPREAD), jax.tree.map(jnp.zeros_like, SPREAD)
PROBLEMS = stack([(ONE, ZERO, ONE), (SPREAD, ZERO, ZERO), (ZERO, ONE, SPREAD)])


def descend(tx):
    """Takes 50 steps on every problem; returns the parameters and updates of every step."""

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


@law(12, "parity", of_values=True)
def parity(subject):
    """50 steps on three problems equal optax's steps to rtol 1e-10, in float64."""
    case = subject.case
    if case.optax is None:
        raise NotApplicableError(case.why)
    reference = optax.with_extra_args_support(case.reference())
    with jax.numpy_rank_promotion("allow"):  # optax needs this
        gradtx_steps, optax_steps = jax.jit(lambda: (descend(subject.make()), descend(reference)))()
    # Transformations that do not descend diverge or stand still, so errors are relative to the largest entry of a leaf.
    for a, b in zip(jax.tree.leaves(gradtx_steps), jax.tree.leaves(optax_steps), strict=True):
        scale = np.abs(b).max(axis=tuple(range(2, b.ndim)), keepdims=True)
        scale = np.where(scale > 0, scale, 1)
        np.testing.assert_allclose(a / scale, b / scale, 1e-10, 1e-10)
