"""Details of law 1: which transformations are not equal, which attributes are frozen, how a long repr looks."""

import jax
import jax.numpy as jnp
import pytest

import gradtx as gx


def test_frozen():
    tx = gx.scale(2.0)
    with pytest.raises(AttributeError):
        tx.step_size = 3.0


def test_different_values_differ():
    assert gx.adam(0.1) != gx.adam(0.2)
    assert gx.adam(0.1) != gx.adam(0.1, nesterov=True)
    assert gx.chain(gx.scale(1.0)) != gx.scale(1.0)
    assert gx.named_chain(("a", gx.scale(1.0))) != gx.named_chain(("b", gx.scale(1.0)))
    x = jnp.asarray(0.1)
    assert gx.scale(x) == gx.scale(x)
    assert gx.scale(x) != gx.scale(jnp.asarray(0.1))  # arrays compare by identity


def test_values_are_static_and_traced_arguments():
    @jax.jit
    def traced(tx):
        return tx.step_size * 2

    static = jax.jit(lambda tx: tx.step_size * 2, static_argnums=0)
    assert traced(gx.scale(0.5)) == static(gx.scale(0.5)) == 1.0


def test_long_reprs_are_indented_and_still_evaluate():
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(gx.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000)))
    assert repr(tx).startswith("chain(\n  clip_by_global_norm(max_norm=1.0),\n  chain(\n    scale_by_adam(")
    assert eval(repr(tx), vars(gx)) == tx


def test_repr_of_arrays():
    tx = gx.scale(jnp.asarray(0.5, "float32"))
    assert repr(tx) == "scale(step_size=jnp.asarray(0.5, dtype='float32'))"
    assert repr(gx.scale(jnp.ones(100))) == "scale(step_size=float64[100])"
