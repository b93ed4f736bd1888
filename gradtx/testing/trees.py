"""Law 10: unusual trees, and complex leaves."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.testing.bad_calls import refused
from gradtx.testing.calls import trajectory, update
from gradtx.testing.data import close, draw, stack
from gradtx.testing.subject import NotApplicableError, Subject, law


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: Any
    bias: Any


class Pair(NamedTuple):
    first: Any
    second: Any


def trees() -> dict[str, Any]:
    """Returns unusual trees that users may have, by a name that says what is unusual."""
    return {
        "empty dict": {},
        "nothing": None,
        "one scalar": 1.5,
        "None leaves": {"a": None, "b": [None, jnp.ones(2)]},
        "zero-size leaves": {"a": jnp.ones((0, 3)), "b": jnp.ones(2)},
        "only zero-size leaves": [jnp.ones((2, 0))],
        "custom nodes": Layer(kernel=jnp.ones((2, 2)), bias=Pair(jnp.ones(2), None)),
        "NumPy arrays": (np.ones(3), [np.float64(2.0)]),
    }


@law(10, "odd trees", unless="trees")
def odd_trees(subject: Subject) -> None:
    """Empty trees, None, scalars, zero-size leaves, custom pytree nodes and NumPy arrays work like other trees."""
    tx = subject.tx
    if "mask={" in subject.expression:
        if not subject.is_value:
            raise NotApplicableError("the mask is made for one tree")
        tx = tx.replace(mask=None)
    with jax.disable_jit():
        for name, tree in trees().items():
            state = tx.init(tree)
            updates, new_state = update(tx, tree, state, tree)
            assert jax.tree.structure(updates) == jax.tree.structure(tree), f"{name}: updates of a different structure"
            assert jax.tree.structure(new_state) == jax.tree.structure(state), (
                f"{name}: a state of a different structure"
            )
            for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(tree), strict=True):
                assert np.shape(u) == np.shape(g), f"{name}: an update of a different shape"
                assert np.isfinite(u).all(), f"{name}: an update that is not finite"


@law(10, "complex leaves", unless="rotation")
def rotating_a_complex_gradient_rotates_the_update(subject: Subject) -> None:
    """Rotating complex parameters and gradients rotates the update, or complex leaves raise a clear error."""
    if "mu_dtype" in subject.expression or "accumulator_dtype" in subject.expression:
        raise NotApplicableError("the user sets a real dtype, which cannot hold a complex moment")

    def tree(seed: int) -> Any:
        return jax.tree.map(lambda x, y: x + 1j * y, draw(seed), draw(seed + 50))

    turn, params, grads = np.exp(0.7j), tree(0), stack([tree(1), tree(2)])
    with jax.disable_jit():
        if "complex" in subject.unless:
            problem = refused(lambda: trajectory(subject.tx, params, grads), "complex")
            assert problem is None, problem
            return
        straight = trajectory(subject.tx, params, grads)[0]
        turned = trajectory(subject.tx, *jax.tree.map(lambda x: turn * x, (params, grads)))[0]
    assert all(jnp.iscomplexobj(u) for u in jax.tree.leaves(turned)), "the updates of complex gradients are real"
    close(turned, jax.tree.map(lambda x: turn * x, straight), rtol=1e-10, atol=1e-14, about="the updates do not rotate")
