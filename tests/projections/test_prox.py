"""Proximal operators: Moreau's identity, groups, long signals; test_projections.py runs the registry's tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

RNG = np.random.default_rng(0)
X = {"a": jnp.asarray(2 * RNG.normal(size=5)), "b": jnp.asarray(RNG.normal(size=(2, 3)))}


@pytest.mark.parametrize(
    ("prox", "projection", "tree"),
    [
        (gx.prox_l1, gx.projection_linf_ball, X),
        (gx.prox_l2, gx.projection_l2_ball, X),
        (gx.prox_nuclear_norm, gx.projection_spectral_ball, X["b"]),
    ],
)
@pytest.mark.parametrize("reg", [0.0, 0.4, 100.0])
def test_moreau(prox, projection, tree, reg):
    """The proximal operator of a norm subtracts the projection onto the ball of the dual norm."""
    rest = jax.tree.map(lambda x, p: x - p, tree, projection(tree, reg))
    for p, r in zip(jax.tree.leaves(prox(tree, reg)), jax.tree.leaves(rest), strict=True):
        np.testing.assert_allclose(p, r, atol=1e-14)
    for p, q in zip(jax.tree.leaves(prox(tree, reg)), jax.tree.leaves(prox(tree, 2 * reg, 0.5)), strict=True):
        np.testing.assert_allclose(p, q, atol=1e-14)


def test_groups():
    by_leaf = gx.prox_group_lasso(X, 0.5)
    for name, x in X.items():
        np.testing.assert_allclose(by_leaf[name], gx.prox_l2(x, 0.5), atol=1e-15)
    x = jnp.asarray(RNG.normal(size=(2, 3, 4)))
    for axis, other in ((1, (0, 2)), ((0, -1), (1,)), ((2, 0, 1), ())):
        p = np.asarray(gx.prox_group_lasso(x, 0.5, axis=axis))
        norms = np.linalg.norm(x, axis=None) if not other else np.sqrt(np.sum(np.square(x), axis=axis, keepdims=True))
        np.testing.assert_allclose(p, x * np.maximum(1 - 0.5 / norms, 0), atol=1e-15)


def test_regularization_by_leaf_and_by_entry():
    p = gx.prox_l1(X, {"a": 0.1, "b": jnp.full((2, 3), 100.0)}, 0.5)
    np.testing.assert_allclose(p["a"], gx.prox_l1(X["a"], 0.05))
    assert not p["b"].any()


@pytest.mark.heavy
def test_extremes():
    largest = float(jnp.finfo(jnp.float64).max)
    x = jnp.array([largest, -largest, 0.0, 1e-308])
    fns = (gx.prox_l1, gx.prox_l2, gx.prox_l2_squared, gx.prox_elastic_net, gx.prox_log_barrier)
    for fn in (*fns, gx.prox_total_variation):
        for point in (x, 0 * x):
            for reg in (0.0, 1.0):
                value, slopes = jax.value_and_grad(lambda x, r, fn=fn: jnp.sum(fn(x, r) / 4), (0, 1))(point, reg)
                assert np.isfinite(value)
                assert all(np.isfinite(s).all() for s in slopes)
    # The smallest entries do not vanish beside large ones: p - r / p = x.
    np.testing.assert_allclose(gx.prox_log_barrier(jnp.array([-1e8, 1e8])), [1e-8, 1e8], rtol=1e-12)
    assert np.isnan(gx.prox_l1(jnp.array([jnp.nan]))).all()


@pytest.mark.parametrize("kind", ["walk", "noise", "steps", "ramp", "integers"])
def test_long_signals(kind):
    """The dual problems certify the solutions of total variation and of isotonic regression, in O(n) each."""
    n, r = 2000, 1.7
    noise = RNG.normal(size=n)
    x = {
        "walk": np.cumsum(noise),
        "noise": noise,
        "steps": np.repeat(RNG.normal(size=20) * 5, 100) + noise,
        "ramp": np.linspace(20, 0, n) + 0.1 * noise,
        "integers": np.round(2 * noise),
    }[kind]
    p = np.asarray(gx.prox_total_variation(jnp.asarray(x), r))
    dual, jumps = np.cumsum(x - p), np.diff(p)
    assert abs(dual[-1]) < 1e-10
    assert (np.abs(dual) <= r + 1e-10).all()
    real = np.abs(jumps) > 1e-12  # where blocks are equally high, rounding makes jumps
    np.testing.assert_allclose(dual[:-1][real], -r * np.sign(jumps[real]), atol=1e-10)
    p = np.asarray(gx.projection_monotone(jnp.asarray(x)))
    dual, jumps = np.cumsum(x - p), np.diff(p)
    assert (jumps >= 0).all()
    assert (dual >= -1e-9).all()
    np.testing.assert_allclose(np.append(dual[:-1][jumps > 0], dual[-1]), 0, atol=1e-9)
