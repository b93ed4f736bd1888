"""Norms and inner products: for every platform, at the limits of every dtype, under all JAX transformations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx import sums
from gradtx.testing.finite import extremes

VALUES = {
    "ordinary": [3.0, -4.0, 0.5],
    "large": [3e38, -1e38, 1e10],
    "above the root of the largest": [3e19, 4e19],
    "below the root of the smallest": [3e-23, -4e-23],
    "small beside large": [1e30, 1e-30],
    "zero": [0.0, 0.0],
}


@pytest.fixture(params=["cpu", "tpu"])
def platform(request, monkeypatch):
    """Runs the test with the CPU's sums and with the accelerator's sums; both work on any platform."""
    monkeypatch.setattr(sums.jax, "default_backend", lambda: request.param)
    return request.param


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_norm_of_float32(platform, values):
    x = jnp.asarray(values, "float32")
    exact = np.linalg.norm(np.asarray(x, np.longdouble))
    for norm in (gx.tree.norm, jax.jit(gx.tree.norm), jax.vmap(lambda row: gx.tree.norm(row[None]))):
        found = norm(x[None])
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(np.asarray(found, float).ravel(), float(exact), rtol=3e-7)


@pytest.mark.parametrize("entry", ["tiny", "small", "large", "max"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_scaled_norms_are_finite(platform, dtype, entry):
    x = extremes(dtype)[entry]
    scale, norm = gx.tree.scaled({"a": x})
    exact = np.linalg.norm(np.asarray(x, np.longdouble))
    assert np.isfinite(norm)
    np.testing.assert_allclose(np.longdouble(scale) * np.longdouble(norm), exact, rtol=3e-7)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("radius", [1e-30, 1.0, 1e30, np.inf])
def test_shrinking_to_a_ball(platform, values, radius):
    x = jnp.asarray(values, "float32")
    length = np.linalg.norm(np.asarray(x, np.longdouble))
    expected = np.asarray(x, np.longdouble) * (1 if length <= radius else np.float32(radius) / length)
    for shrinking in (gx.tree.shrinking, jax.jit(gx.tree.shrinking)):
        first, second = shrinking({"a": x}, radius)
        np.testing.assert_allclose(np.asarray(x * first * second, np.longdouble), expected, rtol=4e-7, atol=2e-38)


def test_shrinking_rows_and_what_is_not_a_number(platform):
    rows = jnp.asarray([[3e30, 4e30], [3.0, 4.0], [jnp.nan, 1.0]], "float32")
    first, second = gx.tree.shrinking(rows, jnp.asarray([[1.0], [10.0], [1.0]]), (1,))
    np.testing.assert_allclose((rows * first * second)[:2], [[0.6, 0.8], [3.0, 4.0]], rtol=1e-6)
    assert np.isnan(first * second)[2]
    slopes = jax.jacobian(lambda x, r: x * math.prod(gx.tree.shrinking(x, r)), (0, 1))(jnp.array([3.0, 4.0]), 2.0)
    np.testing.assert_allclose(slopes[0], (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) * 2 / 5, rtol=1e-6)
    np.testing.assert_allclose(slopes[1], [0.6, 0.8], rtol=1e-6)


def test_norms_of_rows(platform):
    rows = jnp.asarray([[3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0], [3.0, 4.0]], "float32")
    found = gx.tree.norm(rows, axes=(1,))
    assert found.shape == (4, 1)
    np.testing.assert_allclose(np.asarray(found)[:, 0], [5e30, 5e-30, 0, 5], rtol=1e-6)
    scale, norm = gx.tree.scaled(rows, (1,))
    assert scale.shape == norm.shape == (4, 1)


def test_inner_products(platform):
    for dtype, large in (("float32", 1e30), ("float64", 1e300)):
        x, y = jnp.asarray([large, -large, 2.0], dtype), jnp.asarray([large, large, 3.0], dtype)
        assert np.isfinite(gx.tree.vdot(x, y))  # the terms that cancel are beyond the dtype's range
        assert float(gx.tree.vdot(x, x)) == float(jnp.finfo(dtype).max)
        assert float(gx.tree.vdot(x, -x)) == -float(jnp.finfo(dtype).max)
    z = {"a": jnp.array([1 + 2j]), "b": jnp.ones(2)}
    np.testing.assert_allclose(gx.tree.vdot(z, z), 7.0)
    one = {"a": jnp.ones(1), "b": jnp.ones(2)}
    np.testing.assert_allclose(gx.tree.real_vdot(z, one), 3.0)
    np.testing.assert_allclose(gx.tree.vdot(z, one), 3 - 2j)


def test_what_is_not_finite_stays_visible(platform):
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not np.isfinite(gx.tree.norm(jnp.array([bad, 1.0])))
    assert np.isnan(gx.tree.norm(jnp.array([jnp.nan, 1.0])))


def test_derivatives(platform):
    x = jnp.array([3.0, 4.0])
    np.testing.assert_allclose(jax.grad(gx.tree.norm)(x), [0.6, 0.8])
    np.testing.assert_array_equal(jax.grad(gx.tree.norm)(jnp.zeros(2)), 0)
    np.testing.assert_allclose(jax.hessian(gx.tree.norm)(x), (np.eye(2) - np.outer(x, x) / 25) / 5)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda x: gx.tree.vdot(x, x)))(x), 2 * x)
    np.testing.assert_allclose(jax.jvp(gx.tree.norm, (x,), (x,))[1], 5.0)
    np.testing.assert_allclose(jax.grad(lambda x: gx.tree.norm(x, axes=(1,)).sum())(x[:, None]), np.ones((2, 1)))


def test_a_float32_norm_is_float32_without_x64(platform):
    with jax.enable_x64(False):
        norm = jax.jit(jax.value_and_grad(gx.tree.norm))(jnp.ones(4))
        assert [x.dtype for x in jax.tree.leaves(norm)] == [jnp.float32] * 2
        scanned = jax.lax.scan(lambda c, x: (c + gx.tree.norm(x), None), jnp.zeros(()), jnp.ones((3, 4)))[0]
        assert float(scanned) == 6.0


def test_finite():
    for dtype in ("float16", "bfloat16", "float32", "complex64", "int32"):
        x = jnp.full(8, jnp.finfo(dtype).max if dtype != "int32" else 7, dtype)
        assert gx.tree.finite({"a": x, "b": jnp.zeros(0)})
    for bad in (jnp.nan, jnp.inf, -jnp.inf, complex(0, jnp.inf)):
        assert not gx.tree.finite([jnp.ones(3), jnp.array([1.0, bad])])
    assert gx.tree.finite({})


@pytest.mark.parametrize("make", [lambda: gx.clip_by_global_norm(1.0), lambda: gx.dog(), lambda: gx.prodigy()])
def test_a_step_with_norms_has_no_branch(make):
    shape = jax.ShapeDtypeStruct((512, 256), jnp.float32)
    with jax.enable_x64(False):
        tx = make()
        step = jax.jit(lambda g, s, p: tx.update(g, s, p), donate_argnums=(0, 1))
        compiled = step.lower(shape, jax.eval_shape(tx.init, shape), shape).compile()
    assert " conditional(" not in compiled.as_text()


def test_a_sum_whose_array_the_compiler_knows(platform):
    """XLA moves constant factors out of a sum of products, where they would overflow."""

    def steps(start):
        def step(last, x):
            return last, (gx.tree.norm(start - last + x), gx.tree.vdot(start - last + x, start - last))

        return jax.lax.scan(step, start, jnp.zeros((2, 3)))[1]

    for dtype in ("float32", "float64"):
        ones = jnp.ones(3, dtype)
        assert not np.any(jax.jit(lambda ones=ones: steps(jnp.ones_like(ones)))())
        known = jax.jit(lambda ones=ones: (gx.tree.norm(0 * ones), gx.tree.norm(ones - ones), gx.tree.norm(ones)))()
        np.testing.assert_allclose(known, [0, 0, 3**0.5])


@pytest.mark.one_in(6)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-21, 1e-10, 1.0, 1e10, 1e20, 1e25, 1e30])
def test_second_derivatives_at_every_size(platform, size):
    x = jnp.float32([3.0, 4.0])
    found = jax.jit(jax.hessian(gx.tree.norm))(x * jnp.float32(size))
    if size == 0:
        assert np.all(np.isfinite(found))
    else:
        expected = np.array([[0.128, -0.096], [-0.096, 0.072]]) / size
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 / size)


def test_first_derivatives_at_the_ends(platform):
    for size in (4e37, 1e38, 1e-37):
        x = jnp.float32([0.6, 0.8]) * jnp.float32(size)
        np.testing.assert_allclose(jax.grad(gx.tree.norm)(x), [0.6, 0.8], rtol=1e-5)
        np.testing.assert_allclose(jax.jit(jax.grad(gx.tree.norm))(x + 0j).real, [0.6, 0.8], rtol=1e-5)


def test_integers_and_keys():
    np.testing.assert_allclose(jax.grad(lambda a: gx.tree.vdot(a, jnp.arange(2)))(jnp.ones(2)), [0, 1])
    assert gx.tree.finite({"key": jax.random.key(0), "on": jnp.array([True]), "f8": jnp.ones(2, "float8_e4m3fn")})
