"""Norms with a floor, counters, scaled gradients, slow copies, units, and the other small functions, against optax."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import optax.second_order
import pytest
from optax.transforms import unitwise_clip, unitwise_norm

import gradtx as gx

RNG = np.random.default_rng(0)
NORMS = [
    ((5,), {}),
    ((5,), {"ord": 1}),
    ((5,), {"ord": np.inf}),
    ((5,), {"ord": 0}),
    ((5,), {"ord": 3}),
    ((3, 4), {}),
    ((3, 4), {"ord": 2}),
    ((3, 4), {"ord": "nuc"}),
    ((3, 4), {"ord": "fro", "axis": (0, 1)}),
    ((3, 4), {"axis": 1}),
    ((3, 4), {"ord": 2, "axis": -1, "keepdims": True}),
    ((3, 4), {"ord": 1, "axis": 0}),
    ((2, 3, 4), {"axis": (0, 2), "keepdims": True}),
    ((2, 3, 4), {}),
]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("floor", [1.5, *(pytest.param(x, marks=pytest.mark.heavy) for x in (1e-9, 100.0))])
@pytest.mark.parametrize(("shape", "options"), NORMS, ids=str)
def test_norms_and_their_derivatives_are_optax_s(shape, options, floor):
    x = jnp.asarray(RNG.normal(size=shape))
    with jax.numpy_rank_promotion("allow"):
        for way in (lambda f: f, lambda f: jax.grad(lambda x: jnp.sum(f(x)))):
            found, expected = (way(lambda x, f=f: f(x, floor, **options))(x) for f in (gx.safe_norm, optax.safe_norm))
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            assert found.shape == expected.shape


@pytest.mark.one_in(5)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", [None, 1, np.inf, 3])
def test_norms_are_right_to_the_ends_of_the_dtype(dtype, kind):
    most = float(jnp.finfo(dtype).max)
    for size in (most / 32, float(jnp.finfo(dtype).tiny) * 4):
        x = jnp.full(16, size, dtype)
        exact = size * 16 ** (0 if kind == np.inf else 1 / (kind or 2))
        found = gx.safe_norm(x, 0.0, ord=kind)
        assert found.dtype == dtype
        np.testing.assert_allclose(float(found), exact, rtol=1e-2)
        assert np.isfinite(jax.grad(lambda x: gx.safe_norm(x, 0.0, ord=kind))(x)).all()
    assert np.isinf(optax.safe_norm(jnp.full(16, most / 32, dtype), 0.0)) or dtype in ("float16",)


def test_floors_have_no_derivative():
    for f in (gx.safe_norm, gx.safe_root_mean_squares):
        value, slope = jax.value_and_grad(f)(jnp.zeros(3), 1e-3)
        assert value == 1e-3
        assert (slope == 0).all()
    assert gx.safe_norm(jnp.zeros((0,)), 0.5) == 0.5
    assert gx.safe_norm(jnp.float32(-3.0), 0.5) == 3


@pytest.mark.parametrize("floor", [1e-9, 3.0])
def test_root_mean_squares_are_optax_s_and_right_at_the_ends(floor):
    for x in (jnp.asarray(RNG.normal(size=(3, 2))), jnp.asarray(RNG.normal(size=3) + 1j)):
        found, expected = (f(x, floor) for f in (gx.safe_root_mean_squares, optax.safe_root_mean_squares))
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        assert found.dtype == expected.dtype
    large = jnp.full(7, jnp.finfo("float32").max)
    np.testing.assert_allclose(gx.safe_root_mean_squares(large, 0.0), large[0], rtol=1e-6)
    assert np.isinf(optax.safe_root_mean_squares(large, 0.0))
    assert gx.safe_root_mean_squares(jnp.zeros(0), 0.25) == 0.25  # optax: NaN


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float16", "float32"])
def test_counters_stop_at_the_end(dtype):
    most = jnp.asarray((jnp.finfo if "float" in dtype else jnp.iinfo)(dtype).max, dtype)
    for count in (jnp.asarray(3, dtype), most, most - 1):
        found = gx.safe_increment(count)
        assert found == optax.safe_increment(count)
        assert found.dtype == dtype
    assert gx.safe_increment(7) == 8
    with pytest.raises(TypeError, match="must hold integers or floats"):
        gx.safe_increment(jnp.array(True))


@pytest.mark.parametrize("scale", [0.0, 1.0, -0.5, 3.0])
def test_gradients_are_scaled(scale):
    def f(scaled):
        return lambda x: jnp.sum(scaled({"a": x["a"] ** 2, "b": x["b"]}, scale)["a"]) * x["b"] ** 3

    x = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)}
    ours, theirs = f(gx.scale_gradient), f(optax.scale_gradient)
    jax.tree.map(np.testing.assert_array_equal, jax.grad(ours)(x), jax.grad(theirs)(x))
    along = jax.jvp(ours, (x,), (x,))[1]
    slopes = zip(jax.tree.leaves(jax.grad(ours)(x)), jax.tree.leaves(x), strict=True)
    np.testing.assert_allclose(along, sum(jnp.sum(g * p) for g, p in slopes))
    traced = jax.jit(lambda s: jax.grad(lambda x: jnp.sum(gx.scale_gradient(x, s) ** 2))(x["a"]))(scale)
    np.testing.assert_allclose(traced, 2 * scale * x["a"])


def test_scaled_gradients_of_other_leaves():
    """Integer leaves have no gradient to scale, a second derivative is scaled twice, and 16-bit leaves keep their
    dtype."""
    tree = {"x": jnp.array(2.0, "bfloat16"), "n": jnp.array(3)}
    grads = jax.grad(lambda t: gx.scale_gradient(t, 1 / 3)["x"] ** 2, allow_int=True)(tree)
    assert grads["x"].dtype == "bfloat16"
    second = jax.grad(jax.grad(lambda x: gx.scale_gradient(x, 0.5) ** 3))(2.0)
    assert second == 0.25 * 12
    z = jax.grad(lambda z: gx.scale_gradient(z, 2.0).imag)(1j)
    assert z == jax.grad(lambda z: 2 * z.imag)(1j)


# --- slow copies


def test_averages_are_optax_s():
    new, old = ({"w": jnp.asarray(RNG.normal(size=3)), "none": None} for _ in range(2))
    found, expected = (f(new, old, 0.3) for f in (gx.incremental_update, optax.incremental_update))
    np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-14)
    assert found["none"] is None


def test_averages_keep_the_dtypes_of_the_average():
    new = {"w": jnp.ones(2, "bfloat16"), "n": jnp.array(7)}
    old = {"w": jnp.zeros(2, "float32"), "n": jnp.array(3)}
    found = gx.incremental_update(new, old, 0.001)
    np.testing.assert_allclose(found["w"], 0.001, rtol=1e-6)
    assert found["n"] == 7
    assert found["n"].dtype == old["n"].dtype
    assert gx.incremental_update(old, new, jnp.asarray(0.5))["w"].dtype == "bfloat16"


@pytest.mark.parametrize("steps", [0, 3, 4, 8])
def test_copies_are_optax_s(steps):
    new, old = ({"w": jnp.asarray(RNG.normal(size=3)), "none": None} for _ in range(2))
    for count in (steps, jnp.asarray(steps)):
        found, expected = (f(new, old, count, 4) for f in (gx.periodic_update, optax.periodic_update))
        np.testing.assert_array_equal(found["w"], expected["w"])
    assert "cond" not in str(jax.make_jaxpr(gx.periodic_update)(new, old, 1, 2))


# --- units, the Fisher diagonal, leaves, normal distributions


@pytest.mark.one_in(5)
@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 4), (1, 4), (2, 3, 4), (2, 2, 3, 4), (2, 1, 2, 3, 4)], ids=str)
def test_units_are_optax_s(shape):
    g, p = (jnp.asarray(RNG.normal(size=shape)) for _ in range(2))
    norms = gx.unitwise_norm(g), 0.5 * gx.unitwise_norm(p)
    np.testing.assert_allclose(norms[0], unitwise_norm(g), rtol=1e-13)
    np.testing.assert_allclose(gx.unitwise_clip(*norms, g), unitwise_clip(*norms, g), rtol=1e-13)
    if len(shape) > 1:
        np.testing.assert_allclose(gx.unitwise_norm(g, (0, -1)), unitwise_norm(g, (0, -1)), rtol=1e-13)
    tx = gx.adaptive_grad_clip(0.5, eps=0.0)
    np.testing.assert_allclose(gx.unitwise_clip(*norms, g), tx.update(g, tx.init(p), p)[0], rtol=1e-12)


def test_units_are_right_in_16_bits_and_at_the_ends():
    x = jnp.full((64, 2), 300.0, "float16")
    assert (gx.unitwise_norm(x) == 2400).all()
    assert np.isinf(unitwise_norm(x)).all()
    assert (gx.unitwise_clip(gx.unitwise_norm(x), jnp.full_like(x, 24.0), x) == 3).all()
    assert gx.unitwise_norm(jnp.zeros((0, 3))).shape == (0, 3)
    assert (gx.unitwise_norm(jnp.zeros(2), ()) == 0).all()


def test_the_fisher_diagonal_of_a_batch_is_optax_s_and_of_examples_the_sum():
    w = {"a": jnp.asarray(RNG.normal(size=2)), "b": jnp.asarray(0.5)}
    x, y = jnp.asarray(RNG.normal(size=(5, 2))), jnp.asarray(RNG.normal(size=5))

    def each(w):
        return (x @ w["a"] + w["b"] - y) ** 2

    def total(w, x, y):
        return jnp.sum((x @ w["a"] + w["b"] - y) ** 2)

    found = gx.fisher_diag(lambda w: total(w, x, y), w)
    with pytest.warns(DeprecationWarning, match="fisher_diag"):
        expected = optax.second_order.fisher_diag(total, w, x, y)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found)[0], expected, rtol=1e-12)
    rows = jax.jacobian(each)(w)
    summed = jax.jit(lambda w: gx.fisher_diag(each, w))(w)
    jax.tree.map(lambda f, j: np.testing.assert_allclose(f, jnp.sum(j**2, axis=0), rtol=1e-12), summed, rows)
    with pytest.raises(ValueError, match="one number or a vector"):
        gx.fisher_diag(lambda w: x, w)


def test_a_function_of_leaves():
    def f(g, p):
        return g if p is None else g + p

    g, p = {"a": jnp.ones(2), "b": None}, {"a": jnp.full(2, 3.0), "b": None}
    ours, theirs = (make(f) for make in (gx.stateless_with_tree_map, optax.stateless_with_tree_map))
    for given in (None, p):
        found, expected = (tx.update(g, tx.init(p), given)[0] for tx in (ours, theirs))
        np.testing.assert_array_equal(found["a"], expected["a"])
        assert found["b"] is None
    with pytest.raises(ValueError, match="stateless_with_tree_map"):
        ours.update(g, ours.init(p), {"a": p["a"]})


def test_normal_distributions_are_optax_s():
    loc, log_scale = jnp.asarray(RNG.normal(size=3)), jnp.asarray(RNG.normal(size=3))
    ours, theirs = gx.perturbations.multi_normal(loc, log_scale), optax.multi_normal(loc, log_scale)
    key = jax.random.key(0)
    samples = ours.sample((4, 2), key)
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(samples, theirs.sample((4, 2), key), rtol=1e-14)
        np.testing.assert_allclose(ours.log_prob(samples), theirs.log_prob(samples), rtol=1e-12)
    np.testing.assert_array_equal(ours.params, theirs.params)
    slope = jax.grad(lambda d: d.sample((), key).sum())(ours)
    np.testing.assert_allclose(slope.loc, 1)
    narrow = gx.perturbations.multi_normal(jnp.zeros((), "float32"), jnp.float32(-95.0))
    np.testing.assert_allclose(narrow.log_prob(jnp.float32(0)), 95 - 0.918939, rtol=1e-6)
    again = eval(repr(gx.perturbations.multi_normal(1.0, 2.0)), vars(gx.perturbations))
    assert again.params == [1, 2]


def test_bad_arguments():
    w = {"w": jnp.ones(2)}
    for make, error, message in [
        (lambda: gx.safe_norm(jnp.arange(3), 1.0), TypeError, "safe_norm"),
        (lambda: gx.safe_root_mean_squares(jnp.arange(3), 1.0), TypeError, "safe_root_mean_squares"),
        (lambda: gx.incremental_update(w, {"v": jnp.ones(2)}, 0.5), ValueError, "incremental_update"),
        (lambda: gx.incremental_update(w, {"w": jnp.ones(3)}, 0.5), ValueError, "incremental_update"),
        (lambda: gx.incremental_update(w, w, 1.5), ValueError, r"step_size must be in \[0, 1\], got 1.5"),
        (lambda: gx.incremental_update(w, w, "half"), TypeError, "step_size"),
        (lambda: gx.periodic_update(w, w, 1, 0), ValueError, "update_period must be"),
        (lambda: gx.periodic_update(w, w, 1.5, 2), TypeError, "steps must be"),
        (lambda: gx.periodic_update(w, w, jnp.ones(()), 2), TypeError, "steps must be"),
        (lambda: gx.perturbations.multi_normal(jnp.ones(2), jnp.ones(3)), ValueError, "Incompatible shapes"),
        (lambda: gx.unitwise_norm(jnp.ones(2), 1), ValueError, "axis=1 does not exist"),
        (lambda: gx.unitwise_norm(jnp.arange(2)), TypeError, "unitwise_norm"),
        (lambda: gx.unitwise_norm(jnp.ones(2), "all"), TypeError, "axis must be"),
        (lambda: gx.unitwise_clip(jnp.ones(2), jnp.ones(3), jnp.ones(2)), ValueError, "max_norm has shape"),
    ]:
        with pytest.raises(error, match=message):
            make()
