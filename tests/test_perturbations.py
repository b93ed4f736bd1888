"""Perturbed functions: values and derivatives of every order against closed forms, within standard errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx

P = gx.perturbations
KEYS = jax.random.split(jax.random.key(0), 64)


def one_hot_of_largest(x):
    return jax.nn.one_hot(jnp.argmax(x), x.size)


def assert_unbiased(estimate, exact):
    """Asserts that the mean of 64 independent estimates is within 4.5 standard errors, which must be small."""
    found = jax.tree.map(np.asarray, jax.lax.map(estimate, KEYS))

    def check(samples, exact):
        error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
        assert (np.abs(samples.mean(axis=0) - exact) <= 4.5 * error + 1e-12).all()
        assert error.max() < 0.12 * np.max(np.abs(exact))

    jax.tree.map(check, found, exact)


SQUARE = functools.partial(P.make_perturbed_fun, lambda x: jnp.sum(x["a"] ** 2) + x["b"] ** 2)
X = {"a": jnp.array([0.5, -1.0]), "b": jnp.array(0.25)}
MEAN, SQUARED = {"normal": (0.0, 1.0), "gumbel": (np.euler_gamma, np.pi**2 / 6 + np.euler_gamma**2)}, 1.3125
NOISE = {"normal": P.Normal(), "gumbel": P.Gumbel()}


@pytest.mark.parametrize("kind", NOISE)
def test_a_square_has_its_exact_value_gradient_and_derivative_by_sigma(kind):
    """E |x + s z|^2 = |x|^2 + 2 s m sum(x) + 3 s^2 q, with m and q the moments of z."""
    m, q = MEAN[kind]
    s, total = 0.5, -0.25

    def estimate(key):
        def smooth(x, sigma):
            return SQUARE(2000, sigma, NOISE[kind])(key, x)

        value, grads = jax.value_and_grad(smooth, (0, 1))(X, jnp.asarray(s))
        return value, grads

    gradient = jax.tree.map(lambda x: np.asarray(2 * x + 2 * s * m), X)
    exact = SQUARED + 2 * s * m * total + 3 * s**2 * q, (gradient, 2 * m * total + 6 * s * q)
    assert_unbiased(estimate, exact)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", NOISE)
def test_the_hessian_of_a_square_is_its_own(kind, baseline):
    smooth = P.make_perturbed_fun(lambda x: jnp.sum(x**2), 4000, 1.0, NOISE[kind], baseline)
    assert_unbiased(lambda key: jax.hessian(smooth, argnums=1)(key, jnp.array([0.5, -0.5])), 2 * np.eye(2))


def test_the_largest_of_gumbel_perturbed_logits_is_the_softmax():
    x, sigma = jnp.array([0.3, -0.4, 1.0]), 0.7
    smooth = P.make_perturbed_fun(one_hot_of_largest, 1000, sigma)

    def softmax(x):
        return jax.nn.softmax(x / sigma)

    assert_unbiased(lambda key: smooth(key, x), np.asarray(softmax(x)))
    assert_unbiased(lambda key: jax.jacrev(smooth, 1)(key, x), np.asarray(jax.jacobian(softmax)(x)))
    assert_unbiased(lambda key: jax.jacfwd(smooth, 1)(key, x), np.asarray(jax.jacobian(softmax)(x)))


@pytest.mark.heavy
@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", NOISE)
def test_the_same_key_gives_optax_its_values_and_derivatives(kind, baseline):
    noise = {"normal": optax.perturbations.Normal(), "gumbel": optax.perturbations.Gumbel()}[kind]

    def f(x):
        return {"largest": one_hot_of_largest(x["a"]) * x["b"], "sum": jnp.sin(x["a"]).sum()}

    x = {"a": jnp.array([0.1, 0.3, -0.2]), "b": jnp.array(2.0)}
    ours = P.make_perturbed_fun(f, 50, 0.3, NOISE[kind], baseline)
    theirs = optax.perturbations.make_perturbed_fun(f, 50, 0.3, noise, baseline)
    for way in (lambda f: f, lambda f: jax.jacobian(f, argnums=1)):
        found, expected = (way(g)(KEYS[0], x) for g in (ours, theirs))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13), found, expected)


@pytest.mark.heavy
def test_optax_forgets_what_sigma_does_to_the_density():
    """The density of x + sigma z has a factor 1 / sigma; without it the derivative by sigma is biased."""

    def smooth(sigma, make, noise):
        return make(lambda x: jnp.sum(x**2) + 5, 200_000, sigma, noise, False)(KEYS[0], jnp.ones(2))

    slope = jax.grad(smooth)(0.5, P.make_perturbed_fun, P.Normal())
    np.testing.assert_allclose(slope, 2.0, rtol=0.1)
    theirs = jax.grad(smooth)(0.5, optax.perturbations.make_perturbed_fun, optax.perturbations.Normal())
    assert abs(theirs - 2.0) > 10


def test_the_function_itself_is_never_differentiated():
    @jax.custom_jvp
    def f(x):
        return x

    @f.defjvp
    def _(primals, tangents):
        raise AssertionError

    jax.grad(P.make_perturbed_fun(f, 10), argnums=1)(KEYS[0], 0.0)


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_16_bits_are_averaged_in_32(dtype):
    smooth = P.make_perturbed_fun(lambda x: {"y": x * 1000, "n": jnp.argmax(x)}, 4096, 0.5, P.Normal())
    x = jnp.array([1.0, 2.0], dtype)
    out = smooth(KEYS[0], x)
    assert out["y"].dtype == dtype
    assert out["n"].dtype == jnp.result_type(float)
    np.testing.assert_allclose(out["y"].astype(float), [1000, 2000], rtol=0.05)
    slope = jax.grad(lambda x: smooth(KEYS[0], x)["y"].astype(float).sum())(x)
    assert slope.dtype == dtype
    np.testing.assert_allclose(slope.astype(float), 1000, rtol=0.2)


def test_a_fixed_value_that_is_infinite_at_the_argument_is_no_baseline():
    smooth = P.make_perturbed_fun(lambda x: jnp.where(x == 0, jnp.inf, 1.0), 100)
    value, slope = jax.value_and_grad(smooth, argnums=1)(KEYS[0], 0.0)
    assert value == 1
    assert np.isfinite(slope)


def test_any_distribution_with_a_density():
    class Logistic:
        def sample(self, key, shape, dtype):
            return jax.random.logistic(key, shape, dtype)

        def log_prob(self, z):
            return -z - 2 * jnp.log1p(jnp.exp(-z))

    smooth = P.make_perturbed_fun(lambda x: jnp.where(x > 0, 1.0, 0.0), 2000, 0.5, Logistic())

    def density(x):
        return float(jax.grad(lambda x: jax.nn.sigmoid(2 * x))(x))

    assert_unbiased(lambda key: jax.grad(smooth, 1)(key, 0.3), density(0.3))


def test_bad_arguments():
    def f(x):
        return x

    for bad, error, message in [
        ({"fun": 3}, TypeError, "fun must be a function"),
        ({"num_samples": 0}, ValueError, "num_samples must be an integer of at least 1"),
        ({"num_samples": 1.5}, TypeError, "num_samples must be an integer"),
        ({"sigma": 0.0}, ValueError, "sigma must be in"),
        ({"sigma": "wide"}, TypeError, "sigma must be"),
        ({"sigma": jnp.ones(2)}, ValueError, "sigma has shape"),
        ({"noise": P.Normal}, TypeError, "noise must have a method sample"),
        ({"noise": 3}, TypeError, "noise must have a method sample"),
        ({"use_baseline": 1}, TypeError, "use_baseline must be"),
    ]:
        with pytest.raises(error, match=message):
            P.make_perturbed_fun(**{"fun": f, **bad})
    for x in (jnp.arange(3), jnp.ones(2) * 1j):
        with pytest.raises(TypeError, match="x "):
            P.make_perturbed_fun(f)(KEYS[0], x)
