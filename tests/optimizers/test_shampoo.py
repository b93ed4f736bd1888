"""Shampoo equals its papers' algorithm, and has the properties that follow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.linalg.inverse_root import inverse_root
from gradtx.linalg.matrix_view import MatrixView
from tests.optimizers.test_soap import SHAPES, extremes, grads_of, updates_of


def root_of(a, p, eps):
    w, q = np.linalg.eigh(a)
    w = np.maximum(w, w.max() * np.finfo(float).eps) + eps * w.max()
    return (q * w ** (-1 / p)) @ q.T


def blocks_of(n, size):
    """Returns the ends of blocks of equal length; the last block may be shorter."""
    parts = -(-n // size)
    length = -(-n // parts)
    return [slice(i * length, min((i + 1) * length, n)) for i in range(parts)]


def preconditioned(grads, b2, eps, interval, size):
    """P in float64, block by block."""
    found = np.zeros_like(grads)
    for rows in blocks_of(grads.shape[1], size):
        for columns in blocks_of(grads.shape[2], size):
            left = right = 0.0
            for t, g in enumerate(grads[:, rows, columns]):
                left, right = (b2 * a + (1 - b2 if b2 < 1 else 1) * b for a, b in ((left, g @ g.T), (right, g.T @ g)))
                weight = 1 - b2 ** (t + 1) if b2 < 1 else 1
                if t % interval == 0:
                    roots = root_of(left / weight, 4, eps), root_of(right / weight, 4, eps)
                found[t, rows, columns] = roots[0] @ g @ roots[1]
    return found


def grafts(grads, kind, b2, eps):
    """D in float64."""
    nu, found = 0.0, []
    for t, g in enumerate(grads):
        rate = 1 if b2 == 1 or kind == "adagrad" else 1 - b2
        nu = (1 if kind == "adagrad" else b2) * nu + rate * g**2
        weight = 1 - b2 ** (t + 1) if kind == "adam" and b2 < 1 else 1
        found.append(g if kind == "sgd" else g / (np.sqrt(nu / weight) + eps))
    return np.stack(found)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("kind", ["none", "sgd", "adagrad", "rmsprop", "adam"])
@pytest.mark.parametrize(("b2", "interval", "size"), [(0.9, 1, 8), (1.0, 3, 8), (0.8, 2, 2)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shampoo_is_its_algorithm(shape, b2, interval, size, kind):
    grads = grads_of(shape)
    flat = grads.reshape(len(grads), -1, shape[-1])
    expected = preconditioned(flat, b2, 1e-3, interval, size).reshape(grads.shape)
    if kind != "none":
        d = grafts(grads, kind, b2, 1e-6)
        expected *= np.array([np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(d, expected, strict=True)]).reshape(
            -1, *(1,) * len(shape)
        )
    tx = gx.scale_by_shampoo(b2, 1e-3, kind, graft_eps=1e-6, interval=interval, block_size=size)
    np.testing.assert_allclose(updates_of(tx, grads), expected, rtol=1e-8, atol=1e-12)


def test_one_factor_alone_has_the_root_of_two():
    grads = grads_of((3, 5))
    tx = gx.scale_by_shampoo(1.0, 1e-3, "none", interval=1, one_sided=True)
    sums = np.cumsum(grads @ np.swapaxes(grads, 1, 2), axis=0)
    expected = np.stack([root_of(a, 2, 1e-3) @ g for a, g in zip(sums, grads, strict=True)])
    np.testing.assert_allclose(updates_of(tx, grads), expected, rtol=1e-8)
    of_vectors = updates_of(gx.scale_by_shampoo(1.0, 1e-3, "none", interval=1, precondition_1d=True), grads[:, 0])
    sums = np.cumsum(grads[:, 0, :, None] * grads[:, 0, None, :], axis=0)
    expected = np.stack([root_of(a, 2, 1e-3) @ g for a, g in zip(sums, grads[:, 0], strict=True)])
    np.testing.assert_allclose(of_vectors, expected, rtol=1e-8)
    halves = gx.scale_by_shampoo(1.0, 1e-3, "none", interval=1, exponent=2)
    x = np.diag([4.0, 9.0])
    np.testing.assert_allclose(updates_of(halves, x[None]), np.diag([1 / 4, 1 / 9])[None], atol=2e-3)


@pytest.mark.parametrize("root", ["eigh", "newton"])
def test_a_diagonal_gradient_becomes_the_identity(root):
    g = np.diag([4.0, 1.0])[None]
    found = updates_of(gx.scale_by_shampoo(graft="none", eps=0.0, root=root), g)
    np.testing.assert_allclose(found[0], np.eye(2), atol=1e-10)


def test_before_it_begins_shampoo_is_its_graft():
    grads = grads_of((4, 3))
    tx = gx.scale_by_shampoo(0.9, graft="adam", start_step=6)
    graft = gx.scale_by_rms(0.9, eps=1e-8, eps_in_sqrt=False, bias_correction=True)
    found, expected = updates_of(tx, grads), updates_of(graft, grads)
    np.testing.assert_allclose(found[:6], expected[:6], rtol=1e-12)
    assert not np.allclose(found[6], expected[6], rtol=0.1)
    np.testing.assert_allclose(np.linalg.norm(found[6]), np.linalg.norm(expected[6]), rtol=1e-12)
    vectors = updates_of(tx, grads[:, 0])  # have no factor: the graft all the time
    np.testing.assert_allclose(vectors, updates_of(graft, grads[:, 0]), rtol=1e-12)


def test_a_normalized_graft_does_not_see_the_size_of_gradients():
    grads = grads_of((4, 3)) * np.array([1.0, 100, 1e-3, 1, 7, 1, 1e4, 1, 1, 1])[:, None, None]
    tx = gx.scale_by_shampoo(graft="adagrad", normalize_graft=True)
    units = grads / np.linalg.norm(grads, axis=(1, 2), keepdims=True)
    sizes = [np.linalg.norm(x) for x in grafts(units, "adagrad", 1, 1e-8)]
    np.testing.assert_allclose(np.linalg.norm(updates_of(tx, grads), axis=(1, 2)), sizes, rtol=1e-10)


def test_a_rotated_problem_has_rotated_steps():
    rng = np.random.default_rng(1)
    u, v = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (4, 3))
    grads, tx = grads_of((4, 3)), gx.scale_by_shampoo(graft="sgd", interval=2)
    np.testing.assert_allclose(updates_of(tx, u @ grads @ v), u @ updates_of(tx, grads) @ v, atol=1e-8)


@pytest.mark.heavy
@pytest.mark.parametrize("p", [1, 2, 3, 4, 8])
def test_roots_by_both_methods_are_roots(p):
    x = np.random.default_rng(p).normal(size=(3, 5, 7)) * np.array([1, 1e-8, 1e6])[:, None, None]
    a = jnp.asarray(x @ np.swapaxes(x, 1, 2))
    for method in ("eigh", "newton"):
        root, found = inverse_root(a, p, 1e-6, method)
        assert found.all()
        for one, before in zip(root, a, strict=True):
            with_eps = before + 1e-6 * np.linalg.eigvalsh(before)[-1] * np.eye(5)
            np.testing.assert_allclose(np.linalg.matrix_power(one, p) @ with_eps, np.eye(5), atol=1e-7)
    zero, found = inverse_root(jnp.zeros((1, 2, 2)), p, 1e-6, "newton")
    np.testing.assert_array_equal(zero[0], np.eye(2))


def test_roots_may_be_taken_in_float64_of_float32():
    w = np.logspace(0, -9, 6)
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    a, exact = np.float32((q * w) @ q.T), (q * (np.float32(w) + 1e-9) ** -0.25) @ q.T
    errors = {}
    for dtype in (None, "float64"):
        with jax.enable_x64(False):
            root, found = jax.jit(lambda a, dtype=dtype: inverse_root(a, 4, 1e-9, "eigh", dtype))(jnp.asarray(a)[None])
        assert root.dtype == np.float32
        assert found.all()
        errors[dtype] = np.abs(root[0] - root_of(a.astype(float), 4, 1e-9)).max() / np.abs(exact).max()
    assert errors["float64"] < 1e-5 < errors[None]


def test_a_root_that_is_not_found_leaves_the_last_one():
    tx, params = gx.scale_by_shampoo(1.0, 0.0, "none", interval=1, root="newton"), jnp.zeros((2, 2))
    _, state = tx.update(jnp.diag(jnp.array([2.0, 1.0])), tx.init(params))
    large = jnp.full((8, 8), 1e200)  # whose products are not finite: L and R stay
    _, after = tx.update(large, tx.init(large))
    np.testing.assert_array_equal(after.gram_rows, jnp.zeros((1, 8, 8)))
    bad = state._replace(gram_rows=jnp.asarray([[[0.0, 1e3], [1e3, 0.0]]]))  # not positive
    _, after = tx.update(jnp.zeros((2, 2)), bad)
    np.testing.assert_array_equal(after.root_rows, state.root_rows)
    assert gx.metrics(after)["failures"] == 1


@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (7,), ()], ids=str)
def test_blocks_are_put_together_again(shape):
    x = jnp.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape)
    numbers = gx.WeightDimensionNumbers(-2, -1) if len(shape) == 3 else None
    view = MatrixView.of(shape, numbers).blocked(3, 4)
    np.testing.assert_array_equal(view.restored(view.stacked(x)), x)
    assert view.stacked(x).shape == (view.count, view.fan_in, view.fan_out)
    if shape == (5, 7):
        assert (view.count, view.fan_in, view.fan_out) == (4, 3, 4)
        np.testing.assert_array_equal(view.stacked(x)[1, :, :3], x[:3, 4:])
        assert MatrixView.of(shape).blocked(None, 4).stacked(x).shape == (2, 5, 4)


def test_merged_axes_make_matrices():
    shapes = {
        "conv": (3, 3, 64, 128),
        "heads": (768, 12, 64),
        "scanned": (12, 768, 3072),
        "small": (2, 3),
        "number": (),
    }
    params = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes.items()}
    tx = gx.scale_by_shampoo(block_size=4096, weight_dimension_numbers=gx.merge_axes(1024))
    state = jax.eval_shape(tx.init, params)
    rows = {name: x and x.shape for name, x in state.gram_rows.items()}
    columns = {name: x and x.shape for name, x in state.gram_columns.items()}
    assert rows == {
        "conv": (1, 576, 576), "heads": (1, 768, 768), "scanned": (12, 768, 768), "small": (1, 2, 2), "number": None
    }  # fmt: skip
    assert columns["conv"] == (1, 128, 128)
    assert columns["heads"] == (1, 768, 768)
    assert columns["scanned"] == (12, 3072, 3072)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("root", ["eigh", "newton"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["rank 1", "zeros first", "tiny", "huge", "infinite"])
def test_odd_gradients_leave_shampoo_whole(name, dtype, root):
    params, grads = jnp.zeros((4, 4), dtype), extremes(name, (4, 4), dtype)
    tx = gx.scale_by_shampoo(0.9, graft="adam", graft_eps=1e-30, interval=3, root=root)
    state, updates = jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], tx.init(params), jnp.asarray(grads))
    assert np.isfinite(updates).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    assert gx.metrics(state)["failures"] == (name == "infinite")
    sizes = np.linalg.norm(updates[-5:], axis=(1, 2))
    assert (sizes < 10).all()
    assert (sizes > 0.1).all()
