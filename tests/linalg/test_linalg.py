"""Power iteration, inverse roots and non-negative least squares against NumPy, SciPy and optax, at every scale."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import gradtx as gx

RNG = np.random.default_rng(0)


def symmetric(n, low=1.0, high=10.0, gap=2.0):
    """A symmetric matrix whose eigenvalues lie in [low, high], but for the largest, gap times as large."""
    q, _ = np.linalg.qr(RNG.normal(size=(n, n)))
    w = np.append(np.geomspace(low, high, n - 1), gap * high)
    return (q * w) @ q.T


# --- power iteration


@pytest.mark.parametrize("sign", [1, -1])
def test_the_leading_eigenvalue_and_its_vector(sign):
    a = jnp.asarray(sign * symmetric(8))
    value, vector = jax.jit(lambda a: gx.power_iteration(a, error_tolerance=1e-13, num_iters=1000))(a)
    np.testing.assert_allclose(value, sign * 20, rtol=1e-12)
    np.testing.assert_allclose(a @ vector, value * vector, atol=1e-10)
    np.testing.assert_allclose(jnp.linalg.norm(vector), 1, rtol=1e-14)
    theirs = optax.power_iteration(a, error_tolerance=1e-13, num_iters=1000)
    np.testing.assert_allclose(value, theirs[0], rtol=1e-12)
    np.testing.assert_allclose(vector, theirs[1], atol=1e-11)


def test_the_iterations_are_optax_s():
    a, v0 = jnp.asarray(symmetric(6)), jnp.asarray(RNG.normal(size=6))
    for n in (1, 2, 7):
        found, expected = (f(a, v0=v0, num_iters=n) for f in (gx.power_iteration, optax.power_iteration))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10), found, expected)


def test_a_function_of_trees():
    def f(p):
        return jnp.sum(p["a"] ** 4) + p["b"] ** 2 * p["a"][0]

    p = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)}
    value, vector = gx.power_iteration(lambda v: gx.hvp(f, p, v), v0=jax.tree.map(jnp.ones_like, p))
    np.testing.assert_allclose(value, np.linalg.eigvalsh(gx.hessian(f, p)).max(), rtol=1e-6)
    assert jax.tree.structure(vector) == jax.tree.structure(p)


@pytest.mark.parametrize("power", [-120, -60, 0, 60, 122])
def test_the_unit_of_the_matrix_does_not_matter_in_float32(power):
    a = jnp.asarray(symmetric(5), "float32")
    value, vector = gx.power_iteration(a)
    scaled, same = gx.power_iteration(jnp.ldexp(a, power))
    assert scaled == jnp.ldexp(value, power)
    assert (same == vector).all()
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, 20, rtol=1e-5)


def test_zeros_have_the_eigenvalue_0_where_optax_has_nan():
    value, vector = gx.power_iteration(jnp.zeros((3, 3)))
    assert value == 0
    assert (vector == 0).all()
    assert np.isnan(optax.power_iteration(jnp.zeros((3, 3)))[1]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_multiplied_in_32(dtype):
    a = jnp.asarray(symmetric(5), dtype)
    value, vector = gx.power_iteration(a)
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, np.linalg.eigvalsh(np.asarray(a, float)).max(), rtol=1e-5)
    assert vector.dtype == "float32"  # the default start is as wide as the products


# --- inverse roots


def exact(a, p, ridge=1e-6):
    w, q = np.linalg.eigh(np.asarray(a, float))
    return (q * (w + ridge * w.max()) ** (-1 / p)) @ q.T


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 8, 12])
def test_inverse_roots_are_those_of_the_eigenvalues(p):
    a = jnp.asarray(symmetric(7, low=0.01))
    root, error = jax.jit(lambda a: gx.matrix_inverse_pth_root(a, p, error_tolerance=1e-12))(a)
    assert error < 1e-11
    np.testing.assert_allclose(root, exact(a, p), rtol=1e-8, atol=1e-9)
    assert (root == root.T).all()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("p", [1, 2, 4, 8])
def test_inverse_roots_are_optax_s_where_p_is_a_power_of_2(p):
    a = jnp.asarray(symmetric(6, low=0.1))
    found, expected = gx.matrix_inverse_pth_root(a, p)[0], optax.matrix_inverse_pth_root(a, p)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.heavy
def test_optax_takes_another_power_for_the_third_root():
    a = jnp.diag(jnp.array([8.0, 27.0]))
    np.testing.assert_allclose(gx.matrix_inverse_pth_root(a, 3)[0], np.diag([1 / 2, 1 / 3]), rtol=1e-5, atol=1e-9)
    theirs = optax.matrix_inverse_pth_root(a, 3)[0]
    assert not np.allclose(theirs, np.diag([1 / 2, 1 / 3]), rtol=1e-3)


@pytest.mark.heavy
@pytest.mark.parametrize("p", [2, 3, 4])
def test_in_float32_the_root_is_as_right_as_the_condition_allows(p):
    """Eigenvalues from 1e-3 to 20, of which rounding leaves those of A eps * 20: 1e-3 has a relative error of 2e-3."""
    a = jnp.asarray(symmetric(16, low=1e-3), "float32")
    root, error = gx.matrix_inverse_pth_root(a, p)
    assert root.dtype == error.dtype == "float32"
    wanted = exact(a, p)
    assert np.abs(root - wanted).max() < 5e-3 / p * np.abs(wanted).max()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("times", [-25, 20])
def test_a_multiple_of_the_matrix_has_the_multiple_of_the_root(p, times):
    a = jnp.asarray(symmetric(5), "float32")
    root, error = gx.matrix_inverse_pth_root(a, p)
    scaled, same = gx.matrix_inverse_pth_root(jnp.ldexp(a, times * p), p)
    assert (scaled == jnp.ldexp(root, -times)).all()
    assert same == error


def test_small_matrices_zeros_and_negative_eigenvalues():
    root, error = gx.matrix_inverse_pth_root(jnp.array([[16.0]]), 4)
    np.testing.assert_allclose(root, 0.5, rtol=1e-5)
    assert error < 1e-6
    root, error = gx.matrix_inverse_pth_root(jnp.zeros((2, 2)), 2)
    assert (root == 0).all()
    assert error == 1
    assert not gx.matrix_inverse_pth_root(jnp.diag(jnp.array([1.0, -0.5])), 2)[1] < 0.1


# --- least squares


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "shape", [(12, 5), (5, 12), *(pytest.param(s, marks=pytest.mark.heavy) for s in ((6, 6), (4, 1)))]
)
@pytest.mark.parametrize("columns", [None, 3])
def test_nnls_is_scipy_s_and_optax_s(shape, columns):
    a = RNG.normal(size=shape)
    b = RNG.normal(size=shape[:1] if columns is None else (shape[0], columns))
    found = gx.nnls(jnp.asarray(a), jnp.asarray(b), 20_000)
    assert (found >= 0).all()
    for x, y in zip(np.atleast_2d(found.T), np.atleast_2d(b.T), strict=True):
        best = scipy.optimize.nnls(a, y)[1]
        np.testing.assert_allclose(np.linalg.norm(a @ x - y), best, rtol=1e-7, atol=1e-7)
    if shape[0] >= shape[1]:  # otherwise the bound on the eigenvalues differs
        for n in (1, 5, 100):
            np.testing.assert_allclose(gx.nnls(a, b, n), optax.nnls(jnp.asarray(a), jnp.asarray(b), n), rtol=1e-10)
    given = gx.nnls(a, b, 50, L=100.0, unroll=2)
    np.testing.assert_allclose(given, optax.nnls(jnp.asarray(a), jnp.asarray(b), 50, L=100.0), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounding_of_nnls_goes_with_the_square_of_the_condition(dtype):
    a = jnp.asarray(RNG.normal(size=(40, 4)), dtype)
    b = jnp.asarray(RNG.normal(size=40), dtype)
    exact = scipy.optimize.nnls(np.asarray(a, float), np.asarray(b, float))[0]
    x = gx.nnls(a, b, 500)
    assert x.dtype == dtype
    error = 1e-2 if dtype == "bfloat16" else np.linalg.cond(np.asarray(a, float)) ** 2 * 1.2e-7
    np.testing.assert_allclose(x.astype(float), exact, rtol=error, atol=error)


@pytest.mark.parametrize("powers", [(100, -20), (-100, 10), (0, 120), (60, 120)], ids=str)
def test_the_units_of_both_sides_do_not_matter_in_float32(powers):
    a, b = jnp.asarray(RNG.normal(size=(6, 3)), "float32"), jnp.asarray(RNG.normal(size=6), "float32")
    x = gx.nnls(a, b, 300)
    scaled = gx.nnls(jnp.ldexp(a, powers[0]), jnp.ldexp(b, powers[1]), 300)
    assert (scaled == jnp.ldexp(x, powers[1] - powers[0])).all()


@pytest.mark.heavy
def test_nnls_has_derivatives_and_corners():
    a, b = jnp.asarray(RNG.normal(size=(6, 3))), jnp.asarray(RNG.normal(size=6))

    def f(a, b):
        return jnp.sum(gx.nnls(a, b, 200) ** 2)

    step = 1e-6 * jnp.asarray(RNG.normal(size=6))
    rise = f(a, b + step) - f(a, b - step)
    np.testing.assert_allclose(2 * jax.grad(f, 1)(a, b) @ step, rise, rtol=1e-5)
    assert np.isfinite(jax.grad(f)(jnp.zeros((6, 3)), b)).all()
    assert gx.nnls(jnp.zeros((0, 2)), jnp.zeros(0), 3).tolist() == [0, 0]
    assert gx.nnls(jnp.zeros((2, 0)), jnp.zeros(2), 3).shape == (0,)
    assert gx.nnls(a, b, 0).tolist() == [0, 0, 0]


def test_bad_arguments():
    a, b = jnp.ones((3, 2)), jnp.ones(3)
    for make, error, message in [
        (lambda: gx.power_iteration(a), ValueError, r"matrix must be square, got shape \(3, 2\)"),
        (lambda: gx.power_iteration(jnp.ones((2, 2), int)), TypeError, "power_iteration"),
        (lambda: gx.power_iteration(jnp.ones((2, 2)) * 1j), TypeError, "power_iteration"),
        (lambda: gx.power_iteration(lambda v: v), ValueError, "v0 is missing"),
        (lambda: gx.power_iteration(lambda v: v, v0=jnp.arange(2)), TypeError, "v0"),
        (lambda: gx.matrix_inverse_pth_root(a, 2), ValueError, "matrix must be square"),
        (lambda: gx.matrix_inverse_pth_root(a @ a.T, 0), ValueError, "p must be an integer of at least 1"),
        (lambda: gx.matrix_inverse_pth_root(a @ a.T, 0.5), TypeError, "p must be an integer"),
        (lambda: gx.nnls(a, b[:2], 5), ValueError, r"b shape \(M,\)"),
        (lambda: gx.nnls(b, b, 5), ValueError, "A must have shape"),
        (lambda: gx.nnls(a, b, -1), ValueError, "iters must be"),
        (lambda: gx.nnls(a, b, 1.0), TypeError, "iters must be"),
        (lambda: gx.nnls(a * 1j, b, 1), TypeError, "A "),
    ]:
        with pytest.raises(error, match=message):
            make()
