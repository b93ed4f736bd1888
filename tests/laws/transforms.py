"""Law 8: jit equals eager, vmap equals a loop, and an 8-device mesh equals one device."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from tests.cases import at, close, draw, stack, trajectory, update
from tests.laws.subject import GRADS, PARAMS, law


@law(8, "eager")
def eager_equals_jit(subject):
    """Steps outside of jit give what the compiled loop gives, but for rounding."""
    state, eager = subject.tx.init(PARAMS), []
    for t in range(3):
        updates, state = update(subject.tx, at(GRADS, t), state, PARAMS)
        eager.append((updates, state))
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
