"""SOAP equals its paper's algorithm, and has the properties that follow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.linalg.eigenbasis import eigenbasis, iterated_basis

SHAPES = [(4, 3), (2, 5), (3, 2, 4)]


def grads_of(shape, steps=10, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, *shape))


def updates_of(tx, grads):
    params = jnp.zeros(grads.shape[1:], grads.dtype)
    return np.asarray(jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], tx.init(params), jnp.asarray(grads))[1])


def soap(grads, b1, b2, beta, eps, interval, sides=(True, True)):
    """Algorithm 3 in float64, with the momentum in the coordinates of the parameters."""
    m, n = grads.shape[1:]
    grams, mu, nu, found = [np.zeros((m, m)), np.zeros((n, n))], np.zeros((m, n)), np.zeros((m, n)), []
    bases = [np.eye(m), np.eye(n)]
    for t, g in enumerate(grads):
        into = lambda x: bases[0].T @ x @ bases[1]  # noqa: E731
        if t > 0:
            mu, nu = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * into(g) ** 2
            step = into(mu) / (1 - b1**t) / (np.sqrt(nu / (1 - b2**t)) + eps)
            found.append(bases[0] @ step @ bases[1].T)
        else:
            found.append(np.zeros((m, n)))
        for i, product in enumerate((g @ g.T, g.T @ g)):
            grams[i] = beta * grams[i] + (1 - beta) * product
            if t == 0 and sides[i]:
                bases[i] = np.linalg.eigh(grams[i])[1][:, ::-1]
            elif t % interval == 0 and sides[i]:
                order = np.argsort(-np.diag(bases[i].T @ grams[i] @ bases[i]))
                nu = np.take(nu, order, axis=i)
                bases[i] = np.linalg.qr(grams[i] @ bases[i][:, order])[0]
    return np.stack(found)


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_soap_is_its_algorithm(shape, interval):
    """For a matrix that is not square the first factor would be singular, so the longer side has no factor here."""
    grads, shorter = grads_of(shape), min(np.prod(shape[:-1]), shape[-1])
    flat = grads.reshape(len(grads), -1, shape[-1])
    sides = [n <= shorter for n in flat.shape[1:]]
    tx = gx.scale_by_soap(0.8, 0.9, 0.7, eps=1e-3, interval=interval, one_sided=True)
    expected = soap(flat, 0.8, 0.9, 0.7, 1e-3, interval, sides).reshape(grads.shape)
    np.testing.assert_allclose(updates_of(tx, grads), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("interval", [1, 2, 4])
def test_soap_of_square_matrices_is_its_algorithm(interval):
    grads = grads_of((4, 4))
    tx = gx.scale_by_soap(0.8, 0.9, 0.7, eps=1e-3, interval=interval)
    expected = soap(grads, 0.8, 0.9, 0.7, 1e-3, interval)
    np.testing.assert_allclose(updates_of(tx, grads), expected, rtol=1e-8, atol=1e-12)


def test_soap_in_the_axes_of_the_parameters_is_adam_one_step_late():
    grads = grads_of((4, 3))
    tx = gx.scale_by_soap(0.9, 0.99, eps=1e-6, max_precond_dim=1)
    np.testing.assert_allclose(updates_of(tx, grads)[1:], updates_of(gx.scale_by_adam(0.9, 0.99, 1e-6), grads[1:]))
    vectors = [updates_of(tx, grads[:, 0]), updates_of(gx.scale_by_adam(0.9, 0.99, 1e-6), grads[1:, 0])]
    np.testing.assert_allclose(vectors[0][1:], vectors[1])


def test_a_fixed_identity_basis_gives_adam():
    """Gradients with a single entry per row, all of different sizes, have the axes as eigenvectors."""
    grads = np.stack([np.diag([4.0, 3.0, 2.0, 1.0])] * 6) * np.array([1, -2, 0.5, 3, -1, 1])[:, None, None]
    found = updates_of(gx.scale_by_soap(interval=1), grads)
    np.testing.assert_allclose(found[1:], updates_of(gx.scale_by_adam(0.95, 0.95), grads[1:]), atol=1e-12)


def test_a_rotated_problem_has_rotated_steps():
    rng = np.random.default_rng(1)
    u, v = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    grads, tx = grads_of((4, 4)), gx.scale_by_soap(interval=2)
    np.testing.assert_allclose(updates_of(tx, u @ grads @ v), u @ updates_of(tx, grads) @ v, atol=1e-9)


def test_a_basis_with_flipped_and_permuted_columns_changes_nothing():
    grads, tx, params = jnp.asarray(grads_of((4, 4))), gx.scale_by_soap(interval=2), jnp.zeros((4, 4))
    state = tx.init(params)
    for g in grads[:4]:
        _, state = tx.update(g, state)
    order, signs = jnp.array([2, 0, 3, 1]), jnp.array([1.0, -1, -1, 1])
    other = state._replace(
        basis_rows=state.basis_rows[:, :, order] * signs[None, None],
        mu=state.mu[:, order] * signs[None, :, None],
        nu=state.nu[:, order],
    )
    for g in grads[4:]:  # both bases are updated during the run
        a, state = tx.update(g, state)
        b, other = tx.update(g, other)
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_bases_are_orthogonal_and_continuous_where_nothing_happened(rank):
    x = np.random.default_rng(rank).normal(size=(5, rank))
    a = jnp.asarray(x @ x.T)[None]
    q = eigenbasis(a)[0]
    np.testing.assert_allclose(q.T @ q, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.abs(q.T @ a[0] @ q), np.diag(np.sort(np.linalg.eigvalsh(a[0]))[::-1]), atol=1e-12)
    moved = eigenbasis(a * (1 + 1e-15))[0]  # rounding
    np.testing.assert_allclose(np.abs(q.T @ moved), np.eye(5), atol=1e-9)
    again, order = iterated_basis(a, q[None][:, :, ::-1])
    np.testing.assert_array_equal(order[0][:rank], np.arange(5)[::-1][:rank])
    np.testing.assert_allclose(again[0].T @ again[0], np.eye(5), atol=1e-12)


def extremes(name, shape, dtype):
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(200 if name == "rank 1" else 12, *shape))
    if name == "rank 1":
        grads = np.broadcast_to(np.outer(*rng.normal(size=(2, shape[0]))), grads.shape) * rng.normal(size=(200, 1, 1))
    if name == "zeros first":
        grads[:3] = 0
    if name == "infinite":
        grads[4, 0, 0] = np.inf
    scale = {"tiny": 1e-15, "huge": 1e15}.get(name, 1.0)
    return (grads * scale).astype(dtype)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["rank 1", "zeros first", "tiny", "huge", "infinite"])
def test_odd_gradients_leave_soap_whole(name, dtype):
    tx, grads = (
        gx.scale_by_soap(interval=3, eps=0.0 if name in ("tiny", "huge") else 1e-8),
        extremes(name, (4, 4), dtype),
    )
    params = jnp.zeros((4, 4), dtype)
    state, updates = jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], tx.init(params), jnp.asarray(grads))
    assert np.isfinite(updates).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    assert gx.metrics(state)["failures"] == (name == "infinite")
    sizes = np.abs(updates[-5:]).max(axis=(1, 2))
    assert (sizes < 5).all()
    assert (sizes > 0.02).all()
