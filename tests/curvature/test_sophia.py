"""Sophia and the estimates of the Hessian diagonal: unbiased, every few steps, and equal to the rule in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.cases import close

RNG = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(RNG.normal(size=(2, 3))), "b": jnp.zeros(3)}
X = jnp.asarray(RNG.normal(size=(7, 2)))
GRADS = [jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape)), PARAMS) for _ in range(5)]


def logits(params):
    return jnp.tanh(X @ params["w"]) + params["b"][None, :]


def cross_entropy(params):
    return -jnp.mean(jax.nn.log_softmax(logits(params))[:, 0])


def quartic(params):
    return jnp.sum(params["w"] ** 4) + jnp.sum(params["w"]) ** 2 * jnp.sum(jnp.cosh(params["b"]))


@pytest.mark.heavy
def test_the_bartlett_estimate_is_unbiased():
    """The mean of the estimate is the diagonal of the Gauss-Newton matrix of the mean loss, summed over all labels."""
    probabilities = jax.nn.softmax(logits(PARAMS))
    scores = jax.jacobian(lambda p: jax.nn.log_softmax(logits(p)))(PARAMS)  # row, class, parameter
    expected = jax.tree.map(lambda s: jnp.einsum("rc,rc...->...", probabilities, s**2) / len(X), scores)
    estimates = jax.jit(jax.vmap(lambda key: gx.gauss_newton_bartlett_diag(logits, PARAMS, key, 4)))
    many = estimates(jax.random.split(jax.random.key(0), 4000))
    for name in PARAMS:
        assert (many[name] >= 0).all()
        error, deviation = many[name].mean(0) - expected[name], many[name].std(0) / np.sqrt(4000)
        assert (jnp.abs(error) <= 5 * deviation).all()
        assert (deviation <= 0.03 * expected[name]).all()


def test_the_estimate_is_the_same_whatever_the_axes_of_the_examples():
    key = jax.random.key(3)
    flat = gx.gauss_newton_bartlett_diag(logits, PARAMS, key)
    stacked = gx.gauss_newton_bartlett_diag(lambda p: logits(p).reshape(1, 7, 3), PARAMS, key)
    close(stacked, flat, rtol=1e-12)


def moved(tx, steps, **extra):
    state, found = tx.init(PARAMS), []
    update = jax.jit(lambda g, state: tx.update(g, state, PARAMS, **extra))
    for g in GRADS[:steps]:
        updates, state = update(g, state)
        found.append(updates)
    return found, state


def test_the_rule_in_numpy():
    """For a separable function, a single sample of signs gives the exact diagonal."""

    def separable(params):
        return jnp.sum(params["w"] ** 4) - jnp.sum(jnp.cosh(params["b"]))

    b1, b2, eps, gamma, rate, decay = 0.9, 0.7, 1e-3, 0.3, 0.1, 0.2
    tx = gx.sophia(rate, b1, b2, eps, decay, gamma=gamma, clip_threshold=0.8, update_interval=2)
    actual, state = moved(tx, 5, value_fn=separable)
    diagonal = {"w": 12 * np.asarray(PARAMS["w"]) ** 2, "b": -np.ones(3)}
    for name, p in PARAMS.items():
        m, h = np.zeros(p.shape), np.zeros(p.shape)
        for t, g in enumerate(GRADS):
            m = b1 * m + (1 - b1) * np.asarray(g[name])
            u = np.clip(m / (1 - b1 ** (t + 1)) / np.maximum(gamma * h, eps), -0.8, 0.8)
            np.testing.assert_allclose(actual[t][name], -rate * (u + decay * np.asarray(p)), rtol=1e-10, atol=1e-14)
            if t % 2 == 0:
                h = b2 * h + (1 - b2) * diagonal[name]
        np.testing.assert_allclose(state[0].inner_state.nu[name], h, rtol=1e-10)


@pytest.mark.parametrize(("estimator", "name"), [("hutchinson", "value_fn"), ("gauss_newton_bartlett", "outputs_fn")])
def test_the_diagonal_is_computed_every_few_steps(estimator, name):
    """The function is evaluated only at these steps, each time with a new key."""
    calls = []

    def counted(params):
        jax.debug.callback(lambda: calls.append(1))
        return quartic(params) if name == "value_fn" else logits(params)

    tx = gx.sophia(0.1, update_interval=3, estimator=estimator)
    state, averages, counts = tx.init(PARAMS), [], []
    update = jax.jit(lambda g, state: tx.update(g, state, PARAMS, **{name: counted}))
    for g in GRADS[:4]:
        _, state = update(g, state)
        jax.block_until_ready(state)
        jax.effects_barrier()
        counts.append(len(calls))
        averages.append(state[0].inner_state.nu["w"])
    assert counts[0] > 0
    assert counts[0] == counts[1] == counts[2] == counts[3] / 2
    np.testing.assert_array_equal(averages[0], averages[2])
    first, second = averages[0] / 0.01, (averages[3] - 0.99 * averages[2]) / 0.01
    assert jnp.abs(first - second).max() > 1e-3


def test_a_key_can_be_given():
    tx = gx.with_hessian_diag(gx.scale_by_hessian_diag(absolute=True))
    key = jax.random.key(5)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates, state = tx.update(ones, tx.init(PARAMS), PARAMS, value_fn=quartic, key=key)
    h = gx.hutchinson_diag(quartic, PARAMS, key)
    close(updates, jax.tree.map(lambda h: 1 / jnp.maximum(jnp.abs(h), 1e-6), h), rtol=1e-10)
    np.testing.assert_array_equal(state.rng_key, tx.init(PARAMS).rng_key)


@pytest.mark.parametrize("estimator", ["hutchinson", "gauss_newton_bartlett"])
def test_it_learns(estimator):
    tx = gx.sophia(0.05, gamma=0.05, update_interval=5, estimator=estimator)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(cross_entropy)(params)
        updates, state = tx.update(grads, state, params, value_fn=cross_entropy, outputs_fn=logits)
        return gx.apply_updates(params, updates), state, value

    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(100):
        params, state, value = step(params, state)
    assert value < 0.1 * cross_entropy(PARAMS)


@pytest.mark.heavy
def test_it_is_that_of_optax_for_the_same_diagonal():
    diagonal = jax.tree.map(lambda g: jnp.abs(g) + 0.1, GRADS[1])
    estimator = optax.GradientTransformationExtraArgs(lambda p: (), lambda u, s, params=None, **extra: (diagonal, s))
    theirs = optax.contrib.sophia(0.1, weight_decay=0.0, update_interval=2, hessian_diagonal_fn=estimator)
    ours = gx.chain(gx.scale_by_sophia(update_interval=2), gx.scale_by_learning_rate(0.1))
    close(moved(ours, 4, hessian_diag=diagonal)[0], moved(theirs, 4)[0], rtol=1e-10, atol=1e-15)
    without = moved(ours, 1)[1][0].nu
    assert not any(x.any() for x in jax.tree.leaves(without))  # without an estimate, nothing changes


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gx.sophia(0.1, estimator="exact"), ValueError, "estimator must be one of 'hutchinson', 'gauss_newton"),
        (lambda: gx.sophia(0.1, update_interval=0), ValueError, "update_interval must be"),
        (lambda: moved(gx.sophia(0.1), 1), ValueError, "with_hessian_diag.update needs `value_fn`"),
        (
            lambda: moved(gx.sophia(0.1, estimator="gauss_newton_bartlett"), 1, value_fn=quartic),
            ValueError,
            "needs `outputs_fn`",
        ),
        (lambda: gx.sophia(0.1).init(1j * X), TypeError, "no meaning for complex"),
        (
            lambda: moved(gx.scale_by_sophia(), 1, hessian_diag={"w": PARAMS["w"]}),
            ValueError,
            "scale_by_sophia: the tree of hessian_diag is not the tree of updates",
        ),
        (
            lambda: gx.gauss_newton_bartlett_diag(lambda p: p["b"].sum(), PARAMS, jax.random.key(0)),
            ValueError,
            "outputs_fn must return logits",
        ),
        (
            lambda: gx.gauss_newton_bartlett_diag(logits, PARAMS, jax.random.key(0), 0),
            ValueError,
            "samples must be an integer",
        ),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
