"""Law 8: jit equals eager, vmap equals a loop, and an 8-device mesh equals one device."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.cases import at, close, costly, draw, stack, trajectory, update

PARAMS = draw(0)
GRADS = stack([draw(i + 1) for i in range(3)])


@pytest.mark.parametrize("case", costly(10))
def test_eager_jit_vmap_and_a_mesh_agree(case):
    tx = case.make()
    run = jax.jit(lambda params, grads: trajectory(tx, params, grads))
    expected = run(PARAMS, GRADS)

    state, eager = tx.init(PARAMS), []
    for t in range(3):
        updates, state = update(tx, at(GRADS, t), state, PARAMS)
        eager.append((updates, state))
    close(stack(eager), expected, rtol=1e-12, atol=1e-15)

    params, grads = stack([PARAMS, draw(10)]), stack([GRADS, jax.tree.map(jnp.negative, GRADS)])
    batch = jax.jit(jax.vmap(lambda params, grads: trajectory(tx, params, grads)))(params, grads)
    close(at(batch, 0), expected, rtol=1e-12, atol=1e-15)
    close(at(batch, 1), run(*at((params, grads), 1)), rtol=1e-12, atol=1e-15)

    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(PARAMS, NamedSharding(mesh, PartitionSpec("x")))
    sharded_grads = jax.device_put(GRADS, NamedSharding(mesh, PartitionSpec(None, "x")))
    close(run(sharded, sharded_grads), expected, rtol=1e-12, atol=1e-15)
