"""Law 10: odd trees, and complex leaves."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cases import close, costly, draw, kept, stack, trajectory, update


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: Any
    bias: Any


class Pair(NamedTuple):
    first: Any
    second: Any


TREES = {
    "empty dict": {},
    "nothing": None,
    "one scalar": 1.5,
    "None leaves": {"a": None, "b": [None, jnp.ones(2)]},
    "zero-size leaves": {"a": jnp.ones((0, 3)), "b": jnp.ones(2)},
    "only zero-size leaves": [jnp.ones((2, 0))],
    "custom nodes": Layer(kernel=jnp.ones((2, 2)), bias=Pair(jnp.ones(2), None)),
    "NumPy arrays": (np.ones(3), [np.float64(2.0)]),
}


@pytest.mark.parametrize("case", costly(14, kept("trees")))
def test_odd_trees(case):
    tx = case.make()
    if "mask={" in case.expression:
        tx = tx.replace(mask=None)
    for name, tree in TREES.items():
        state = tx.init(tree)
        updates, new_state = update(tx, tree, state, tree)
        assert jax.tree.structure(updates) == jax.tree.structure(tree), name
        assert jax.tree.structure(new_state) == jax.tree.structure(state), name
        for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(tree), strict=True):
            assert np.shape(u) == np.shape(g), name
            assert np.isfinite(u).all(), name


@pytest.mark.parametrize("case", costly(15, kept("rotation")))
def test_rotating_a_complex_gradient_rotates_the_update(case):
    tx = case.make()
    if "mu_dtype" in case.expression or "accumulator_dtype" in case.expression:
        return  # a real dtype asked for: no place for a complex moment

    def tree(seed):
        return jax.tree.map(lambda x, y: x + 1j * y, draw(seed), draw(seed + 50))

    if "complex" in case.unless:
        with pytest.raises(TypeError, match="complex"):
            trajectory(tx, tree(0), stack([tree(1), tree(2)]))
        return
    turn = np.exp(0.7j)
    params, grads = tree(0), stack([tree(1), tree(2)])
    run = jax.jit(lambda params, grads: trajectory(tx, params, grads))
    straight = run(params, grads)
    turned = run(*jax.tree.map(lambda x: turn * x, (params, grads)))
    assert all(jnp.iscomplexobj(u) for u in jax.tree.leaves(turned[0]))
    close(turned[0], jax.tree.map(lambda x: turn * x, straight[0]), rtol=1e-10, atol=1e-14)
