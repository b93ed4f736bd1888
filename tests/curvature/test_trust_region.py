"""The minimum of a quadratic model in a ball satisfies the necessary and sufficient conditions (Moré and Sorensen)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

SPECTRA = {
    "positive": [0.1, 1.0, 2.0, 50.0],
    "singular": [0.0, 0.0, 1.0, 3.0],
    "indefinite": [-4.0, -1.0, 1e-3, 8.0],
    "negative": [-9.0, -9.0, -2.0, -1.0],
    "far apart": [-1e-6, 1e-3, 1.0, 1e6],
}


def quadratic(matrix, g):
    return lambda x: x @ matrix @ x / 2 + g @ x


@jax.jit
def step(matrix, g, radius):
    tx = gx.trust_region_newton(radius, subproblem="exact")
    x = jnp.zeros(4)
    updates, state = tx.update(g, tx.init(x), x, value_fn=quadratic(matrix, g))
    return updates, state.radius


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_step_minimizes_the_model(spectrum):
    rng = np.random.default_rng(0)
    w = np.array(SPECTRA[spectrum])
    matrices, gs, radii = [], [], []
    for radius in (1e-3, 0.1, 1.0, 30.0):
        for kind in range(6):
            v = np.linalg.qr(rng.normal(size=(4, 4)))[0]
            b = rng.normal(size=4) * 10.0 ** rng.uniform(-3, 3)
            b[:kind] = 0  # the hard case for values of at least 1; a saddle point at 4
            if spectrum == "singular":
                b[:2] = 0
            matrices.append(v @ np.diag(w) @ v.T)
            gs.append(v @ b)
            radii.append(radius)
    steps, _ = jax.vmap(step)(jnp.asarray(matrices), jnp.asarray(gs), jnp.asarray(radii))
    for matrix, g, radius, p in zip(matrices, gs, radii, np.asarray(steps), strict=True):
        length = np.linalg.norm(p)
        assert length <= radius * (1 + 1e-9)
        if not np.linalg.norm(g):
            # At a point with a zero gradient, negative curvature still gives a step.
            assert length > 0.99 * radius or w[0] >= 0
            continue
        size = np.abs(w).max() * length + np.linalg.norm(g)
        shift = -p @ (matrix @ p + g) / (p @ p)
        assert shift >= max(0, -w[0]) - 1e-6 * size / length
        np.testing.assert_allclose(matrix @ p + shift * p, -g, atol=2e-6 * size)
        if shift * length > 1e-5 * size:
            np.testing.assert_allclose(length, radius, rtol=1e-6)


def test_the_minimum_of_a_quadratic_within_the_radius_is_one_step_away():
    matrix, x = jnp.diag(jnp.array([1.0, 4.0, 9.0, 16.0])), jnp.array([0.5, -0.5, 0.25, 0.1])
    updates, radius = step(matrix, -matrix @ x, 1.0)
    np.testing.assert_allclose(updates, x, rtol=1e-12)
    assert radius == 1.0


def test_it_minimizes_what_products_alone_do_not():
    """Rosenbrock's function in ten variables."""

    def rosenbrock(x):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    result = gx.minimize(rosenbrock, jnp.full(10, -0.5), gx.trust_region_newton(subproblem="exact"))
    assert result.status == gx.Status.converged
    np.testing.assert_allclose(result.params, 1, rtol=1e-7)
