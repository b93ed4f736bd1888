"""`gx.sharding`: where state lies on a mesh, that it stays there, what is sent, and what it costs."""

import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import gradtx as gx
from docs.optimizers import default, optimizers
from docs.scale import PAGE, compiled_step, page, parameters
from gradtx.sharding.__main__ import main, planned, size_of, transformer
from gradtx.testing.calls import extra_args, update
from gradtx.testing.data import close
from gradtx.testing.mesh import collectives

P = PartitionSpec
SPECS = {"w": P(None, "model"), "deep": [P("model")]}
SHAPES = {"w": (16, 8), "deep": [(8,)]}
ABSTRACT = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def mesh_of(kind=AxisType.Auto, shape=(4, 2), names=("data", "model")):
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(shape))


def homes(mesh, specs=SPECS):
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def draw(seed, lead=()):
    rng = np.random.default_rng(seed)
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=lead + shape)), SHAPES, is_leaf=is_shape)


WHOLE = P()


def shape(*lengths, spec=WHOLE, mesh=ABSTRACT):
    return jax.ShapeDtypeStruct(lengths, "float32", sharding=NamedSharding(mesh, spec))


def specs(tree):
    return jax.tree.map(lambda x: x.spec, tree)


def device_nbytes(shardings, shapes):
    """The bytes of a tree on one device."""
    sizes = jax.tree.map(lambda at, x: math.prod(at.shard_shape(x.shape)) * x.dtype.itemsize, shardings, shapes)
    return sum(jax.tree.leaves(sizes))


# --- where state lies


def test_each_kind_of_slot_lies_as_it_is_declared():
    params = {"w": shape(64, 32, spec=P("data", "model"))}
    adam = gx.sharding.state_shardings(gx.scale_by_adam(), params)
    assert (adam.mu["w"].spec, adam.count.spec) == (P("data", "model"), P())
    factored = gx.sharding.state_shardings(gx.scale_by_factored_rms(min_dim_size_to_factor=2), params)
    assert {factored.v_row["w"].spec, factored.v_col["w"].spec} == {P("data"), P(None, "model")}
    memory = gx.sharding.state_shardings(gx.scale_by_lbfgs(3), params)
    assert memory.diff_params_memory["w"].spec == P(None, "data", "model")
    left, right = (shampoo_factor.spec for shampoo_factor in shampoo_factors(params))
    assert left == P(None, "data")
    assert right == P(None, "model")


def shampoo_factors(params):
    state = gx.sharding.state_shardings(gx.scale_by_shampoo(), params)
    shapes = jax.eval_shape(gx.scale_by_shampoo().init, params)
    pairs = zip(jax.tree.leaves(shapes), jax.tree.leaves(state), strict=True)
    found = {x.shape: at for x, at in pairs if x.ndim == 3}
    return found[1, 64, 64], found[1, 32, 32]


def test_stored_slots_lie_as_their_parameter():
    params = {"w": shape(512, 512, spec=P("data", "model"))}
    packed = gx.sharding.state_shardings(gx.stored(gx.trace(0.9), "int8"), params).trace["w"]
    found = {part.spec for part in jax.tree.leaves(packed.parts)}
    assert found == {P("data", "model")}
    zero = {"w": shape(512, 512, spec=P(None, "model"))}
    packed = gx.sharding.state_shardings(gx.stored(gx.trace(0.9), "int8"), zero, zero_axis="data").trace["w"]
    assert {part.spec for part in jax.tree.leaves(packed.parts)} == {P("data", "model")}


def test_halves_of_bytes_lie_as_their_parameter():
    """Two numbers of four bits share a byte, so that codes have another shape than the parameter."""
    params = {"w": shape(512, 512, spec=P("data", "model"))}
    for form in ("int4", "uint4"):
        tx = gx.stored(gx.scale_by_adam(), {"nu" if form == "uint4" else "mu": form})
        state = gx.sharding.state_shardings(tx, params)
        assert {x.spec for x in jax.tree.leaves(state) if x.spec} == {P("data", "model")}


def test_the_weights_of_scheduled_decays_are_on_all_devices():
    mesh = mesh_of()
    params = {"w": jax.device_put(jnp.ones((16, 8)), NamedSharding(mesh, P("model")))}
    state = gx.ema(gx.linear_schedule(0.5, 0.9, 10)).init(params)
    assert all(len(x.sharding.device_set) == 8 for x in jax.tree.leaves(state))


def test_zero_cuts_no_blocks_of_what_is_stored():
    """The longest axis has blocks of scales, of which each device would have a part."""
    params = {"w": shape(256, 512, spec=P(None, "model"))}
    for tx, spec in (
        (gx.trace(0.9), P(None, ("model", "data"))),
        (gx.stored(gx.trace(0.9), "int8"), P("data", "model")),
    ):
        state = gx.sharding.state_shardings(tx, params, zero_axis="data")
        assert {x.spec for x in jax.tree.leaves(state) if x.spec} == {spec}


def test_groups_views_and_other_libraries():
    params = {"w": shape(64, 32, spec=P(None, "model")), "b": shape(32, spec=P("model"))}
    tx = gx.partition(
        {"m": gx.chain(optax.adam(0.1)), "b": gx.trace(0.9)},
        [(gx.select.ndim(min=2), "m"), (gx.select.everything(), "b")],
    )
    state = gx.sharding.state_shardings(tx, params, zero_axis="data")
    by_shape = {
        x.shape: at.spec for x, at in zip(*map(jax.tree.leaves, (jax.eval_shape(tx.init, params), state)), strict=True)
    }
    assert by_shape == {(): P(), (64, 32): P("data", "model"), (32,): P(("model", "data"))}
    assert gx.sharding.state_shardings(gx.flatten(gx.trace(0.9)), params).trace.spec == P("model")


def test_the_zero_axis_splits_the_longest_axis_that_it_divides():
    def where(*lengths, spec=WHOLE, zero="data"):
        return gx.sharding.state_shardings(gx.trace(0.9), shape(*lengths, spec=spec), zero_axis=zero).trace.spec

    assert where(8, 16) == P(None, "data")
    assert where(8, 18) == P("data")  # 4 does not divide 18
    assert where(7, 9) == P()  # it stays whole
    assert where(16, 16) == P("data")
    assert where(8, 16, spec=P(None, "model")) == P(None, ("model", "data"))
    assert where(9, 2, spec=P(None, "model")) == P(None, "model")
    assert where(8, 16, spec=P("data")) == P("data")  # split over it already
    assert where(16, 8, zero=("data", "model")) == P(("data", "model"))
    assert where() == P()


@pytest.mark.parametrize("zero", [(8, 1), (4, 2)], ids=str)
def test_zero_leaves_an_eighth_of_every_state_on_each_device(zero):
    """The state of every optimizer, from shapes alone; what lacks an axis of the parameter lacks what splits it."""
    mesh = AbstractMesh(zero, ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    params = {"w": shape(1024, 512, spec=P(None, "model"), mesh=mesh), "b": shape(512, spec=P("model"), mesh=mesh)}
    for name in optimizers():
        tx = default(name)
        if zero[1] > 1 and {row.kind for row in gx.describe(tx, params).rows} - {"per parameter", "per tree"}:
            continue
        state = jax.eval_shape(tx.init, params)
        whole = gx.tree.nbytes(state)
        share = device_nbytes(gx.sharding.state_shardings(tx, params, zero_axis="data"), state)
        numbers = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if x.size < 32)
        assert share - numbers <= whole * (1 / 8 + 0.02), f"{name}: {share} of {whole} bytes"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f(gx.sgd(0.1), {"w": jnp.ones(8)}), "does not say where on a mesh it lies"),
        (lambda f: f(gx.sgd(0.1), {"w": shape(8)}, zero_axis="rows"), "zero_axis names 'rows', but the axes"),
        (lambda f: f(gx.sgd(0.1), {"w": shape(8)}, {"v": NamedSharding(ABSTRACT, P())}), "param_shardings"),
        (lambda f: f(gx.sgd(0.1), {"w": jnp.ones(9)}, NamedSharding(ABSTRACT, P("data"))), "w of shape .* cannot be"),
        (lambda f: f(gx.sgd(0.1), {}), "params has no arrays"),
        (lambda f: f(gx.sgd(0.1), [shape(8), shape(8, mesh=AbstractMesh((2,), ("x",)))]), "lies on another mesh"),
        (lambda f: gx.sharding.update(gx.sgd(0.1), 1.0, ()), "shardings is missing"),
        (lambda f: gx.sharding.init(gx.adam(0.1), {"w": shape(8)}, f(gx.sgd(0.1), {"w": shape(8)})), "shardings"),
    ],
)
def test_what_cannot_be_says_so(make, message):
    with pytest.raises(ValueError, match=message):
        make(gx.sharding.state_shardings)


def test_a_spec_is_no_sharding():
    with pytest.raises(TypeError, match="Give NamedSharding"):
        gx.sharding.state_shardings(gx.sgd(0.1), {"w": jnp.ones(8)}, {"w": P("data")})


# --- a fresh state


def test_a_fresh_state_is_never_whole():
    mesh = mesh_of()
    params = {"w": shape(256, 64, spec=P(None, "model"), mesh=mesh)}
    tx = gx.adam(0.1)
    shardings = gx.sharding.state_shardings(tx, params, zero_axis="data")
    compiled = jax.jit(lambda: tx.init(params), out_shardings=shardings).lower().compile().memory_analysis()
    part = 2 * 256 * 64 * 4 // 8
    assert compiled.output_size_in_bytes + compiled.temp_size_in_bytes < 1.1 * part
    state = gx.sharding.init(tx, params, shardings)
    assert {x.nbytes for x in (shard.data for shard in state[0].mu["w"].addressable_shards)} == {part // 2}
    averaged = gx.ema_params(gx.sgd(0.1), 0.9)
    shardings = gx.sharding.state_shardings(averaged, params)
    with pytest.raises(ValueError, match="depends on the values of the parameters"):
        gx.sharding.init(averaged, params, shardings)


def nnx_params():
    return nnx.state(nnx.Linear(8, 16, rngs=nnx.Rngs(0)), nnx.Param)


def equinox_params():
    return eqx.filter(eqx.nn.MLP(8, 8, 16, 1, key=jax.random.key(0)), eqx.is_inexact_array)


@pytest.mark.parametrize("make", [nnx_params, equinox_params])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_models_of_frameworks(make, kind):
    mesh, params = mesh_of(kind), make()
    places = jax.tree.map(lambda x: NamedSharding(mesh, P("model") if x.ndim == 2 else P()), params)
    params, tx = jax.device_put(params, places), gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.1))
    shardings = gx.sharding.state_shardings(tx, params, zero_axis="data")
    state = gx.sharding.init(tx, params, shardings)
    step = jax.jit(lambda g, state, p: gx.sharding.update(tx, g, state, p, shardings, places))
    updates, state = step(params, state, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert jax.tree.map(lambda x: x.sharding, state) == shardings
    matrices = [x for x in jax.tree.leaves(state) if x.ndim == 2]
    assert all(x.addressable_shards[0].data.nbytes == x.nbytes // 8 for x in matrices)


# --- it stays there

QUICK = ["adamw", "adafactor"]
SLOW = [name for name in [*optimizers(), "lbfgs"] if name not in QUICK]
EXPLICIT = ["muon", "adafactor", "lamb", "prodigy", "sm3"]
RTOL = {"shampoo": 1e-8}
"""Its roots of singular factors: eight digits of sixteen are lost, on one device too."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, AxisType.Auto) for name in QUICK),
        *(pytest.param(name, AxisType.Auto, marks=pytest.mark.heavy) for name in SLOW),
        *(pytest.param(name, AxisType.Explicit, marks=pytest.mark.heavy) for name in EXPLICIT),
    ],
)
def test_a_state_stays_where_it_is(name, kind):
    """Eight devices with parameters split in two and ZeRO compute what one does, and nothing moves."""
    mesh, tx = mesh_of(kind), gx.lbfgs(0.1, linesearch=None) if name == "lbfgs" else default(name)
    places, params = homes(mesh), draw(0)
    on_mesh = jax.device_put(params, places)
    shardings = gx.sharding.state_shardings(tx, on_mesh, zero_axis="data")
    state, expected = gx.sharding.init(tx, on_mesh, shardings), tx.init(params)

    def step(g, state, p):
        return gx.sharding.update(tx, g, state, p, shardings, places, **extra_args(tx, g, p))

    step, step_of_one = jax.jit(step), jax.jit(lambda g, state, p: update(tx, g, state, p))
    for seed in (1, 2):
        grads = draw(seed, (4,) if name == "dpsgd" else ())
        on_devices = grads if name == "dpsgd" else jax.device_put(grads, places)
        with jax.set_mesh(mesh):
            found, state = jax.block_until_ready(step(on_devices, state, on_mesh))
        updates, expected = step_of_one(grads, expected, params)
        close((found, data_of(state)), (updates, data_of(expected)), rtol=RTOL.get(name, 1e-10), atol=1e-13)
    assert jax.tree.map(lambda x: x.sharding, state) == shardings
    for u, at in zip(jax.tree.leaves(found), jax.tree.leaves(places), strict=True):
        assert u.sharding.is_equivalent_to(at, u.ndim)
    assert step._cache_size() == 1


def data_of(tree):
    """The tree with the data of random keys in their place."""
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def sent(tx, zero, n=3):
    """The collectives of a compiled step on 8 devices, for `n` leaves."""
    return collectives(compiled_step(tx, parameters(mesh_of(), n), zero))


def test_what_a_step_sends():
    """Without ZeRO an elementwise method sends nothing; with it the updates alone are gathered."""
    clipped = gx.chain(gx.clip_by_global_norm(1.0), gx.adam(0.1))
    assert sent(gx.adamw(0.1), None) == []
    assert set(sent(gx.adamw(0.1), "data")) == {"all-gather"}
    assert len(sent(gx.adamw(0.1), "data")) <= 3
    assert sent(clipped, None) == ["all-reduce"]
    stored = gx.stored(gx.adam(0.1), "int8")
    assert sent(stored, None, n=1) == []
    assert sent(stored, "data", n=1) == ["all-gather"]


# Eight matrices, and three for which five of the eight devices get copies.
STACKS = {"a": [(24, 24)] * 8, "b": [(8, 8)] * 3}


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("scale_by_muon()", AxisType.Auto),
        pytest.param("scale_by_muon()", AxisType.Explicit, marks=pytest.mark.heavy),
        pytest.param("scale_by_soap()", AxisType.Auto, marks=pytest.mark.heavy),
        pytest.param("scale_by_shampoo(eps=0.1)", AxisType.Auto, marks=pytest.mark.heavy),
    ],
)
def test_devices_share_the_work_on_stacks(expression, kind):
    """The numbers are the same, and each device computes an eighth of the products."""
    tx, mesh = eval(expression, vars(gx)), mesh_of(kind, (8,), ("data",))
    rng, whole = np.random.default_rng(0), NamedSharding(mesh, P())
    params = jax.tree.map(lambda n: jnp.asarray(rng.normal(size=n)), STACKS, is_leaf=lambda x: isinstance(x, tuple))
    on_mesh = jax.device_put(params, whole)
    shardings = gx.sharding.state_shardings(tx, on_mesh)

    def step(axis):
        return jax.jit(lambda g, s, p: gx.sharding.update(tx, g, s, p, shardings, whole, work_axis=axis))

    state, expected, flops = gx.sharding.init(tx, on_mesh, shardings), tx.init(params), []
    for axis in (None, "data"):
        cost = step(axis).lower(on_mesh, state, on_mesh).compile().cost_analysis()
        flops.append((cost[0] if isinstance(cost, list) else cost)["flops"])
    # Beside the products of an eighth there are the entries of all; in Shampoo roots, which XLA does not count, too.
    assert flops[1] < flops[0] * (0.25 if "shampoo" in expression else 1 / 8 + 0.04)
    for _ in range(2):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
        updates, state = jax.block_until_ready(step("data")(jax.device_put(grads, whole), state, on_mesh))
        expected_updates, expected = jax.jit(tx.update)(grads, expected, params)
        close((updates, state), (expected_updates, expected), rtol=1e-10, atol=1e-13)
    assert jax.tree.map(lambda x: x.sharding, state) == shardings
    with pytest.raises(ValueError, match="work_axis names 'rows'"):
        step("rows").lower(on_mesh, state, on_mesh)


@pytest.mark.heavy
def test_the_table_of_the_page_is_that_of_the_code():
    with jax.enable_x64(False):
        assert page() == PAGE.read_text()


def test_host_memory_stays_host_memory():
    mesh = mesh_of()
    params = {"w": jax.device_put(jnp.ones((16, 8)), NamedSharding(mesh, P("model")))}
    tx = gx.stored(gx.trace(0.9), "host", min_size=0)
    shardings = gx.sharding.state_shardings(tx, params, zero_axis="data")
    step = jax.jit(lambda g, s: gx.sharding.update(tx, g, s, g, shardings, params["w"].sharding))
    _, state = step(params, gx.sharding.init(tx, params, shardings))
    (kept,) = (x for x in jax.tree.leaves(state) if x.ndim == 2)
    assert kept.sharding.memory_kind == "pinned_host"
    assert kept.sharding == next(x for x in jax.tree.leaves(shardings) if x.spec)


# --- inside shard_map

PARTS = {"w": P("data", "model"), "deep": [P("model")]}
BY_ENTRY_OR_TREE = {
    "adamw",
    "dadapt_adamw",
    "dog",
    "dowg",
    "momo",
    "momo_adam",
    "polyak_sgd",
    "prodigy",
    "cocob",
    "lion",
}
MEASURE = [
    "chain(clip_by_global_norm(1.0), reduce_on_plateau(), sgd(0.1))",
    "apply_if_finite(skip_spikes(adam(0.1), warmup=1))",
    "accumulate(adam(0.1), 2, should_skip_update_fn=skip_not_finite)",
    "mechanize(adam(0.1))",
    "with_metrics(dynamic_loss_scale(adam(0.1)))",
    "sam(sgd(0.1), chain(normalize(), sgd(0.05)))",
    "nonlinear_cg(0.1, linesearch=None)",
    "schedule_free_adamw(0.1)",
]


def steps_in_parts(tx, grads, params, axes=("data", "model"), **options):
    """Updates and state of two steps inside `shard_map`; all extra arguments but functions are given."""
    mesh, whole = mesh_of(), gx.sharding.over(tx, axes)
    shardings = gx.sharding.state_shardings(tx, params, homes(mesh, PARTS))
    state, places = jax.device_put(tx.init(params), shardings), specs(shardings)
    for g in grads:
        extra = {name: x for name, x in extra_args(tx, g, params).items() if not callable(x)}
        trees = {name: PARTS if jax.tree.structure(x) == jax.tree.structure(g) else P() for name, x in extra.items()}
        ins, outs = (PARTS, places, PARTS, trees), (PARTS, places)
        step = jax.shard_map(
            lambda g, state, p, extra: whole.update(g, state, p, **extra),
            mesh=mesh,
            in_specs=ins,
            out_specs=outs,
            **options,
        )
        updates, state = jax.block_until_ready(jax.jit(step)(g, state, params, extra))
    return updates, state


@pytest.mark.parametrize(
    "expression",
    [MEASURE[0], *(pytest.param(x, marks=pytest.mark.heavy) for x in [*MEASURE[1:], *sorted(BY_ENTRY_OR_TREE)])],
)
def test_parts_are_updated_as_the_whole(expression):
    tx = eval(expression, {**vars(gx)}) if "(" in expression else default(expression)
    params, grads = draw(0), [draw(1), draw(2)]
    state = tx.init(params)
    for g in grads:
        extra = {name: x for name, x in extra_args(tx, g, params).items() if not callable(x)}
        updates, state = jax.jit(tx.update)(g, state, params, **extra)
    close(steps_in_parts(tx, grads, params), (updates, state), rtol=1e-10, atol=1e-13)


def test_sums_over_trees_in_parts():
    """Each function of trees that gives a number; a leaf that is alike on all devices counts once."""
    from gradtx.mesh import together

    mesh, tree = mesh_of(), {**draw(0), "same": jnp.arange(3.0)}
    parts = {**PARTS, "same": P()}
    for f in (
        gx.tree.norm,
        lambda t: gx.tree.norm(t, 1),
        lambda t: gx.tree.norm(t, "inf"),
        gx.tree.norm_sq,
        gx.tree.sum,
        gx.tree.max,
        gx.tree.min,
        lambda t: gx.tree.vdot(t, t),
        lambda t: gx.tree.sum(jax.tree.map(lambda x: x > 0, t)),
        lambda t: gx.tree.finite(jax.tree.map(jnp.log, t)),
        gx.tree.finite,
        lambda t: jax.jvp(gx.tree.norm, (t,), (t,))[1],
        lambda t: jax.jvp(lambda t: gx.tree.vdot(t, t), (t,), (t,))[1],
        lambda t: jax.jvp(gx.tree.sum, (t,), (t,))[1],
    ):

        def whole(t, f=f):
            with together(frozenset({"data", "model"})):
                return f(t)

        found = jax.jit(jax.shard_map(whole, mesh=mesh, in_specs=(parts,), out_specs=P()))(tree)
        np.testing.assert_allclose(found, f(tree), rtol=1e-12)


def test_a_norm_of_parts_is_one_reduction():
    mesh, tx = mesh_of(), gx.sharding.over(gx.clip_by_global_norm(1.0), ("data", "model"))
    tree = [jnp.ones((16, 8), "float32")] * 5
    clip = jax.shard_map(lambda g: tx.update(g, tx.init(g))[0], mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    assert collectives(jax.jit(clip).lower(tree).compile()) == ["all-reduce"]


@pytest.mark.parametrize(
    ("expression", "options", "message"),
    [
        ("muon(0.1)", {}, "scale_by_muon looks at each leaf as a whole, and here it gets a part of w"),
        ("galore(0.1)", {}, "scale_by_galore looks at each leaf as a whole"),
        ("add_noise(0.1, 0.5, 1)", {}, "add_noise draws the same random numbers"),
        ("newton_cg(1.0, linesearch=None)", {}, "scale_by_newton_cg is not known to sum over all parts"),
        ("trust_region_newton()", {}, "trust_region_newton is not known to sum over all parts"),
        ("chain(optax.adam(0.1))", {}, "is not known to sum over all parts"),
        ("adam(0.1)", {"check_vma": False}, "check_vma=False, which hides"),
    ],
)
def test_what_cannot_be_right_on_parts_says_so(expression, options, message):
    tx = eval(expression, {**vars(gx), "optax": optax})
    with pytest.raises(ValueError, match=message):
        steps_in_parts(tx, [draw(1)], draw(0), **options)


def test_a_value_of_one_part_is_refused():
    mesh, tx = mesh_of(), gx.sharding.over(gx.reduce_on_plateau(), "data")

    def step(g):
        return tx.update(g, tx.init(g), value=jnp.sum(g))[0]

    with pytest.raises(ValueError, match="Pass value=jax"):
        jax.jit(jax.shard_map(step, mesh=mesh, in_specs=P("data"), out_specs=P("data")))(jnp.ones(8))


def test_over_is_a_value():
    tx = gx.sharding.over(gx.adam(0.1), "model")

    assert eval(repr(tx), vars(gx)) == tx
    g = {"w": jnp.ones(3)}
    close(tx.update(g, tx.init(g))[0], gx.adam(0.1).update(g, gx.adam(0.1).init(g))[0])
    with pytest.raises(TypeError, match="axis_name must be the name"):
        gx.sharding.over(gx.adam(0.1), 3)


# --- planning


@pytest.mark.parametrize(
    ("expression", "zero"),
    [
        ("adamw(0.1)", "data"),
        pytest.param("adamw(0.1)", None, marks=pytest.mark.heavy),
        pytest.param("chain(clip_by_global_norm(1.0), lion(0.1))", "data", marks=pytest.mark.heavy),
        pytest.param("adafactor(0.1)", None, marks=pytest.mark.heavy),
        pytest.param("stored(adamw(0.1), 'int8')", "data", marks=pytest.mark.heavy),
    ],
)
def test_a_plan_is_what_is_compiled(expression, zero):
    """Within 5%: memory all together, and what travels; parameters, gradients and state to the byte.

    Stored arrays are loaded as the compiler likes: XLA for CPUs loads those of all parameters at once.
    """
    tx, mesh, n = eval(expression, vars(gx)), mesh_of(), 8
    both = {
        "up": shape(256, 512, spec=P(None, "model"), mesh=mesh),
        "down": shape(512, 256, spec=P("model"), mesh=mesh),
    }
    params = {f"layer_{i}": both for i in range(n)}
    plan = gx.sharding.plan(tx, params, zero_axis=zero, data_axis="data")
    compiled = compiled_step(tx, params, zero)
    memory = compiled.memory_analysis()
    assert plan.parameters + plan.gradients + plan.state == memory.argument_size_in_bytes
    assert "stored" in expression or plan.total == pytest.approx(
        memory.argument_size_in_bytes + memory.temp_size_in_bytes, rel=0.05
    )
    travels = sum(nbytes for name, nbytes in plan.network.items() if name != "gradients")
    assert travels == pytest.approx(traffic(compiled), rel=0.05, abs=64 * n)


def traffic(compiled):
    """The bytes that a device receives in a compiled program, by ring algorithms."""
    total = 0.0
    for line in compiled.as_text().splitlines():
        found = re.search(r"= (.*?) (all-reduce|all-gather|reduce-scatter)(?:-start)?\((.*)", line)
        if found:
            types, kind, rest = found.groups()
            nbytes = sum(
                math.prod(map(int, filter(None, lengths.split(",")))) * WIDTHS[dtype]
                for dtype, lengths in re.findall(r"(\w+)\[([\d,]*)\]", types)
            )
            ways = group_size(rest)
            total += nbytes * (ways - 1) / ways * (2 if kind == "all-reduce" else 1)
    return total


WIDTHS = {"f64": 8, "f32": 4, "s32": 4, "s8": 1, "u8": 1, "pred": 1}


def group_size(text):
    """The number of devices that exchange something, as the text of a compiled program writes it."""
    names = re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", text)
    if names:
        sizes = dict(part.split("=") for part in names[1].replace("'", "").split(","))
        return math.prod(int(sizes[name]) for name in names[2].replace("'", "").split(","))
    iota = re.search(r"replica_groups=\[\d+,(\d+)\]", text)
    return int(iota[1]) if iota else re.search(r"replica_groups=\{\{([\d,]+)\}", text)[1].count(",") + 1


def test_layers_that_are_alike_are_planned_once():
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adafactor(0.1))
    width, layers = size_of(2e8)
    count, found = planned(tx, 2e8, ABSTRACT, "float32", "data", "data")
    tree = transformer(width, layers, ABSTRACT)
    assert layers > 2
    assert count == gx.tree.size(tree) == pytest.approx(2e8, rel=0.1)
    assert repr(found) == repr(gx.sharding.plan(tx, tree, zero_axis="data"))


def test_a_plan_from_the_command_line(capsys, tmp_path):
    options = {"params": "70e9", "mesh": "data=64,model=8", "optimizer": "adamw", "zero": "data"}
    main(["plan", *(part for name, x in options.items() for part in (f"--{name}", x))])
    text = capsys.readouterr().out
    assert "69,794,635,776 parameters on 512 devices" in text
    assert re.search(r"updates +\d", text)
    (tmp_path / "shapes.json").write_text('{"w": {"shape": [64, 32], "spec": [null, "model"]}}')
    main(["plan", "--shapes", str(tmp_path / "shapes.json"), "--mesh", "data=4,model=2", "--optimizer", "sgd(0.1)"])
    assert re.search(r"parameters +4,096", capsys.readouterr().out)
    with pytest.raises(SystemExit, match="--mesh must be like data=64"):
        main(["plan", "--params", "1e9", "--mesh", "8"])
