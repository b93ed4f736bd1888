"""Details of law 5: norms and clipping at the limits of every dtype."""

import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.testing.finite import DTYPES, extremes
from tests.cases import finite


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


def test_clipping_where_the_norm_has_no_place_in_the_dtype_of_a_leaf():
    grads = [jnp.full(2, 3e19, "float32"), jnp.full(2, 2e154, "float64")]
    tx = gx.clip_by_global_norm(1.0)
    narrow, wide = tx.update(grads, tx.init(grads))[0]
    np.testing.assert_array_equal(narrow, [0.0, 0.0])
    np.testing.assert_allclose(wide, np.full(2, 0.5**0.5))


def test_clipping_to_zero_and_clipping_zeros():
    for tx in (gx.clip_by_global_norm(0.0), gx.clip_by_block_rms(0.0), gx.clip(0.0)):
        for g in (jnp.zeros(3), jnp.ones(3)):
            np.testing.assert_array_equal(tx.update(g, tx.init(g))[0], np.zeros(3))


def test_non_finite_gradients_stay_visible():
    """Gradients that are not finite are never clipped to finite numbers, which would hide the problem."""
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        g = jnp.asarray([bad, 1.0], "float32")
        for tx in (gx.adam(0.1), gx.yogi(0.1), gx.rmsprop(0.1), gx.clip_by_global_norm(1.0), gx.clip_by_block_rms(1.0)):
            updates, _ = tx.update(g, tx.init(g))
            assert not finite(updates), (tx, bad)
    g = jnp.asarray([jnp.nan, 1.0])
    assert jnp.isnan(gx.clip_by_global_norm(1.0).update(g, gx.clip_by_global_norm(1.0).init(g))[0]).all()


def test_clips_where_nothing_is_to_be_clipped_or_all():
    tx, zeros = gx.adaptive_grad_clip(0.1, 0.0), jnp.zeros((2, 2))
    np.testing.assert_array_equal(tx.update(zeros, tx.init(zeros), zeros)[0], zeros)
    tx, ones = gx.adaptive_grad_clip(0.1, axis=1), jnp.ones(3)
    with pytest.raises(ValueError, match=r"axis=1 does not exist in the leaf .* shape \(3,\)"):
        tx.update(ones, tx.init(ones), ones)
    crossed = gx.clip_params(jnp.array(2.0), jnp.array(1.0))  # arrays are not compared; the upper bound is the last
    p = jnp.array([0.0, 1.5, 3.0])
    updates, _ = crossed.update(jnp.zeros(3), crossed.init(p), p)
    np.testing.assert_allclose(p + updates, 1.0)
