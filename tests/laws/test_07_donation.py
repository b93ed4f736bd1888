"""Law 7: a fresh state shares no buffer with the parameters or itself; `init` works on abstract values."""

import jax
import pytest

import gradtx as gx
from tests.cases import costly, draw


@pytest.mark.parametrize("case", costly(8))
def test_fresh_state_has_its_own_buffers(case):
    tx = case.make()
    params = draw(0, "float32")
    state = tx.init(params)
    leaves = jax.tree.leaves((params, state))
    pointers = [x.unsafe_buffer_pointer() for x in leaves if x.size]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize("case", costly(9))
def test_init_is_abstract(case):
    tx = case.make()
    params = draw(0, "float32")
    expected = jax.eval_shape(lambda: tx.init(params))
    assert jax.eval_shape(tx.init, params) == expected
    concrete = tx.init(params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), concrete) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


def test_params_and_state_can_be_donated_together():
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.1))

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return gx.apply_updates(params, updates), state

    params = draw(0)
    state = tx.init(params)
    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(2):
        params, state = step(params, state, draw(1))
    assert all(x.is_deleted() is False for x in jax.tree.leaves((params, state)))
