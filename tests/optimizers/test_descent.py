"""Every optimizer descends with its default settings; if it needs a learning rate, with a usual first choice.

Three problems of 31 parameters each, a matrix of 6 x 5 and a number, 2000 steps:

  a quadratic    curvatures from 0.05 to 5, gradients with noise of deviation 0.1
  Rosenbrock     15 pairs near the classic start (-1.2, 1), divided by 100 so that the steepest curvature is 13
  regression     logistic, on scikit-learn's breast cancer data, standardized, every fourth patient

Judged is the mean of the true loss over the last 200 steps, as a fraction of the first loss. The three run as one
batch, so that an optimizer is compiled once.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_breast_cancer

import gradtx as gx
from docs.optimizers import optimizers

STEPS, LAST = 2000, 200
LIMITS = {"quadratic": 0.03, "rosenbrock": 0.12, "regression": 0.1}
"""The fraction of the first loss at which each problem counts as solved.

The least third of the quadratic's curvatures make 4 percent of its loss; the floor of Rosenbrock's valley across
from the start is at 0.149.
"""

RATES = {
    **dict.fromkeys(["sgd", "noisy_sgd", "optimistic_gradient_descent", "lars"], 0.1),
    **dict.fromkeys(["adagrad", "ftrl", "sm3"], 0.1),
    **dict.fromkeys(["acprop", "fromage", "lion", "rprop", "signum"], 0.01),
    "sign_sgd": 0.003,  # it has no average that cancels the signs across the valley
    "apollo_mini": 0.003,  # its steps are 11 times as long as Adam's
    "simplified_ademamix": 0.0003,  # its momentum is a sum of a hundred gradients
    "adafactor": 0.03,  # has a default, which is none: steps of the size of the parameters
}
"""What one would try first, where that is not `RATE`."""

RATE = 0.03
"""What one would try first of Adam and its kin, and of anything new that asks for a rate and nothing else."""


def as_one_example(grads, params):
    """The gradients with the axis of examples that `dpsgd` asks for."""
    del params
    return jax.tree.map(lambda g: g[None], grads)


def make(name):
    """Makes the optimizer with its default settings."""
    constructor = getattr(gx, name)
    if name == "dpsgd":  # has no defaults: a bound that seldom binds, and the deviation of the quadratic's noise
        return gx.chain(gx.stateless(as_one_example), constructor(0.1, 10.0, 0.01, seed=0))
    if name == "splus":  # the number's steps are a thousandth of a sign's, which fits wide models
        return constructor(0.1, nonstandard_constant=0.1)
    if name in RATES:
        return constructor(RATES[name])
    required = [p.name for p in inspect.signature(constructor).parameters.values() if p.default is p.empty]
    if required == ["learning_rate"]:
        return constructor(RATE)
    assert not required, (
        f"{name} needs {required}: give it an entry in RATES, or in docs.optimizers.LINKS if it is no optimizer"
    )
    return constructor()


RNG = np.random.default_rng(0)
CURVATURES = jnp.asarray(RNG.permutation(np.geomspace(0.05, 5, 31)))
DATA = load_breast_cancer()
FEATURES = ((DATA.data - DATA.data.mean(0)) / DATA.data.std(0))[::4]
SIGNS = 2.0 * DATA.target[::4] - 1
NOISE = 0.1 * RNG.normal(size=(STEPS, 31))


def quadratic(params):
    return 0.5 * jnp.sum(CURVATURES * ravel_pytree(params)[0] ** 2)


def rosenbrock(params):
    x, y = params["w"].reshape(2, 15)
    return jnp.sum((1 - x) ** 2 + 100 * (y - x * x) ** 2) / 100 + params["b"] ** 2


def regression(params):
    return jnp.mean(jax.nn.softplus(-SIGNS * (FEATURES @ params["w"].ravel() + params["b"])))


PROBLEMS = [quadratic, rosenbrock, regression]
STARTS = [
    {"w": RNG.normal(size=(6, 5)), "b": np.asarray(1.0)},
    {"w": np.repeat([-1.2, 1.0], 15).reshape(6, 5) + 0.1 * RNG.normal(size=(6, 5)), "b": np.asarray(1.0)},
    {"w": np.zeros((6, 5)), "b": np.asarray(0.0)},
]


def losses(tx):
    """Returns the true losses of the problems at every step, a row for each problem."""

    def loss(params, which):
        return sum(jnp.where(which == i, problem(params), 0) for i, problem in enumerate(PROBLEMS))

    def run(which, start, noise):
        def step(carry, noise):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, which)
            flat, unravel = ravel_pytree(grads)
            updates, state = tx.update(unravel(flat + jnp.where(which == 0, noise, 0)), state, params, value=value)
            return (gx.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (start, tx.init(start)), noise)[1]

    starts = jax.tree.map(lambda *x: np.stack(x), *STARTS)
    # Compilation takes most of the time, so less optimization of the code is faster in total.
    quickly = {"xla_backend_optimization_level": 0}
    return jax.jit(jax.vmap(run, in_axes=(0, 0, None)), compiler_options=quickly)(np.arange(3), starts, NOISE)


def fractions(tx):
    """Returns the final loss of each problem, as a fraction of its first loss."""
    found = np.asarray(losses(tx))
    return dict(zip(LIMITS, found[:, -LAST:].mean(axis=1) / found[:, 0], strict=True))


@pytest.mark.one_in(12)
@pytest.mark.parametrize("name", list(optimizers()))
def test_descent(name):
    reached = fractions(make(name))
    assert all(reached[problem] < limit for problem, limit in LIMITS.items()), reached


def test_the_limits_are_not_met_by_standing_still_or_creeping():
    for rate in (0.0, RATES["sgd"] / 1000):
        reached = fractions(gx.sgd(rate))
        assert all(reached[problem] > limit for problem, limit in LIMITS.items()), reached
