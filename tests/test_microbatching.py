"""Micro-batches: results, order, dtypes, meshes, errors, and memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import gradtx as gx

M = gx.microbatching
KINDS = M.AccumulationType
SUM, MEAN, RUNNING, CONCAT = KINDS.SUM, KINDS.MEAN, KINDS.RUNNING_MEAN, KINDS.CONCAT
RNG = np.random.default_rng(0)
W, X, Y = jnp.asarray(RNG.normal(size=(3,))), jnp.asarray(RNG.normal(size=(12, 3))), jnp.asarray(RNG.normal(size=12))


def loss(w, x, y):
    return jnp.mean((x @ w - y) ** 2)


def close(found, expected, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), found, expected)


def theirs(kind):
    return optax.microbatching.AccumulationType[kind.name]


@pytest.mark.parametrize("size", [1, 3, 4, 12])
@pytest.mark.parametrize("kind", [MEAN, RUNNING])
def test_the_mean_of_gradients_of_means_is_the_gradient(kind, size):
    grad = M.microbatch(jax.value_and_grad(loss), (1, 2), size, kind)
    close(jax.jit(grad)(W, X, Y), jax.value_and_grad(loss)(W, X, Y))
    close(grad(W, X, Y), optax.microbatch(jax.value_and_grad(loss), (1, 2), size, theirs(kind))(W, X, Y))


@pytest.mark.parametrize("real", [None, 2, jnp.asarray(2), 0])
def test_results_of_every_kind_are_optax_s(real):
    def fun(w, x, *, y):
        part = x["a"] @ w
        return {"rows": part * y, "number": (jnp.sum(part), jnp.max(y)), "whole": x["b"].T, "count": y > 0}

    def made(kinds, micro):
        accumulator = {
            "rows": kinds.CONCAT,
            "number": (kinds.SUM, kinds.CONCAT),
            "whole": kinds.SUM,
            "count": kinds.CONCAT,
        }
        parts = micro(fun, 1, 3, accumulator, argnames="y", in_axes=(0, 0), num_real_microbatches=real)
        return parts(W, {"a": X, "b": X[:, :2]}, y=Y)

    close(made(KINDS, M.microbatch), made(optax.microbatching.AccumulationType, optax.microbatch))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_the_batch_may_be_any_axis(axis):
    x = jnp.moveaxis(jnp.asarray(RNG.normal(size=(6, 2, 4))), 0, axis)

    def fun(x):
        return jnp.moveaxis(x, axis, 0) * 2

    close(M.microbatch(fun, 0, 2, CONCAT, in_axes=axis)(x), fun(x))
    where = axis % 3
    close(M.reshape_batch_axis(x, 2, axis), optax.microbatching.reshape_batch_axis(x, 2, where))


def test_the_running_mean_goes_over_the_parts_that_were_evaluated():
    x = jnp.arange(1.0, 9.0)
    taken = M.reshape_batch_axis(x, 2)[:3]
    close(M.microbatch(jnp.sum, 0, 2, RUNNING, num_real_microbatches=3)(x), taken.sum(axis=1).mean())
    close(M.microbatch(jnp.sum, 0, 2, MEAN, num_real_microbatches=3)(x), taken.sum() / 4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_added_up_in_32(dtype):
    """The sum of 4096 ones and a 4096: in 16 bits the ones would be lost."""
    x = jnp.ones(4097, dtype).at[0].set(4096)
    total = M.microbatch(jnp.sum, 0, 1)(x)
    assert total.dtype == dtype
    np.testing.assert_allclose(float(total), 8192, rtol=0.01)
    assert float(optax.microbatch(jnp.sum, 0, 1)(x)) < 5000
    for kind in (MEAN, RUNNING):
        largest = jnp.full(64, jnp.finfo(dtype).max)
        close(M.microbatch(jnp.sum, 0, 1, kind)(largest).astype(float), float(jnp.finfo(dtype).max), rtol=1e-2)


def test_booleans_are_counted():
    positive = M.microbatch(lambda x: x[0] > 0, 0, 1)(jnp.array([1.0, -1.0, 2.0, 3.0]))
    assert positive == 3


def test_derivatives_flow_through_parts():
    total = M.microbatch(loss, (1, 2), 4, MEAN)
    close(jax.grad(total)(W, X, Y), jax.grad(loss)(W, X, Y))
    close(jax.jvp(lambda w: total(w, X, Y), (W,), (W,)), jax.jvp(lambda w: loss(w, X, Y), (W,), (W,)))


def test_a_number_of_parts_that_changes_compiles_once():
    traces = []

    @jax.jit
    def total(x, steps):
        traces.append(None)
        return M.microbatch(jnp.sum, 0, 4, num_real_microbatches=steps)(x)

    assert [float(total(jnp.ones(16), n)) for n in (1, 3, 4)] == [4, 12, 16]
    assert len(traces) == 1


@pytest.mark.parametrize("size", [None, 2, 6])
@pytest.mark.parametrize("kind", [CONCAT, SUM, MEAN])
def test_vmap_in_parts(size, kind):
    def fun(x, w, *, y):
        return {"a": x * y, "b": jnp.dot(x, w)}

    mapped = M.micro_vmap(fun, (0, None), microbatch_size=size, accumulator=kind)(X, W, y=Y)
    expected = jax.vmap(lambda x, y: fun(x, W, y=y))(X, Y)
    by = {CONCAT: lambda x: x, SUM: lambda x: x.sum(0), MEAN: lambda x: x.mean(0)}[kind]
    close(mapped, jax.tree.map(by, expected))


def test_one_axis_stands_for_all_arguments_as_in_jax():
    def add(x, y):
        return x + y

    close(M.micro_vmap(add, microbatch_size=3)(Y, Y), jax.vmap(add)(Y, Y))
    with pytest.raises(ValueError, match="in_axes"):  # in optax this applies only to the first argument
        optax.microbatching.micro_vmap(add, microbatch_size=3)(Y, Y)


@pytest.mark.parametrize("size", [None, 1, 4])
@pytest.mark.parametrize("keep", [True, False])
def test_gradients_of_single_examples(size, keep):
    def one(w, x, y):
        assert x.ndim == 1 + keep
        value = jnp.sum((x @ w - y) ** 2)
        return value, {"y": y}

    settings = {"batch_argnums": (1, 2), "keep_batch_dim": keep, "microbatch_size": size}
    functions = {"transform_fn": lambda g: (g, g**2), "metrics_fn": jnp.linalg.norm}
    found = M.micro_grad(one, True, **settings, accumulator=(SUM, MEAN), **functions)(W, X, Y)
    kinds = optax.microbatching.AccumulationType
    expected = optax.microbatching.micro_grad(one, True, **settings, accumulator=(kinds.SUM, kinds.MEAN), **functions)
    expected = expected(W, X, Y)
    close(found[0], expected[0])
    close(tuple(found[1]), tuple(expected[1]))
    assert found[1]._fields == expected[1]._fields


def test_memory_falls_with_the_part():
    """Gradients of a wide network: micro-batches of 1/16 of the batch need at most 1/8 of the temporary memory."""
    hidden = jnp.ones((8, 512), "float32")
    x = jnp.ones((1024, 8), "float32")

    def fun(w, x):
        return jnp.mean(jnp.tanh(jnp.tanh(x @ w) ** 2) ** 2)

    def temporary(size):
        grad = M.microbatch(jax.grad(fun), 1, size, MEAN)
        return jax.jit(grad).lower(hidden, x).compile().memory_analysis().temp_size_in_bytes

    whole, *parts = [temporary(size) for size in (None, 512, 256, 64)]
    assert whole >= 1024 * 512 * 4
    assert whole > parts[0] > parts[1] > parts[2]
    assert parts[2] < whole / 8


@pytest.mark.parametrize("explicit", [False, True])
def test_on_8_devices_nothing_of_the_batch_is_sent(explicit):
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    x = jax.device_put(jnp.arange(64.0).reshape(32, 2), NamedSharding(mesh, PartitionSpec("data")))
    with jax.set_mesh(mesh):
        fun = M.microbatch(lambda x: (x * 2, jnp.sum(x)), 0, 16, (CONCAT, SUM))
        rows, total = jax.jit(fun)(x)
        text = jax.jit(fun).lower(x).compile().as_text()
    np.testing.assert_array_equal(rows, 2 * np.arange(64.0).reshape(32, 2))
    assert total == np.arange(64.0).sum()
    assert rows.sharding.is_equivalent_to(x.sharding, 2)
    assert "all-gather" not in text
    assert "all-to-all" not in text


def test_bad_arguments():
    def fun(x):
        return jnp.sum(x)

    for make, error, message in [
        (lambda: M.microbatch(3, 0, 2), TypeError, "fun must be a function"),
        (lambda: M.microbatch(fun, "x", 2), TypeError, "argnums must be a position"),
        (lambda: M.microbatch(fun, -1, 2), TypeError, "argnums must be a position"),
        (lambda: M.microbatch(fun, (0, 0), 2), TypeError, "argnums must be"),
        (lambda: M.microbatch(fun, (), 2, argnames=(1,)), TypeError, "argnames must be a name"),
        (lambda: M.microbatch(fun, (), 2), ValueError, "Name at least one argument"),
        (lambda: M.microbatch(fun, 0, 2, in_axes=(0, 1)), ValueError, "in_axes has 2 axes for 1"),
        (lambda: M.microbatch(fun, 0, 0), ValueError, "microbatch_size must be an integer of at least 1"),
        (lambda: M.microbatch(fun, 0, 2.0), TypeError, "microbatch_size must be an integer"),
        (lambda: M.microbatch(fun, 0, 2, "sum"), TypeError, "accumulator must be an AccumulationType"),
        (lambda: M.microbatch(fun, 0, 2, num_real_microbatches=1.5), TypeError, "num_real_microbatches must be"),
        (
            lambda: M.microbatch(fun, 0, 2, num_real_microbatches=9)(Y),
            ValueError,
            "must be at most 6, the number of micro-batches; got 9",
        ),
        (lambda: M.microbatch(fun, 0, 5)(Y), ValueError, "12 rows, which is not divisible by microbatch_size=5"),
        (lambda: M.microbatch(fun, 0, 5)(Y[:0]), ValueError, "0 rows"),
        (lambda: M.microbatch(fun, 0, 2, in_axes=1)(Y), ValueError, r"batch axis is 1, but .* shape \(12,\)"),
        (lambda: M.microbatch(fun, 0, 2)(x=Y), TypeError, "called without the argument at position 0"),
        (lambda: M.microbatch(fun, (), 2, argnames="x")(Y), TypeError, "the name 'x'"),
        (lambda: M.microbatch(fun, 0, 2)({}), ValueError, "no arrays"),
        (lambda: M.microbatch(loss, (1, 2), 2)(W, X, Y[:6]), ValueError, "same length, got 12 in argument 1, 6 in"),
        (lambda: M.microbatch(fun, 0, 2, (SUM, SUM))(Y), ValueError, "accumulator must have the structure"),
        (lambda: M.microbatch(fun, 0, 2, MEAN)(jnp.arange(4)), TypeError, "takes means, but a result has dtype int"),
        (lambda: M.micro_vmap(fun, out_axes=1), ValueError, "out_axes must be 0"),
        (lambda: M.micro_vmap(fun, (0, 0))(Y), ValueError, "in_axes has 2 axes for 1"),
        (lambda: M.micro_vmap(fun, accumulator=3), TypeError, "accumulator must be"),
        (lambda: M.reshape_batch_axis(Y, 5), ValueError, "not divisible"),
    ]:
        with pytest.raises(error, match=message):
            make()
