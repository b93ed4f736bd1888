"""Wrappers that change the gradient that a transformation sees, or the update that it returns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import PartitionSpec

import gradtx as gx
import gradtx.compat.optax as drop_in
from gradtx import select
from tests.cases import close, draw, finite

RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(8, 3))), jnp.asarray(RNG.normal(size=8))
START = {"w": jnp.asarray(RNG.normal(size=3)), "b": jnp.asarray(0.3)}


def loss(params, x=X, y=Y):
    return jnp.mean(jnp.log(jnp.cosh(x @ params["w"] + params["b"] - y)))


gradient = jax.jit(jax.grad(loss))


def train(tx, steps=20, opaque=False, params=START):
    """Returns the parameters after each step."""

    def step(carry, _):
        params, state = carry
        extra = {"grad_fn": lambda p, i: jax.tree.map(lambda g: g * (1 + 0.1 * i), gradient(p))} if opaque else {}
        updates, state = tx.update(gradient(params), state, params, **extra)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state), params

    return jax.jit(lambda params: jax.lax.scan(step, (params, tx.init(params)), None, steps)[1])(params)


# --- sam


SAM = [
    (period, opaque, adversary, reset)
    for period, opaque in ((2, False), (3, False), (2, True), (3, True))
    for adversary in ("chain(normalize(), sgd(0.1))", "adam(0.05)")
    for reset in (True, False)
]


@pytest.mark.parametrize(
    ("period", "opaque", "adversary", "reset"),
    [pytest.param(*case, marks=() if i in (0, 7, 14) else pytest.mark.heavy) for i, case in enumerate(SAM)],
)
def test_sam_is_that_of_optax(period, opaque, adversary, reset):
    """20 steps, transparent and opaque, around momentum."""

    def run(*libraries):
        names = functools.reduce(lambda a, b: {**a, **vars(b)}, libraries, {})
        tx = names["sam"](
            eval("sgd(0.2, momentum=0.9)", names), eval(adversary, names), period, reset_state=reset, opaque_mode=opaque
        )
        return train(tx, opaque=opaque)

    close(run(gx), run(optax.contrib, optax), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("opaque", [False, True])
def test_a_sam_step_by_hand(opaque):
    """The step uses the gradient at x + rho g / |g|, but starts at x, and weight decay uses x as well."""
    rate, rho, decay = 0.2, 0.1, 0.5
    inner = gx.chain(gx.add_decayed_weights(decay), gx.sgd(rate))
    tx = gx.sam(inner, gx.chain(gx.normalize(), gx.sgd(rho)), opaque_mode=opaque)
    found = train(tx, 6, opaque) if opaque else train(tx, 12)
    x = START
    for i in range(6):
        g = gradient(x)
        length = gx.tree.norm(g)
        up = jax.tree.map(lambda x, g, n=length: x + rho * g / n, x, g)
        if not opaque:
            close(jax.tree.map(lambda p, i=i: p[2 * i], found), up, rtol=1e-12)
        x = jax.tree.map(lambda x, g: x - rate * (g + decay * x), x, gradient(up))
        at = i if opaque else 2 * i + 1
        close(jax.tree.map(lambda p, at=at: p[at], found), x, rtol=1e-12)


def test_sam_with_a_period_of_one_is_its_optimizer():
    expected = train(gx.adam(0.1), 5)
    for opaque in (False, True):
        close(train(gx.sam(gx.adam(0.1), gx.sgd(0.1), 1, opaque_mode=opaque), 5), expected, rtol=1e-12)


def test_sam_averages_the_gradients_of_a_mesh():
    """`batch_axis_name` is the axis of the examples."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    tx = gx.sam(gx.sgd(0.1), gx.chain(gx.normalize(), gx.sgd(0.1)), opaque_mode=True, batch_axis_name="x")

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("x"), PartitionSpec("x")),
        out_specs=PartitionSpec(),
    )
    def step(params, x, y):
        def here(p, i=0):
            return jax.grad(loss)(jax.tree.map(lambda p: jax.lax.pcast(p, "x", to="varying"), p), x, y)

        return tx.update(jax.lax.pmean(here(params), "x"), tx.init(params), params, grad_fn=here)[0]

    plain = gx.sam(gx.sgd(0.1), gx.chain(gx.normalize(), gx.sgd(0.1)), opaque_mode=True)
    expected = plain.update(gradient(START), plain.init(START), START, grad_fn=lambda p, i: gradient(p))[0]
    close(step(START, X, Y), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "around",
    [
        gx.flatten,
        lambda tx: gx.masked(tx, select.everything()),
        lambda tx: gx.partition({"w": tx, "b": gx.sgd(0.1)}, {"w": "w", "b": "b"}),
        gx.split_real_and_imaginary,
    ],
    ids=["flatten", "masked", "partition", "split"],
)
def test_an_opaque_sam_that_sees_another_tree(around):
    """`grad_fn` returns the gradient of all parameters, wherever the transformation that calls it is."""
    tx = gx.sam(gx.sgd(0.1), gx.sgd(0.05), opaque_mode=True)
    params = {"w": START["w"] + 0.5j, "b": START["b"] + 0j}

    def grad_fn(p, i=0):
        return {"w": p["w"] ** 2, "b": p["b"] * 3}

    def updates(tx):
        return tx.update(grad_fn(params), tx.init(params), params, grad_fn=grad_fn)[0]

    close(updates(around(tx))["w"], updates(tx)["w"], rtol=1e-12)


def test_bad_calls_of_sam():
    tx = gx.sam(gx.sgd(0.1), gx.sgd(0.1), opaque_mode=True)
    state = tx.init(START)
    with pytest.raises(ValueError, match="grad_fn"):
        tx.update(START, state, START)
    with pytest.raises(ValueError, match="params"):
        tx.update(START, state)
    for call in (
        lambda: gx.sam(gx.sgd(0.1), 0.1),
        lambda: gx.sam(gx.sgd(0.1), gx.sgd(0.1), 0),
        lambda: gx.sam(gx.sgd(0.1), gx.sgd(0.1), batch_axis_name=3),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()


# --- mechanize


@pytest.mark.parametrize(
    ("base", "options"),
    [
        ("sgd(1.0)", {}),
        ("adam(0.1)", {"s_init": 1e-3, "weight_decay": 0.1}),
        ("sgd(1.0)", {"num_betas": 3, "eps": 1e-4}),
    ],
)
def test_mechanize_is_that_of_optax(base, options):
    found = train(gx.mechanize(eval(base, vars(gx)), **options))
    with jax.numpy_rank_promotion("allow"):
        expected = train(optax.contrib.mechanize(eval(base, vars(optax)), **options))
    close(found, expected, rtol=1e-7, atol=1e-12)


def test_mechanize_finds_a_rate():
    """From an initial scale of 1e-6, Mechanic solves a problem of unknown scale."""
    params = jnp.array([5.0, -3.0])
    tx = gx.mechanize(gx.sgd(1.0))
    step = gx.value_and_step(lambda p: jnp.sum(p**2), tx)
    run = jax.jit(lambda c: jax.lax.fori_loop(0, 300, lambda i, c: step(*c)[:2], c))
    found, state = run((params, tx.init(params)))
    assert jnp.sum(found**2) < 1e-2 * jnp.sum(params**2)
    assert 1e-6 < gx.metrics(state)["mechanic_scale"] < 10


def test_mechanize_survives_gradients_of_zeros():
    params, tx = draw(0), gx.mechanize(gx.adam(0.1))
    state = tx.init(params)
    for g in (jax.tree.map(jnp.zeros_like, params), params, params):
        updates, state = tx.update(g, state, params)
        params = gx.apply_updates(params, updates)
    assert finite((params, state))


# --- cautious


@pytest.mark.parametrize("inner", ["sgd(0.1, momentum=0.9)", "adamw(0.1, weight_decay=0.1)"])
def test_cautious_against_the_formula(inner):
    """u * m * max(mean m, 1e-3)^-1 in every leaf, with m = 1 where u descends."""
    tx = eval(inner, vars(gx))
    wrapped, params = gx.cautious(tx), draw(0)
    state, plain = wrapped.init(params), tx.init(params)
    for i in range(4):
        g = draw(10 + i)
        found, state = wrapped.update(g, state, params)
        u, plain = tx.update(g, plain, params)

        def masked(u, g):
            u, g = np.asarray(u), np.asarray(g)
            m = (u * g < 0).astype(float)
            return u * m / max(m.mean(), 1e-3)

        expected = jax.tree.map(masked, u, g)
        assert 0 < np.mean(expected["w"] == 0) < 1 or i == 0
        close(found, expected, rtol=1e-12)


def test_cautious_compares_with_the_gradient_that_came_in():
    """Inside a chain, `cautious` compares with the updates that it gets from the transformation before it."""
    g = jnp.array([1.0, -2.0])
    tx = gx.chain(gx.scale(-1.0), gx.cautious(gx.sgd(1.0)))
    close(tx.update(g, tx.init(g))[0], g)
    inner = gx.chain(gx.scale(jnp.float64(1.0)), gx.mask_misaligned())
    with pytest.raises(ValueError, match="grad"):
        inner.update(g, inner.init(g))
    # An update that climbs in every entry becomes zero.
    tx = gx.cautious(gx.scale(1.0))
    close(jnp.abs(tx.update(g, tx.init(g))[0]), jnp.zeros(2))


def test_cautious_of_products_that_underflow():
    g = jnp.array([1e-200, 1.0])
    tx = gx.cautious(gx.sgd(1e-100))
    close(tx.update(g, tx.init(g))[0], -1e-100 * g, rtol=1e-12)


# --- flatten


@pytest.mark.parametrize(
    "inner", ["adam(0.1)", "chain(clip_by_global_norm(0.3), sgd(0.1, momentum=0.9))", "adamw(0.1)"]
)
def test_flatten_changes_nothing_of_elementwise_and_treewide_rules(inner):
    tx = eval(inner, vars(gx))
    found = train(gx.flatten(tx))
    close(found, train(tx), rtol=1e-12)
    close(found, train(optax.flatten(eval(inner, vars(optax)))), rtol=1e-10)


def test_flatten_keeps_one_vector_and_every_dtype():
    params = {"a": jnp.ones((2, 3), "bfloat16"), "b": jnp.ones((), "float32"), "c": jnp.ones((0, 2)), "d": None}
    tx = gx.flatten(gx.adam(0.1))
    updates, state = tx.update(params, tx.init(params), params)
    assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == jax.tree.map(lambda p: (p.shape, p.dtype), params)
    assert [x.shape for x in jax.tree.leaves(state) if x.ndim] == [(7,), (7,)]
    assert gx.flatten(gx.adam(0.1)).update({}, gx.flatten(gx.adam(0.1)).init({}))[0] == {}


def test_flatten_of_a_complex_and_a_real_leaf():
    params = {"r": jnp.array([3.0]), "c": jnp.array([4j])}
    tx = gx.flatten(gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(1.0)))
    updates, _ = tx.update(params, tx.init(params), params)
    close(updates, {"r": jnp.array([-0.6]), "c": jnp.array([-0.8j])})
    assert updates["r"].dtype == "float64"


# --- split_real_and_imaginary


def test_split_real_and_imaginary_is_that_of_optax():
    grads = [{"c": jnp.asarray(RNG.normal(size=3) + 1j * RNG.normal(size=3)), "r": jnp.ones(2)} for _ in range(4)]

    def run(library, split):
        tx = split(library.adam(0.1))
        state, found = tx.init(grads[0]), []
        for g in grads:
            updates, state = tx.update(g, state, grads[0])
            found.append(updates)
        return found

    close(run(gx, gx.split_real_and_imaginary), run(optax, optax.contrib.split_real_and_imaginary), rtol=1e-10)


def test_split_real_and_imaginary_sees_pairs():
    """Also for the parameters, for weight decay; a method that rejects complex leaves works inside."""
    params = {"c": jnp.array([1 + 2j]), "r": jnp.array([3.0])}
    g = {"c": jnp.array([-1 + 1j]), "r": jnp.array([1.0])}
    tx = gx.split_real_and_imaginary(gx.chain(gx.sign_sgd(0.1), gx.add_decayed_weights(1.0)))
    updates, _ = tx.update(g, tx.init(params), params)
    close(updates, {"c": jnp.array([1.1 + 1.9j]), "r": jnp.array([2.9])})
    assert not any(jnp.iscomplexobj(x) for x in jax.tree.leaves(gx.split_real_and_imaginary(gx.adam(0.1)).init(params)))
    with pytest.raises(TypeError, match="complex"):
        gx.rprop(0.1).update(g, gx.rprop(0.1).init(params), params)
    tx = gx.split_real_and_imaginary(gx.rprop(0.1))
    assert finite(tx.update(g, tx.init(params), params)[0])
    # Groups inside are by the path of the whole leaf and its part.
    tx = gx.split_real_and_imaginary(gx.masked(gx.scale(0.0), select.path("c/imaginary")))
    close(tx.update(g, tx.init(params), params)[0], {"c": jnp.array([-1 + 0j]), "r": jnp.array([1.0])})


# --- lookahead around others, and extra arguments


def test_lookahead_lets_the_gradient_through():
    """Between synchronizations, lookahead equals its fast optimizer, whatever arguments this needs."""
    tx = gx.lookahead(gx.polyak_sgd(), 2, 0.5)
    state = tx.init(START)
    expected, _ = gx.polyak_sgd().update(gradient(START), gx.polyak_sgd().init(START), START, value=loss(START))
    updates, state = tx.update(gradient(START), state, START, value=loss(START))
    close(updates, expected, rtol=1e-12)
    ahead = jax.tree.map(jnp.add, START, updates)
    fast, _ = gx.polyak_sgd().update(gradient(ahead), gx.polyak_sgd().init(START), ahead, value=loss(ahead))
    updates, state = tx.update(gradient(ahead), state, ahead, value=loss(ahead))
    middle = jax.tree.map(lambda s, p, u: (s + p + u) / 2, START, ahead, fast)
    close(jax.tree.map(jnp.add, ahead, updates), middle, rtol=1e-12)
    with pytest.raises(ValueError, match="params"):
        gx.lookahead(gx.sgd(0.1), 2, 0.5).update(START, gx.lookahead(gx.sgd(0.1), 2, 0.5).init(START))


def test_extra_arguments():
    """An unknown extra argument raises an error through every wrapper, except through `with_extra_args_support`."""
    tight = gx.apply_if_finite(gx.cautious(gx.flatten(gx.adam(0.1))))
    with pytest.raises(TypeError, match="epoch"):
        tight.update(START, tight.init(START), START, epoch=3)
    loose = drop_in.with_extra_args_support(tight)
    close(loose.update(START, loose.init(START), START, epoch=3)[0], tight.update(START, tight.init(START), START)[0])


def test_mechanize_decays_by_the_largest_gradient():
    """Its decay is a multiple of the gradient's norm, which at the first step meets a distance of zero."""
    p, g = jnp.ones(2, "float32"), jnp.full(2, jnp.finfo("float32").max, "float32")
    tx = gx.mechanize(gx.clip(1.0), weight_decay=1.0, s_init=1.0)
    assert finite(tx.update(g, tx.init(p), p))
