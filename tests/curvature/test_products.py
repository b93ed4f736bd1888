"""Products of a vector with curvature matrices equal products with the explicit matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from gradtx.curvature import products
from tests.cases import close

pytestmark = pytest.mark.heavy  # minutes of compilation

RNG = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(RNG.normal(size=(2, 2))), "rest": [None, jnp.asarray(0.3), jnp.zeros((0, 2))]}
X = jnp.asarray(RNG.normal(size=(5, 2)))
VECTOR = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape)), PARAMS)


def model(p):
    """A nonlinear model that returns three logits for each of five rows."""
    out = jnp.tanh(X @ p["w"]) * p["rest"][1]
    return jnp.concatenate([out, jnp.sum(out**2, 1, keepdims=True)], 1)


def loss(p):
    return jnp.sum(jnp.logaddexp(model(p), 0.5)) + jnp.sum(p["w"] ** 3)


def flat(f):
    """Returns `f` as a function of a vector, and the vector."""
    x, unravel = ravel_pytree(PARAMS)
    return lambda x: f(unravel(x)), x


def dense(f):
    return jax.hessian(flat(f)[0])(flat(f)[1])


def times(matrix):
    return ravel_pytree(PARAMS)[1](matrix @ ravel_pytree(VECTOR)[0])


def test_the_hessian_and_its_products_are_those_of_jax():
    matrix = dense(loss)
    close(products.hessian(loss, PARAMS), matrix, rtol=1e-10, atol=1e-12)
    close(products.hvp(loss, PARAMS, VECTOR), times(matrix), rtol=1e-10, atol=1e-12)
    close(products.hessian_diag(loss, PARAMS), ravel_pytree(PARAMS)[1](jnp.diag(matrix)), rtol=1e-10, atol=1e-12)


def test_gauss_newton_is_the_hessian_of_the_linearized_model():
    outputs = flat(model)
    jacobian = jax.jacobian(lambda x: outputs[0](x).ravel())(outputs[1])

    def of_output(o):
        return jnp.sum(jnp.cosh(o) * jnp.arange(1.0, 4.0)[None, :])

    curved = jax.hessian(lambda o: of_output(o.reshape(5, 3)))(outputs[0](outputs[1]).ravel())
    expected = times(jacobian.T @ curved @ jacobian)
    close(products.gauss_newton_vp(model, of_output, PARAMS, VECTOR), expected, rtol=1e-10, atol=1e-12)
    # A tree of outputs.
    parts = products.gauss_newton_vp(lambda p: {"a": model(p), "b": None}, lambda o: of_output(o["a"]), PARAMS, VECTOR)
    close(parts, expected, rtol=1e-10, atol=1e-12)


def test_fisher_is_the_mean_of_squared_scores():
    """For logits, and for a normal distribution with mean and scale: the sum or integral over all y."""
    outputs = flat(model)
    x = outputs[1]
    scores = jax.jacobian(lambda x: jax.nn.log_softmax(outputs[0](x)))(x)  # row, class, parameter
    expected = jnp.einsum("rc,rci,rcj->ij", jax.nn.softmax(outputs[0](x)), scores, scores)

    def categorical(o, at):
        return jnp.sum(jax.nn.softmax(at) * jax.nn.log_softmax(o))

    close(products.fisher_vp(model, categorical, PARAMS, VECTOR), times(expected), rtol=1e-9, atol=1e-12)

    def labels(o, at):
        return jnp.sum(jax.nn.log_softmax(o)[:, 0])  # natural parameters: any data will do

    close(products.fisher_vp(model, labels, PARAMS, VECTOR), times(expected), rtol=1e-9, atol=1e-12)

    def normal(o, at):  # mean o[0], scale exp(o[1]): E (y - o[0])^2 = variance of at + the shift squared
        return -o[1] - (jnp.exp(2 * at[1]) + (at[0] - o[0]) ** 2) / (2 * jnp.exp(2 * o[1]))

    at = jnp.array([0.3, 0.7])
    found = jax.vmap(lambda v: products.fisher_vp(lambda p: p, normal, at, v))(jnp.eye(2))
    close(found, np.diag([np.exp(-1.4), 2.0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_hutchinson_is_unbiased_with_the_variance_promised(distribution):
    matrix = dense(loss)
    estimate = jax.jit(jax.vmap(lambda key: products.hutchinson_diag(loss, PARAMS, key, 50, distribution)))
    many = jax.vmap(lambda p: ravel_pytree(p)[0])(estimate(jax.random.split(jax.random.key(0), 400)))
    off = jnp.sum(matrix**2, 1) - jnp.diag(matrix) ** 2
    variance = off if distribution == "rademacher" else off + 2 * jnp.diag(matrix) ** 2
    error = np.abs(many.mean(0) - jnp.diag(matrix))
    assert (error <= 5 * np.sqrt(variance / (50 * 400))).all()
    np.testing.assert_allclose(many.var(0), variance / 50, rtol=0.4, atol=1e-12)


def test_signs_find_a_diagonal_hessian_exactly():
    params = {"a": jnp.arange(3.0), "b": jnp.asarray(2.0)}
    found = products.hutchinson_diag(lambda p: jnp.sum(p["a"] ** 3) + p["b"] ** 4, params, jax.random.key(1))
    close(found, {"a": 6 * jnp.arange(3.0), "b": jnp.asarray(48.0)}, rtol=1e-12)


def everything(params, f):
    key, ones = jax.random.key(0), jax.tree.map(lambda p: np.ones_like(p), params)
    yield products.hvp(f, params, ones)
    yield products.gauss_newton_vp(lambda p: p, f, params, ones)
    yield products.fisher_vp(lambda p: p, lambda o, at: -f(o), params, ones)
    yield products.hutchinson_diag(f, params, key, 2)
    yield products.hessian_diag(f, params)


@pytest.mark.parametrize(
    "params",
    [{}, None, 1.5, {"a": None, "b": [2.0]}, [jnp.ones((2, 0))], np.ones(2), jnp.ones(2, jnp.bfloat16)],
    ids=str,
)
def test_odd_trees_keep_their_structure(params):
    def f(p):
        return sum((jnp.sum(jnp.asarray(x) ** 3) for x in jax.tree.leaves(p)), jnp.zeros(()))

    for found in everything(params, f):
        assert jax.tree.structure(found) == jax.tree.structure(params)
        for x, p in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
            assert x.dtype == jnp.result_type(p)
            np.testing.assert_allclose(np.asarray(x, float), 6 * np.asarray(p, float), rtol=1e-12)
    n = sum(np.size(p) for p in jax.tree.leaves(params))
    assert products.hessian(f, params).shape == (n, n)


def test_under_jit_and_vmap():
    batch = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), VECTOR)
    found = jax.jit(jax.vmap(lambda v: products.hvp(loss, PARAMS, v)))(batch)
    close(jax.tree.map(lambda x: x[1], found), jax.tree.map(lambda v: 2 * v, times(dense(loss))), 1e-10, 1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, p: products.hvp(f, 1j * p, p), TypeError, r"hvp: .* complex128; this method has no meaning"),
        (lambda f, p: products.hvp(f, p, 1j * p), TypeError, r"hvp: at .* v has dtype complex128"),
        (lambda f, p: products.hvp(f, p, {"a": p}), ValueError, r"hvp: the tree of v is not the tree of params"),
        (lambda f, p: products.hvp(f, p, p[:1]), ValueError, r"hvp: .* v has shape \(1,\) and params has shape \(2,\)"),
        (lambda f, p: products.hvp(lambda p: p, p, p), ValueError, r"hvp: the function must return one number.*Sum it"),
        (lambda f, p: products.hvp(f, jnp.arange(2), p), TypeError, r"params has dtype int64; only floating"),
        (lambda f, p: products.gauss_newton_vp(lambda p: 1j * p, f, p, p), TypeError, r"gauss_newton_vp: .*complex"),
        (lambda f, p: products.gauss_newton_vp(f, lambda o: p, p, p), ValueError, r"gauss_newton_vp: the function"),
        (lambda f, p: products.fisher_vp(f, lambda o, at: p, p, p), ValueError, r"fisher_vp: the function must"),
        (lambda f, p: products.hutchinson_diag(f, p, jax.random.key(0), 0), ValueError, r"samples must be an integer"),
        (
            lambda f, p: products.hutchinson_diag(f, p, jax.random.key(0), 1, "cauchy"),
            ValueError,
            r"'rademacher', 'nor",
        ),
        (lambda f, p: products.hessian(f, 1j * p), TypeError, r"hessian: .*complex"),
        (lambda f, p: products.hessian_diag(lambda p: p, p), ValueError, r"hessian_diag: the function must return one"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(lambda p: jnp.sum(jnp.abs(p) ** 2), jnp.ones(2))
