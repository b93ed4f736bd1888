"""Law 8: jit equals eager, vmap equals a loop, and an 8-device mesh equals one device."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from tests.cases import at, close, draw, stack, trajectory, update
from tests.laws.subject import GRADS, PARAMS, law


def one_by_one(tx, params, grads):
    """Updates and states of a step for each of the gradients, at fixed parameters; no step is compiled with another."""
    state, seen = tx.init(params), []
    for g in grads:
        updates, state = update(tx, g, state, params)
        seen.append((updates, state))
    return seen


@law(8, "eager")
def eager_equals_jit(subject):
    """Steps outside of jit give what the compiled loop gives, but for rounding."""
    eager = one_by_one(subject.tx, PARAMS, [at(GRADS, t) for t in range(3)])
    close(stack(eager), subject.expected, rtol=1e-12, atol=1e-15)


@law(8, "vmap")
def vmap_equals_a_loop(subject):
    """A batch of two runs gives what the two give by themselves, but for rounding."""
    params, grads = stack([PARAMS, draw(10)]), stack([GRADS, jax.tree.map(jnp.negative, GRADS)])
    batch = jax.jit(jax.vmap(lambda params, grads: trajectory(subject.tx, params, grads)))(params, grads)
    close(at(batch, 0), subject.expected, rtol=1e-12, atol=1e-15)
    close(at(batch, 1), subject.run(*at((params, grads), 1)), rtol=1e-12, atol=1e-15)


@law(8, "mesh")
def a_mesh_equals_one_device(subject):
    """Leaves split over 8 devices give what one device gives, but for rounding."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    params = jax.device_put(PARAMS, NamedSharding(mesh, PartitionSpec("x")))
    grads = jax.device_put(GRADS, NamedSharding(mesh, PartitionSpec(None, "x")))
    close(subject.run(params, grads), subject.expected, rtol=1e-12, atol=1e-15)
