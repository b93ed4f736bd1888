"""Variants of Muon equal their papers' algorithms, written out in NumPy in float64; and properties of all variants.

The papers write weights as (outputs, inputs): the transcriptions do so too, and are given transposed gradients.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import close, trajectory

SHAPES = [(4, 6), (6, 4), (5, 5)]
STEPS = 10
JORDAN = (3.4445, -4.7750, 2.0315)


def gradients(shape, steps=STEPS, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, *shape))


def newton_schulz(x, steps=5):
    a, b, c = JORDAN
    x = x / np.linalg.norm(x)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def normuon(grads, b1=0.95, b2=0.95, eps=1e-8):
    """Algorithm 1 of NorMuon, with eta = 1 and without its decay."""
    m, v = 0, 0
    for g in grads:
        m = b1 * m + (1 - b1) * g
        o = newton_schulz(m)
        v = b2 * v + (1 - b2) * np.mean(o * o, axis=1)
        w = o / (np.sqrt(v)[:, None] + eps)
        yield 0.2 * np.sqrt(g.size) / np.linalg.norm(w) * w


def adamuon(grads, beta=0.95, eps=1e-8, signs=True):
    """Algorithm 1 of AdaMuon, with eta = 1 and without its decay."""
    m, v = 0, 0
    for g in grads:
        m = beta * m + g
        o = newton_schulz(np.sign(m) if signs else m)
        v = beta * v + (1 - beta) * o * o
        w = o / (np.sqrt(v) + eps)
        yield 0.2 * np.sqrt(g.size) / np.linalg.norm(w) * w


def dion(grads, basis, mu=0.95):
    """Algorithm 1 of Dion, with eta = 1."""
    m, q = 0, basis
    for g in grads:
        b = m + g
        p = np.linalg.qr(b @ q)[0]
        r = b.T @ p
        m = b - (1 - mu) * p @ r.T
        q = r / np.linalg.norm(r, axis=0)
        yield np.sqrt(g.shape[0] / g.shape[1]) * p @ q.T


def lmo(grads, norm, alpha=0.1):
    """Algorithm 1 of Scion, unconstrained, with the oracles of its tables 2 to 4, at step size and radius 1."""
    d = 0
    for g in grads:
        d = (1 - alpha) * d + alpha * g
        outputs, inputs = g.shape
        if norm == "spectral":
            yield np.sqrt(outputs / inputs) * newton_schulz(d)
        elif norm == "sign":
            yield np.sign(d) / inputs
        elif norm == "column":
            yield np.sqrt(outputs) * d / np.linalg.norm(d, axis=0)
        else:
            yield d / np.linalg.norm(d, axis=1)[:, None] / np.sqrt(inputs)


SHAPE = gx.scale_by_shape(consistent_rms=0.2)
METHODS = {
    "normuon": (gx.chain(gx.scale_by_normuon(nesterov=False), SHAPE), normuon),
    "adamuon": (gx.chain(gx.scale_by_adamuon(nesterov=False), SHAPE), adamuon),
    "adamuon, first version": (
        gx.chain(gx.scale_by_adamuon(nesterov=False, sign_momentum=False), SHAPE),
        lambda grads: adamuon(grads, signs=False),
    ),
    "dion": (
        gx.scale_by_dion(3),
        lambda grads: dion(grads, np.asarray(gx.scale_by_dion(3).init(grads[0].T).basis[0])),
    ),
    **{
        norm: (gx.scale_by_lmo(norm), lambda grads, norm=norm: lmo(grads, norm))
        for norm in ("spectral", "sign", "column", "row")
    },
}
EVERY = {**{name: tx for name, (tx, _) in METHODS.items()}, "muon": gx.scale_by_muon()}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_the_paper_in_numpy(name, shape):
    tx, method = METHODS[name]
    grads = gradients(shape)
    expected = np.stack([u.T for u in method([g.T for g in grads])])
    found = trajectory(tx, jnp.zeros(shape), jnp.asarray(grads))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_the_update_does_not_depend_on_the_scale_of_gradients(name):
    tx, grads = EVERY[name], jnp.asarray(gradients((4, 6), steps=3))
    step = jax.jit(lambda grads: trajectory(tx, grads[0], grads)[0])
    unit = step(grads)
    for scale in (1e-30, 1e-15, 3e-8, 7.0, 1e15, 1e30):
        np.testing.assert_allclose(step(grads * scale), unit, rtol=1e-12, atol=1e-12)


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_corners(name, dtype):
    """Zero gradients at the start, tiny and huge gradients, rank one for 200 steps, an infinite gradient."""
    tx, g = EVERY[name], jnp.asarray(gradients((4, 6))[0], dtype)
    run = jax.jit(lambda grads: trajectory(tx, grads[0], grads))
    updates, _ = run(jnp.stack([g * 0, g * 0, g * 1e-15, g * 1e15, g]))
    np.testing.assert_array_equal(updates[:2], 0)
    assert bool(jnp.isfinite(updates).all())
    assert bool((jnp.abs(updates[2:]).max((1, 2)) > 0.1).all())
    left, right = gradients((200, 4), 1)[0], gradients((1, 6), 1, seed=1)[0]
    updates, state = run(jnp.asarray(left[:, :, None] * right, dtype))
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((updates, state)))
    assert float(jnp.abs(updates).max()) < 20
    seen = run(jnp.stack([g, g.at[1, 2].set(jnp.inf)]))[0][1]
    assert name in ("sign", "adamuon") or not bool(jnp.isfinite(seen).all())


def test_dion_of_full_rank_and_a_fixed_gradient_is_its_polar_factor():
    """Power iterations align the basis with the singular vectors; the columns of R are then orthogonal."""
    g = jnp.asarray(gradients((5, 4))[0])
    tx = gx.scale_by_dion(rank=9)
    updates = trajectory(tx, g, jnp.tile(g, (200, 1, 1)))[0]
    u, _, vh = np.linalg.svd(g, full_matrices=False)
    np.testing.assert_allclose(updates[-1], u @ vh * np.sqrt(4 / 5), atol=1e-3)


def test_a_direction_without_gradient_keeps_its_place_in_dions_basis():
    g = jnp.zeros((5, 4)).at[0, 0].set(1.0)
    tx = gx.scale_by_dion(rank=2)
    state = tx.init(g)
    updates, after = tx.update(g, state)
    np.testing.assert_allclose(np.linalg.svd(updates, compute_uv=False), [np.sqrt(4 / 5), 0, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(after.basis[0, :, 1], state.basis[0, :, 1])


def test_the_states_are_small():
    params = jax.ShapeDtypeStruct((64, 32), "float32")
    for tx, expected in (
        (gx.scale_by_normuon(), 64 * 32 + 32 + 1),
        (gx.scale_by_adamuon(), 2 * 64 * 32 + 1),
        (gx.scale_by_dion(rank=4), 64 * 32 + 64 * 4 + 1),
        (gx.scale_by_lmo(), 64 * 32 + 1),
    ):
        assert gx.tree.nbytes(jax.eval_shape(tx.init, params)) == 4 * expected


@pytest.mark.parametrize("name", ["normuon", "adamuon", "dion"])
def test_scanned_layers_are_layers(name):
    layers = jnp.asarray(gradients((3, 4, 6), 4))
    stacked = gx.WeightDimensionNumbers(1, 2)
    make = {"normuon": gx.scale_by_normuon, "adamuon": gx.scale_by_adamuon, "dion": gx.scale_by_dion}[name]
    tx, single = make(weight_dimension_numbers=stacked), make()
    if name == "dion":  # the first bases of a stack are others: start both from the same
        state = tx.init(layers[0])
        basis = state.basis
        state = state._replace(basis=jnp.stack([single.init(layers[0, 0]).basis[0]] * 3))
        assert basis.shape == state.basis.shape
        found = jax.lax.scan(lambda s, g: tx.update(g, s)[::-1], state, layers)[1]
    else:
        found = trajectory(tx, layers[0], layers)[0]
    for i in range(3):
        close(found[:, i], trajectory(single, layers[0, i], layers[:, i])[0], rtol=1e-8, atol=1e-10)


def test_scion_shrinks_weights_into_the_ball_of_its_radius():
    params = {"w": jnp.asarray(gradients((4, 4))[0]) * 100, "b": jnp.full(4, 100.0)}
    grads = jax.tree.map(jnp.ones_like, params)
    tx = gx.scion(0.1, hidden_radius=2.0, outer_radius=3.0, outer_norm="column", constrained=True)
    state = tx.init(params)
    for _ in range(200):
        updates, state = tx.update(grads, state, params)
        params = gx.apply_updates(params, updates)
    assert float(jnp.linalg.norm(params["w"], 2)) < 2.0 * 1.3  # the accuracy of Newton-Schulz
    np.testing.assert_allclose(params["b"], -3.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gx.scion(0.1, hidden_norm="nuclear"), "scion: hidden_norm must be one of 'spectral'"),
        (lambda: gx.scion(0.1, ns_coeffs="dion", ns_steps=3), "5 triples for ns_steps=3"),
        (lambda: gx.dion(0.1, rank=0), "dion: rank must be an integer of at least 1"),
        (lambda: gx.normuon(0.1, b2=1.0), r"normuon: b2 must be in \[0, 1\)"),
        (lambda: gx.adamuon(0.1, adam_b1=1.0), r"adamuon: adam_b1 must be in \[0, 1\)"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises(ValueError, match=match):
        call()
