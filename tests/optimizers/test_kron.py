"""Kron (PSGD) equals its authors' algorithm, and whitens gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.linalg.whitening import spectral_bound
from tests.optimizers.test_soap import SHAPES, extremes, grads_of, updates_of


def noises(key, steps, shape):
    """Returns the random numbers of every step: the coin, the probe and the noise."""
    state, found = jax.random.PRNGKey(key), []
    for _ in range(steps):
        state, sample = jax.random.split(state)
        coin, *others = jax.random.split(sample, 3)
        found.append((jax.random.uniform(coin, (), "float32"), *(jax.random.normal(k, shape, float) for k in others)))
    return [tuple(map(np.asarray, row)) for row in found]


def bound_of(a):
    """The lower bound of a spectral norm, as in the authors' code."""
    largest = np.abs(a).max()
    a = a / largest
    x = a @ a[:, np.argmax((a**2).sum(axis=0))]
    return largest * np.linalg.norm(a @ (x / np.linalg.norm(x)))


def moved(q, a, b, rate):
    """One factor after a step; `a` and `b` have its axis first."""
    if q.ndim == 1:
        first, second = (a**2).sum(axis=1), (b**2).sum(axis=1)
        return q - rate * (first - second) * q / (first + second).max()
    first, second = a @ a.T, b @ b.T
    return q - rate * np.triu(first - second) @ q / bound_of(first + second)


def kron(grads, b1, rate, damping, clip, probability, diagonal, scale, key):
    """The algorithm in float64."""
    m, n = grads.shape[1:]
    mu, found = np.zeros((m, n)), []
    left, right = (np.eye(m) if not diagonal[0] else np.ones(m)), (np.eye(n) if not diagonal[1] else np.ones(n)) * 1.0
    right = right * scale
    full = lambda q: np.diag(q) if q.ndim == 1 else q  # noqa: E731
    for t, (g, (coin, v, noise)) in enumerate(zip(grads, noises(key, len(grads), (m, n)), strict=True)):
        mu = b1 * mu + (1 - b1) * g
        x = mu / (1 - b1 ** (t + 1))
        if coin < probability:
            y = x + noise * damping * np.sqrt((x**2).mean())
            a, b = full(left) @ y @ full(right).T, np.linalg.inv(full(left)).T @ v @ np.linalg.inv(full(right))
            if m > 1:
                left = moved(left, a, b, rate)
            right = moved(right, a.T, b.T, rate)
        u = full(left).T @ full(left) @ x @ full(right).T @ full(right)
        found.append(u * min(1, clip / np.sqrt((u**2).mean())))
    return np.stack(found)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("shape", [*SHAPES, (5,)], ids=str)
@pytest.mark.parametrize(
    ("settings", "kind"),
    [({}, "both"), ({"one_sided": True}, "one sided"), ({"max_size_triangular": 1}, "none"), ({"b1": 0.0}, "both")],
    ids=str,
)
def test_kron_is_its_algorithm(shape, settings, kind):
    grads = grads_of(shape)
    flat = grads.reshape(len(grads), -1, shape[-1])
    m, n = flat.shape[1:]
    triangular = {"both": (m > 1, m > 1), "none": (False, False), "one sided": (1 < m <= n, 1 < n < m)}[kind]
    b1 = settings.get("b1", 0.8)
    tx = gx.scale_by_kron(
        **({"b1": b1, "precond_lr": 0.3, "damping": 0.01, "clip_rms": 0.7, "init_scale": 0.5, "key": 3} | settings),
        update_probability=0.6,
    )
    expected = kron(flat, b1, 0.3, 0.01, 0.7, 0.6, [not x for x in triangular], 0.5, 3).reshape(grads.shape)
    np.testing.assert_allclose(updates_of(tx, grads), expected, rtol=1e-8)


def test_gradients_become_white():
    """Gradients with correlated rows and columns of very different sizes become nearly white noise."""
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.normal(size=(4, 4)))[0] * [10, 1, 1, 0.1], rng.normal(size=(6, 6))
    grads = left @ rng.normal(size=(3000, 4, 6)) @ right
    found = updates_of(gx.scale_by_kron(0.0, 1.0, 0.1, clip_rms=float("inf")), grads)
    for turned in ((0, 1, 2), (0, 2, 1)):
        before, after = (np.transpose(x[-1000:], turned) for x in (grads, found))
        spread = [np.linalg.eigvalsh(np.mean(x @ np.swapaxes(x, 1, 2), axis=0) / x.shape[2]) for x in (before, after)]
        assert spread[0][-1] / spread[0][0] > 100
        assert 0.7 < spread[1][0] < spread[1][-1] < 1.4


def test_the_bound_is_below_the_norm_and_near():
    x = np.random.default_rng(0).normal(size=(20, 6, 3))
    a = jnp.asarray(x @ np.swapaxes(x, 1, 2)) * jnp.logspace(-200, 200, 20)[:, None, None]
    ratio = np.asarray(spectral_bound(a))[:, 0, 0] / np.linalg.norm(a, 2, axis=(1, 2))
    assert (ratio <= 1 + 1e-12).all()
    assert (ratio > 0.75).all()


@pytest.mark.heavy
def test_kron_draws_from_its_seed_from_a_key_and_by_its_schedule():
    grads = grads_of((4, 3))
    runs = [updates_of(gx.scale_by_kron(key=key), grads) for key in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])
    never = updates_of(gx.scale_by_kron(0.0, 0.0, clip_rms=float("inf")), grads)
    np.testing.assert_array_equal(never, grads)
    tx = gx.scale_by_kron()
    state = tx.init(jnp.zeros((4, 3)))
    _, after = tx.update(jnp.asarray(grads[0]), state, key=jax.random.PRNGKey(5))
    np.testing.assert_array_equal(after.rng_key, state.rng_key)
    probabilities = gx.scale_by_kron().update_probability(jnp.array([0, 500, 1500, 10_000]))
    np.testing.assert_allclose(probabilities, [1, 1, np.exp(-1), 0.03], rtol=1e-6)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["rank 1", "zeros first", "tiny", "huge", "infinite"])
def test_odd_gradients_leave_kron_whole(name, dtype):
    tx, params, grads = gx.scale_by_kron(), jnp.zeros((4, 4), dtype), extremes(name, (4, 4), dtype)
    state, updates = jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], tx.init(params), jnp.asarray(grads))
    assert np.isfinite(updates).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    assert gx.metrics(state)["failures"] == (name == "infinite")
    assert (np.sqrt(np.mean(updates**2, axis=(1, 2))) < 1.1 + 1e-6).all()
    assert (np.abs(updates[-5:]).max(axis=(1, 2)) > (0 if name == "tiny" else 1e-2)).all()
