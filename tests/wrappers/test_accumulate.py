"""Accumulation: micro-batches give the same steps as one large batch, for every elementwise optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import gradtx as gx
from tests.cases import TRANSFORMATIONS, at, close, draw, finite, stack

RNG = np.random.default_rng(0)
STEPS, ROWS, WIDTH = 3, 8, 4
X, Y = jnp.asarray(RNG.normal(size=(STEPS, ROWS, WIDTH))), jnp.asarray(RNG.normal(size=(STEPS, ROWS)))
START = jnp.asarray(RNG.normal(size=WIDTH))
HESSIAN = jnp.linspace(0.5, 2.0, WIDTH)


def split(*sizes):
    """Returns a row of zeros and ones for each micro-batch: 1 for the examples in this micro-batch."""
    place = np.repeat(np.arange(len(sizes)), sizes)
    return jnp.asarray(place == np.arange(len(sizes))[:, None], float)


WHOLE, EVEN, UNEVEN = split(8), split(2, 2, 2, 2), split(1, 4, 3)


def train(tx, batches):
    """Returns the parameters after each step of least squares; a step sees the `batches` one after the other."""

    def micro(carry, batch):
        params, state, x, y = carry
        grads = x.T @ (batch * (x @ params - y)) / jnp.sum(batch)
        extra = {"hessian_diag": HESSIAN} if tx.accepts("hessian_diag") else {}
        extra |= {"tokens": jnp.sum(batch)} if tx.accepts("tokens") else {}
        updates, state = tx.update(grads, state, params, **extra)
        return (params + updates, state, x, y), params

    def step(carry, data):
        params, state, *_ = jax.lax.scan(micro, (*carry, *data), batches)[0]
        return (params, state), params

    return jax.lax.scan(step, (START, tx.init(START)), (X, Y))[1]


def elementwise(tx):
    links = tx.links if isinstance(tx, gx.chain) else (tx,)
    return all(elementwise(x) if isinstance(x, gx.chain) else isinstance(x, gx.rules.Elementwise) for x in links)


def optimizers():
    """Returns the registry's elementwise cases, in small groups; only the first case of each optimizer is not heavy.

    Masks are left out, because they are made for a different tree, and the identity, because it never moves.
    """
    cases = {case.expression: case.make() for case in TRANSFORMATIONS if "mask={" not in case.expression}
    found = {name: tx for name, tx in cases.items() if elementwise(tx) and tx != gx.chain()}
    first = {name.partition("(")[0]: name for name in reversed(found)}
    quick = [name for name in found if name in first.values() and isinstance(found[name], gx.chain)]
    heavy = [name for name in found if name not in quick]
    groups = [quick[i::4] for i in range(4)]
    groups += [heavy[i::8] for i in range(8)]
    return [
        pytest.param({name: found[name] for name in names}, marks=() if i < 1 else pytest.mark.heavy)
        for i, names in enumerate(groups)
    ]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("found", optimizers(), ids=lambda found: f"{len(found)}with{next(iter(found))}")
def test_accumulation_is_the_large_batch(found):
    """Up to rounding, with equal weights and with the weights of micro-batches of different sizes."""

    @jax.jit
    def run(txs):
        return {
            name: (
                train(tx, WHOLE),
                train(gx.accumulate(tx, 4), EVEN),
                train(gx.accumulate(tx, 3, weight="tokens"), UNEVEN),
            )
            for name, tx in txs.items()
        }

    for name, (whole, even, uneven) in run(found).items():
        np.testing.assert_allclose(even, whole, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(uneven, whole, rtol=1e-12, err_msg=name)


def run(tx, grads, params, **extra):
    """Returns the updates of a few eager steps, and the final state."""
    state, updates = tx.init(params), []
    for i, g in enumerate(grads):
        u, state = tx.update(g, state, params, **{name: x[i] for name, x in extra.items()})
        updates.append(u)
    return updates, state


def test_one_micro_batch_is_the_transformation_itself():
    """The state has no buffer, only two counters and the inner state."""
    params, inner = draw(0), gx.adam(0.1)
    tx = gx.accumulate(inner, 1)
    state = tx.init(params)
    assert (state.acc_grads, state.acc_weight, state.skip_state) == ((), (), ())
    assert gx.tree.size(state) == gx.tree.size(inner.init(params)) + 2
    assert gx.tree.size(gx.accumulate(inner, 2).init(params)) == gx.tree.size(state) + gx.tree.size(params) + 1
    grads = [draw(1), draw(2)]
    (updates, state), (expected, inner_state) = run(tx, grads, params), run(inner, grads, params)
    assert jax.tree.all(jax.tree.map(np.array_equal, (updates, state.inner_state), (expected, inner_state)))
    assert (int(state.mini_step), int(state.gradient_step)) == (0, 2)
    assert bool(tx.has_updated(state))
    assert "cond" not in str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))


def test_in_between_the_update_is_zero_and_the_inner_state_rests():
    params, tx = draw(0), gx.accumulate(gx.adam(0.1), 3)
    state = tx.init(params)
    first = state.inner_state
    for i in range(1, 6):
        updates, state = tx.update(draw(i), state, params)
        assert bool(tx.has_updated(state)) == (i == 3)
        assert (gx.tree.norm(updates) > 0) == (i == 3)
        assert int(state.gradient_step) == i // 3
        if i < 3:
            close(state.inner_state, first, rtol=0)


def test_the_number_of_micro_batches_may_change():
    """1, 2 and 3 micro-batches, as a function of the steps taken; a schedule works as well."""
    params = jnp.zeros(2)
    grads = [jnp.full(2, float(i)) for i in range(1, 7)]
    expected = [-1.0, 0.0, -2.5, 0.0, 0.0, -5.0]
    for every in (lambda step: step + 1, gx.linear_schedule(1, 4, 3)):
        updates, state = run(gx.accumulate(gx.sgd(1.0), every), grads, params)
        close([float(u[0]) for u in updates], expected)
        assert int(state.gradient_step) == 3
    updates, _ = jax.jit(lambda grads: run(gx.accumulate(gx.sgd(1.0), lambda step: step + 1), grads, params))(grads)
    close([float(u[0]) for u in updates], expected)


def test_the_sum_in_place_of_the_mean():
    grads = [jnp.array([1.0]), jnp.array([5.0])]
    updates, _ = run(gx.accumulate(gx.sgd(1.0), 2, use_grad_mean=False), grads, jnp.zeros(1))
    close(updates[1], jnp.array([-6.0]))
    tx = gx.accumulate(gx.sgd(1.0), 2, weight="n", use_grad_mean=False)
    updates, _ = run(tx, grads, jnp.zeros(1), n=[2, 3])
    close(updates[1], jnp.array([-17.0]))


@pytest.mark.parametrize("jit", [False, True])
def test_what_does_not_count_may_be_no_number(jit):
    """The gradient of an ignored micro-batch may be NaN: of weight 0 at any position, or skipped by a function."""
    bad, params = jnp.array([jnp.nan, 1.0]), jnp.zeros(2)
    good = [jnp.array([1.0, 2.0]), jnp.array([5.0, -2.0])]
    weighted = gx.accumulate(gx.sgd(1.0), 3, weight="n")
    skipping = gx.accumulate(gx.sgd(1.0), 2, should_skip_update_fn=gx.skip_not_finite)

    def both(place):
        grads = [*good[:place], bad, *good[place:]]
        weights = [*[3, 1][:place], 0, *[3, 1][place:]]
        return run(weighted, grads, params, n=weights), run(skipping, grads, params)

    for place in range(3):
        (updates, _), (skipped, state) = (jax.jit(both, static_argnums=0) if jit else both)(place)
        close(updates[2], jnp.array([-2.0, -1.0]))
        close(skipped[2] if place < 2 else skipped[1], jnp.array([-3.0, 0.0]))
        assert finite((updates, skipped, state.inner_state, state.acc_grads))
        assert int(state.skip_state["num_not_finite"]) == (place == 2)
        assert (int(state.gradient_step), int(state.mini_step)) == (1, 0)


def test_large_gradients_are_left_out():
    tx = gx.accumulate(
        gx.sgd(1.0), 2, should_skip_update_fn=functools.partial(gx.skip_large_updates, max_squared_norm=100.0)
    )
    grads = [jnp.array([x]) for x in (1.0, 10.0, -9.0, jnp.nan, jnp.inf, 3.0)]
    updates, state = run(tx, grads, jnp.zeros(1))
    close([float(u[0]) for u in updates], [0.0, 0.0, 4.0, 0.0, 0.0, 0.0])
    assert not bool(state.skip_state["should_skip"])
    close(state.skip_state["norm_squared"], jnp.array(9.0))


def test_all_weights_zero_gives_no_nan():
    updates, state = run(gx.accumulate(gx.sgd(1.0), 2, weight="n"), [jnp.ones(1)] * 2, jnp.zeros(1), n=[0, 0])
    close(updates[1], jnp.zeros(1))
    assert finite(state)


def test_a_mean_of_large_gradients_stays_in_range():
    """The mean of float16 gradients near their largest number; the sum would overflow."""
    g = jnp.full(2, 6e4, "float16")
    for dtype in (None, "float16"):
        updates, state = run(gx.accumulate(gx.sgd(1.0), 4, accumulator_dtype=dtype), [g] * 4, g)
        assert updates[3].dtype == "float16"
        np.testing.assert_allclose(updates[3], -g, rtol=2e-3)
        assert finite(state)


def test_the_dtype_of_the_mean():
    """The mean is float32 or wider, or has the given dtype, at every step; updates have the gradients' dtype."""
    params = {"a": jnp.ones(2, "bfloat16"), "b": jnp.ones(2, "float64")}
    grads = {"a": jnp.full(2, 1e-3, "float32"), "b": jnp.full(2, 1e-3, "float16")}
    for wanted, kinds in (
        (None, ("float32", "float64")),
        ("bfloat16", ("bfloat16",) * 2),
        ("float64", ("float64",) * 2),
    ):
        tx = gx.accumulate(gx.adam(0.1), 2, accumulator_dtype=wanted)
        update = jax.jit(tx.update) if wanted is None else tx.update
        state = tx.init(params)
        for _ in range(3):
            assert tuple(x.dtype for x in (state.acc_grads["a"], state.acc_grads["b"])) == kinds
            updates, state = update(grads, state, params)
            assert (updates["a"].dtype, updates["b"].dtype) == ("float32", "float16")
    # Small gradients are not lost in the sum with large ones.
    tx = gx.accumulate(gx.sgd(1.0), 4)
    g = [jnp.full(1, x, "float16") for x in (1.0, 1e-4, 1e-4)]
    close(run(tx, g, g[0])[1].acc_grads, jnp.full(1, np.float32(sum(map(float, np.ravel(g))) / 3)), rtol=1e-6)


def test_complex_gradients():
    g = [jnp.array([1 + 2j]), jnp.array([3 - 4j])]
    updates, _ = run(gx.accumulate(gx.sgd(1.0), 2), g, g[0])
    close(updates[1], jnp.array([-2 + 1j]))


def test_an_optax_transformation_inside():
    """The results equal optax's own accumulation; also inside an optax chain."""
    params, grads = draw(0), [draw(i) for i in range(1, 5)]

    def reference(grads):
        tx = optax.MultiSteps(optax.adamw(0.1), 2, accumulator_dtype="float64").gradient_transformation()
        return run(tx, grads, params)[0]

    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(reference)(grads)
        found = jax.jit(lambda grads: run(gx.accumulate(optax.adamw(0.1), 2), grads, params)[0])(grads)
        eager = run(optax.chain(gx.accumulate(optax.adamw(0.1), 2), optax.scale(1.0)), grads, params)[0]
    close(found, expected, rtol=1e-12)
    close(eager, expected, rtol=1e-12)


def test_extra_arguments_reach_the_inner_transformation():
    """`value` comes from the last micro-batch, `grad` is the mean, and only the wrapper sees the weight."""
    seen = {}

    def look(updates, state, params=None, *, value, grad):
        seen.update(value=value, grad=grad)
        return updates, state

    inner = gx.GradientTransformation(lambda params: gx.EmptyState(), look)
    grads = [jnp.array([1.0]), jnp.array([4.0])]
    updates, _ = run(gx.accumulate(inner, 2, weight="n"), grads, jnp.zeros(1), n=[1, 2], value=[5.0, 6.0], grad=grads)
    close((seen["value"], seen["grad"], updates[1]), (6.0, jnp.array([3.0]), jnp.array([3.0])))


@pytest.fixture
def mesh():
    return jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))


def sharded_least_squares(seed=3):
    """Two micro-batches of two examples on each of 8 devices."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(2, 16, WIDTH))), jnp.asarray(rng.normal(size=(2, 16)))


def gradient(params, x, y):
    return x.T @ (x @ params - y) / x.shape[0]


def test_on_a_mesh_with_gradients_that_are_averaged_before(mesh):
    x, y = sharded_least_squares()
    tx = gx.accumulate(gx.adamw(0.1), 2)
    P = PartitionSpec

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), P("x"), P("x")), out_specs=P())
    def step(params, state, x, y):
        updates, state = tx.update(jax.lax.pmean(gradient_here(params, x, y), "x"), state, params)
        return params + updates, state

    def gradient_here(params, x, y):
        return gradient(jax.lax.pcast(params, "x", to="varying"), x, y)

    params, state = START, tx.init(START)
    for i in range(4):
        params, state = step(params, state, x[i % 2], y[i % 2])
    large = gx.adamw(0.1)
    expected, large_state = START, large.init(START)
    for _ in range(2):
        g = gradient(expected, x.reshape(32, WIDTH), y.reshape(32))
        updates, large_state = large.update(g, large_state, expected)
        expected = expected + updates
    close(params, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_on_a_mesh_with_gradients_of_one_shard(mesh, dtype):
    """Every shard accumulates its own gradients, and the inner transformation averages over shards once a step."""
    x, y = sharded_least_squares()
    start, P = START.astype(dtype), PartitionSpec
    mean = gx.stateless(lambda updates, params: jax.lax.pmean(updates, "x"))
    tx = gx.accumulate(gx.chain(mean, gx.adamw(0.1)), 2)
    wide = "float32" if dtype == "bfloat16" else dtype

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(None, "x"), P(None, "x")), out_specs=P())
    def train(params, x, y):
        state = tx.init(params)
        for _ in range(2):
            for i in range(2):
                here = jax.lax.pcast(params.astype(wide), "x", to="varying")
                updates, state = tx.update(gradient(here, x[i].astype(wide), y[i].astype(wide)), state, params)
                # Between two steps they are zeros, which do not vary either.
                params = gx.apply_updates(params, jax.lax.pmean(updates, "x"))
        return params

    large = gx.adamw(0.1)
    expected, state = start, large.init(start)
    for _ in range(2):
        flat = x.reshape(32, WIDTH).astype(wide), y.reshape(32).astype(wide)
        updates, state = large.update(gradient(expected.astype(wide), *flat), state, expected)
        expected = gx.apply_updates(expected, updates)
    found = train(start, x, y)
    assert found.dtype == dtype
    close(found, expected, rtol=1e-12 if dtype == "float64" else 1e-2)


def test_on_a_mesh_with_optax_inside_and_mixed_dtypes(mesh):
    """bfloat16 parameters, float32 gradients that differ from shard to shard, an optax transformation."""
    params, P = {"w": jnp.ones((8, 4), "bfloat16"), "b": jnp.ones(4)}, PartitionSpec
    tx = gx.accumulate(optax.sgd(0.5), 2, should_skip_update_fn=gx.skip_not_finite)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("x")), out_specs=P("x"))
    def steps(params, g):
        state = tx.init(params)
        for _ in range(2):
            grads = {"w": g[0] * jnp.ones((8, 4), "float32"), "b": g[0] * jnp.ones(4)}
            updates, state = tx.update(grads, state, params)
        return jax.tree.map(lambda u: u[None], updates)

    found = steps(params, jnp.arange(8.0, dtype="float32"))
    assert (found["w"].dtype, found["b"].dtype) == ("float32", "float64")
    np.testing.assert_allclose(found["w"][:, 0, 0], -np.arange(8) / 2)
    np.testing.assert_allclose(found["b"][:, 0], -np.arange(8) / 2)


def test_a_state_goes_through_scan_under_vmap():
    tx = gx.accumulate(gx.adam(0.1), 2)
    grads = stack([stack([draw(4 * j + i) for i in range(4)]) for j in range(2)])

    @jax.jit
    @jax.vmap
    def train(grads):
        params = draw(0)
        return jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], tx.init(params), grads)[1]

    expected = [run(tx, [at(at(grads, j), i) for i in range(4)], draw(0))[0] for j in range(2)]
    close(train(grads), stack([stack(x) for x in expected]), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gx.accumulate(gx.sgd(1.0), 0), "every"),
        (lambda: gx.accumulate(gx.sgd(1.0), 1.5), "every"),
        (lambda: gx.accumulate(gx.sgd(1.0), 2, weight=2.0), "weight"),
        (lambda: gx.accumulate(gx.sgd(1.0), 2, weight="two words"), "weight"),
        (lambda: gx.accumulate(gx.sgd(1.0), 2, should_skip_update_fn=3), "should_skip_update_fn"),
        (lambda: gx.accumulate(3, 2), "accumulate"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_missing_weight_and_an_unknown_argument():
    tx = gx.accumulate(gx.sgd(1.0), 2, weight="tokens")
    state = tx.init(jnp.ones(1))
    with pytest.raises(ValueError, match="tokens"):
        tx.update(jnp.ones(1), state)
    with pytest.raises(TypeError, match="token"):
        tx.update(jnp.ones(1), state, token=3)


def test_micro_batches_without_weight_are_no_gradient():
    """If all weights since the previous step are 0, the step uses a zero gradient, not an old buffer."""
    tx = gx.accumulate(gx.sgd(1.0), 2, weight="tokens")
    state = tx.init(jnp.zeros(1))
    for weights, expected in (((1, 1), -3.0), ((0, 0), 0.0), ((0, 1), -3.0)):
        for n in weights:
            updates, state = tx.update(jnp.array([3.0]), state, tokens=n)
        np.testing.assert_allclose(updates, [expected])


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("inner", ["sgd(1.0)", "scale(2.0)", "adamw(0.1, weight_decay=0.5)", "sgd(1.0, momentum=0.9)"])
def test_a_window_without_weight_makes_no_step(inner, jit):
    """If all weights are 0, the update is zero, the inner state does not change, and the next mean starts empty."""
    inner = eval(inner, vars(gx))
    tx, params = gx.accumulate(inner, 2, weight="n"), jnp.ones(1)
    step = jax.jit(tx.update) if jit else tx.update
    state, found = tx.init(params), []
    for g, n in (
        (2.0, 1.0),
        (2.0, 1.0),
        (5.0, 0.0),
        (7.0, 0.0),
        (jnp.nan, 0.0),
        (jnp.inf, 0.0),
        (4.0, 0.0),
        (3.0, 2.0),
    ):
        updates, state = step(jnp.array([g]), state, params, n=n)
        found.append((float(updates[0]), bool(tx.has_updated(state)), int(state.gradient_step), int(state.mini_step)))
    (first, second), _ = run(inner, [jnp.array([2.0]), jnp.array([3.0])], params)
    expected = [0, float(first[0]), 0, 0, 0, 0, 0, float(second[0])]
    np.testing.assert_allclose([update for update, *_ in found], expected, rtol=1e-6)
    assert [rest for _, *rest in found] == [
        [False, 0, 1],
        [True, 1, 0],
        [False, 1, 1],
        [False, 1, 0],
        [False, 1, 1],
        [False, 1, 0],
        [False, 1, 1],
        [True, 2, 0],
    ]
    assert finite(state)


def test_the_last_incomplete_window_is_flushed_by_weights_of_zero():
    tx = gx.accumulate(gx.sgd(1.0), 3, weight="n")
    zeros = [jnp.zeros(1)] * 2
    for seen, expected in (([1.0], [-1.0, 0.0]), ([1.0, 3.0], [-2.0, 0.0]), ([1.0, 3.0, 5.0], [0.0, 0.0])):
        grads = [jnp.array([g]) for g in seen] + zeros
        updates, state = run(tx, grads, jnp.zeros(1), n=[1] * len(seen) + [0, 0])
        assert sorted(float(u[0]) for u in updates[len(seen) :]) == sorted(expected), seen
        assert int(state.gradient_step) == 1


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("every", [1, 2])
def test_a_bad_weight_in_compiled_code_does_not_count_and_is_seen(every, jit):
    tx, good = gx.accumulate(gx.sgd(1.0), every, weight="n"), jnp.array(2.0)
    step = jax.jit(tx.update) if jit else tx.update
    for bad in (-1.0, jnp.nan, jnp.inf, -jnp.inf):
        state = tx.init(jnp.zeros(1))
        updates, state = step(jnp.array([7.0]), state, n=jnp.array(bad))
        assert (float(updates[0]), bool(tx.has_updated(state))) == (0.0, False)
        assert int(gx.metrics(state)["bad_weights"]) == 1
        updates, state = step(jnp.array([3.0]), state, n=good)
        assert (float(updates[0]), bool(tx.has_updated(state))) == (-3.0, True)
        assert int(gx.metrics(state)["bad_weights"]) == 1
    assert "bad_weights" not in gx.metrics(gx.accumulate(gx.sgd(1.0), 2).init(jnp.zeros(1)))


@pytest.mark.parametrize("bad", [-1, -0.5, float("nan"), float("inf"), np.float64(-1.0)])
def test_a_bad_number_as_a_weight_raises(bad):
    tx = gx.accumulate(gx.sgd(1.0), 2, weight="n")
    with pytest.raises(ValueError, match=r"n is the weight of a micro-batch and must be in \[0, inf\)"):
        tx.update(jnp.ones(1), tx.init(jnp.ones(1)), n=bad)


def test_one_weighted_micro_batch_a_step():
    """With `every=1`, weight 0 makes no step, and a sum is multiplied by the weight."""
    for mean, expected in ((True, [-3.0, 0.0, -3.0]), (False, [-6.0, 0.0, -3.0])):
        tx = gx.accumulate(gx.sgd(1.0), 1, weight="n", use_grad_mean=mean)
        updates, state = run(tx, [jnp.array([3.0])] * 3, jnp.zeros(1), n=[2, 0, 1])
        assert [float(u[0]) for u in updates] == expected
        assert int(state.gradient_step) == 2
        assert (state.acc_grads, state.acc_weight) == ((), ())


@pytest.mark.parametrize("every", [1, 2])
def test_a_skipped_micro_batch_has_not_updated(every):
    tx = gx.accumulate(gx.sgd(1.0), every, should_skip_update_fn=gx.skip_not_finite)
    state, seen = tx.init(jnp.zeros(1)), []
    for g in (1.0,) * every + (jnp.nan, jnp.nan):
        _, state = tx.update(jnp.array([g]), state)
        seen.append(bool(tx.has_updated(state)))
    assert seen == [False] * (every - 1) + [True, False, False]


@pytest.mark.parametrize("answer", [False, 0, np.bool_(False), jnp.asarray(0), True])
def test_a_skip_function_may_return_any_kind_of_boolean(answer):
    tx = gx.accumulate(gx.sgd(1.0), 2, should_skip_update_fn=lambda updates, step, params: (answer, ()))
    state, found = tx.init(jnp.zeros(1)), []
    for g in (1.0, 3.0, 5.0, 9.0):
        updates, state = tx.update(jnp.array([g]), state)
        found.append((float(updates[0]), bool(tx.has_updated(state))))
    skipped, step = (0.0, False), [(-2.0, True), (-7.0, True)]
    assert found == ([skipped] * 4 if answer else [skipped, step[0], skipped, step[1]])


def test_a_skip_function_returns_one_boolean():
    tx = gx.accumulate(gx.sgd(1.0), 2, should_skip_update_fn=lambda updates, step, params: (updates > 5, ()))
    with pytest.raises(ValueError, match=r"should_skip_update_fn returned .* one boolean.*jnp\.any"):
        tx.init(jnp.zeros(3))
