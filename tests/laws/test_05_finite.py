"""Law 5: finite in, finite out, for zeros, subnormal numbers and the dtype's largest, in every dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import costly, finite, kept, trajectory

DTYPES = ("float16", "bfloat16", "float32", "float64")


def extremes(dtype):
    info = jnp.finfo(dtype)
    return {
        "zero": jnp.zeros(2, dtype),
        "subnormal": jnp.asarray([info.smallest_subnormal] * 2, dtype),
        "tiny": jnp.asarray([info.tiny, -float(info.tiny)], dtype),
        "small": jnp.asarray([float(info.tiny) ** 0.5, 0.0], dtype),
        "large": jnp.asarray([float(info.max) ** 0.5, 1.0], dtype),
        "max": jnp.asarray([info.max, -float(info.max)], dtype),
    }


def sequences(dtype):
    """Three gradients each: every extreme as its sign flips, and plain numbers after a first gradient of zeros."""
    late = jnp.asarray([1.0, -0.5], dtype)
    return {k: jnp.stack([x, -x, x]) for k, x in extremes(dtype).items()} | {"late": jnp.stack([0 * late, late, -late])}


def run(tx, dtype):
    """Three steps on all sequences together; for rules that see the tree, on each alone too."""

    @jax.jit
    def steps(grads):
        return trajectory(tx, jax.tree.map(lambda g: jnp.ones_like(g[0]), grads), grads)

    yield steps(sequences(dtype))
    if _sees_the_tree(tx):
        yield from (steps({"w": g}) for g in sequences(dtype).values())


def _sees_the_tree(tx):
    return any(map(_sees_the_tree, tx.links)) if isinstance(tx, gx.chain) else isinstance(tx, gx.Treewide)


def check(case, dtype):
    tx = case.make()
    if "mask={" in case.expression or "partition" in case.expression:
        return  # those leaves are not here
    for seen in run(tx, dtype):
        assert finite(seen), (dtype, jax.tree.map(np.asarray, seen))


@pytest.mark.parametrize("case", costly(6, kept("finite")))
def test_finite(case):
    check(case, "float16")
    check(case, "float32")


@pytest.mark.heavy
@pytest.mark.parametrize("case", kept("finite"), ids=str)
def test_finite_in_more_dtypes(case):
    check(case, "bfloat16")
    check(case, "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("entry", ["tiny", "small", "large", "max"])
def test_norms_are_right_wherever_they_are_representable(dtype, entry):
    x = extremes(dtype)[entry]
    expected = np.linalg.norm(np.asarray(x, np.longdouble))
    computed = jnp.promote_types(dtype, "float32")
    if expected < float(jnp.finfo(computed).max):
        np.testing.assert_allclose(float(gx.tree.norm({"a": x})), float(expected), rtol=1e-6)


def test_clipping_where_the_norm_overflows():
    for dtype, g in (("float16", [300.0, 300.0]), ("float32", [1e20, 1e20]), ("float32", [3e38, 3e38])):
        g = jnp.asarray(g, dtype)
        tx = gx.clip_by_global_norm(1.0)
        np.testing.assert_allclose(tx.update(g, tx.init(g))[0], np.full(2, 0.5**0.5), rtol=1e-3)
        tx = gx.clip_by_block_rms(1.0)
        np.testing.assert_allclose(tx.update(g, tx.init(g))[0], np.ones(2), rtol=1e-3)


def test_clipping_to_zero_and_clipping_zeros():
    for tx in (gx.clip_by_global_norm(0.0), gx.clip_by_block_rms(0.0), gx.clip(0.0)):
        for g in (jnp.zeros(3), jnp.ones(3)):
            np.testing.assert_array_equal(tx.update(g, tx.init(g))[0], np.zeros(3))


def test_non_finite_gradients_stay_visible():
    """What is not finite is never clipped into something that looks healthy."""
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        g = jnp.asarray([bad, 1.0], "float32")
        for tx in (gx.adam(0.1), gx.yogi(0.1), gx.rmsprop(0.1), gx.clip_by_global_norm(1.0), gx.clip_by_block_rms(1.0)):
            updates, _ = tx.update(g, tx.init(g))
            assert not finite(updates), (tx, bad)
    g = jnp.asarray([jnp.nan, 1.0])
    assert jnp.isnan(gx.clip_by_global_norm(1.0).update(g, gx.clip_by_global_norm(1.0).init(g))[0]).all()
