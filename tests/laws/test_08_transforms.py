"""Law 8: jit equals eager, vmap equals a loop, and an 8-device mesh equals one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.cases import TRANSFORMATIONS, at, close, draw, stack, trajectory

PARAMS = draw(0)
GRADS = stack([draw(i + 1) for i in range(3)])


@pytest.mark.parametrize("case", TRANSFORMATIONS, ids=str)
def test_jit_equals_eager_and_vmap_equals_a_loop(case):
    tx = case.make()
    state, eager = tx.init(PARAMS), []
    for t in range(3):
        updates, state = tx.update(at(GRADS, t), state, PARAMS)
        eager.append((updates, state))
    eager = stack(eager)
    run = jax.jit(lambda params, grads: trajectory(tx, params, grads))
    close(run(PARAMS, GRADS), eager, rtol=1e-12, atol=1e-15)
    params, grads = stack([draw(0), draw(10)]), stack([GRADS, jax.tree.map(jnp.negative, GRADS)])
    batch = jax.jit(jax.vmap(lambda params, grads: trajectory(tx, params, grads)))(params, grads)
    for i in range(2):
        close(at(batch, i), run(*at((params, grads), i)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", TRANSFORMATIONS, ids=str)
def test_a_mesh_equals_one_device(case):
    tx = case.make()
    rng = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(rng.normal(size=(16, 2))),
        "b": jnp.asarray(rng.normal(size=8)),
        "deep": jnp.asarray(0.5),
    }
    grads = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=(2, *x.shape))), params)
    run = jax.jit(lambda params, grads: trajectory(tx, params, grads))
    expected = run(params, grads)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

    def place(tree, *leading):
        def sharding(x):
            return NamedSharding(mesh, PartitionSpec(*leading, "x") if x.ndim > len(leading) else PartitionSpec())

        return jax.tree.map(lambda x: jax.device_put(x, sharding(x)), tree)

    close(run(place(params), place(grads, None)), expected, rtol=1e-12, atol=1e-15)
