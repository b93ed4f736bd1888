"""A logistic regression that L-BFGS fits to full precision, with optax's line search and tree utilities.

The data are scikit-learn's measurements of tumors, standardized.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_breast_cancer

STEPS = 40
TOLERANCE = 1e-5


def problem(dtype):
    found = load_breast_cancer()
    x = jnp.asarray((found.data - found.data.mean(0)) / found.data.std(0), dtype)
    y = jnp.asarray(found.target)

    def loss(params):
        scores = x @ params["weights"] + params["bias"][None]
        entropy = optax.losses.softmax_cross_entropy_with_integer_labels(scores, y).mean()
        return entropy + 0.03 * optax.tree.norm(params["weights"], squared=True)

    return loss, {"weights": jnp.zeros((x.shape[1], 2), dtype), "bias": jnp.zeros(2, dtype)}


def run(dtype, steps=STEPS):
    """Returns the value after every step, then the parameters."""
    loss, params = problem(dtype)
    tx = optax.lbfgs(memory_size=10)
    value_and_grad = optax.value_and_grad_from_state(loss)

    @jax.jit
    def step(params, state):
        value, grad = value_and_grad(params, state=state)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, updates), state

    state, values = tx.init(params), []
    for _ in range(steps):
        params, state = step(params, state)
        values.append(float(optax.tree.get(state, "value")))
        if optax.tree.norm(optax.tree.get(state, "grad")) < TOLERANCE:
            break
    assert int(optax.tree.get(state, "count")) == len(values) < steps
    return [*values, float(optax.tree.sum(params)), float(optax.tree.norm(params)), *np.ravel(params["bias"]).tolist()]
