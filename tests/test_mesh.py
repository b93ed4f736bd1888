"""Meshes of devices: automatic and explicit axes, sharding of states, communication, and `shard_map`.

Law 8 tests every case of the registry; here are further transformations, trees and functions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import gradtx as gx
from gradtx.testing.eager import programs
from tests.laws.collectives import sent

P = PartitionSpec
KINDS = [AxisType.Auto, AxisType.Explicit]
SPECS = {"w": P("x", None), "b": P("x"), "c": P(), "k": P(None, "x")}
RNG = np.random.default_rng(0)
TREE = {"w": RNG.normal(size=(8, 6)), "b": RNG.normal(size=8), "c": np.asarray(0.5), "k": RNG.normal(size=(3, 8))}


def mesh_of(kind, shape=(8,), names=("x",)):
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(shape))


def on(mesh, tree, specs):
    return jax.tree.map(lambda x, spec: jax.device_put(jnp.asarray(x), NamedSharding(mesh, spec)), tree, specs)


def same(a, b, rtol=1e-9):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol, 1e-12)


def rows_apart(f, x, mesh):
    """Applies `f` to each row inside `shard_map`, with a row on each device."""
    return jax.jit(jax.shard_map(lambda x: f(x[0])[None], mesh=mesh, in_specs=P("x"), out_specs=P("x")))(x)


# --- both kinds of axes


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_norms_of_leaves_that_are_split_in_several_ways(kind):
    tree = on(mesh_of(kind), TREE, SPECS)
    for f in (gx.tree.norm, gx.tree.norm_sq, gx.tree.finite, lambda t: gx.tree.vdot(t, t)):
        same(f(tree), f(TREE))
        same(jax.jit(f)(tree), f(TREE))
    same(jax.jit(jax.grad(gx.tree.norm))(tree), jax.grad(gx.tree.norm)(jax.tree.map(jnp.asarray, TREE)))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_trees(kind):
    """Functions of trees give the same values as on one device; a result with the shape of a leaf is sharded like
    it."""
    plain = jax.tree.map(jnp.asarray, TREE)
    split = on(mesh_of(kind), TREE, SPECS)
    for name, call in {
        "add": lambda t: gx.tree.add(t, t),
        "cast": lambda t: gx.tree.cast(t, "float32"),
        "full_like": lambda t: gx.tree.full_like(t, 2.0),
        "ones_like": gx.tree.ones_like,
        "random_like": lambda t: gx.tree.random_like(jax.random.key(0), t),
        "uniform": lambda t: gx.tree.random_like(jax.random.key(0), t, lambda *args: jax.random.uniform(*args)),
        "update_moment": lambda t: gx.tree.update_moment(t, t, 0.9, 2),
        "where": lambda t: gx.tree.where(True, t, t),
        "zeros_like": gx.tree.zeros_like,
        "sum": gx.tree.sum,
        "max": gx.tree.max,
        "vdot": lambda t: gx.tree.vdot(t, gx.tree.scale(1j, t)),
        "norm": lambda t: gx.tree.norm(t, 1),
        "allclose": lambda t: gx.tree.allclose(t, t),
    }.items():
        found = call(split)
        same(found, call(plain))
        with jax.set_mesh(mesh_of(kind)):  # a program of constants must be told of the devices
            same(jax.jit(call)(split), found)
        if jax.tree.structure(found) == jax.tree.structure(split):
            for x, like in zip(jax.tree.leaves(found), jax.tree.leaves(split), strict=True):
                assert x.sharding.is_equivalent_to(like.sharding, x.ndim), name


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    "specs",
    [
        {"w": P("x", "y"), "v": P("y"), "kernel": P(None, None, "x", "y")},
        {"w": P(None, "y"), "v": P(("x", "y")), "kernel": P(None, None, ("x", "y"), None)},
        {"w": P("x"), "v": P(), "kernel": P(None, None, None, "x")},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "tx",
    [
        gx.muon(0.1),
        gx.scale_by_muon(preconditioning="schatten"),
        gx.galore(0.1, rank=2),
        gx.flatten(gx.adam(0.1)),
        gx.lbfgs(0.1, linesearch=None),
        gx.bfgs(0.1, linesearch=None),
        gx.frank_wolfe(gx.oracle_l1_ball, 3.0),
        gx.project(gx.projection_simplex),
        gx.adafactor(0.1, min_dim_size_to_factor=2),
    ],
    ids=lambda tx: type(tx).__name__,
)
def test_explicit_axes_may_split_leaves_in_any_way(tx, specs):
    mesh = mesh_of(AxisType.Explicit, (4, 2), ("x", "y"))
    host = {"w": RNG.normal(size=(8, 4)), "v": RNG.normal(size=8), "kernel": RNG.normal(size=(3, 2, 8, 4))}
    params = on(mesh, host, specs)

    def steps(params):
        state = tx.init(params)
        _, state = tx.update(params, state, params)
        return tx.update(jax.tree.map(lambda p: 0.5 * p, params), state, jax.tree.map(lambda p: 0.9 * p, params))[0]

    split = jax.jit(steps)(params)
    same(split, steps(jax.tree.map(jnp.asarray, host)))
    for u, p in zip(jax.tree.leaves(split), jax.tree.leaves(params), strict=True):
        assert u.sharding.is_equivalent_to(p.sharding, u.ndim)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["simplex", "l1_ball", "monotone"])
def test_projections_of_rows_and_of_columns(kind, axis, name):
    projection, x = getattr(gx, f"projection_{name}"), jnp.asarray(RNG.normal(size=(8, 8)))
    each = jax.vmap(projection, axis, axis)
    for spec in (P("x"), P(None, "x")):
        split = on(mesh_of(kind), x, spec)
        for found in (jax.jit(each)(split), each(split)):
            same(found, each(x))
        assert kind == AxisType.Auto or found.sharding.is_equivalent_to(split.sharding, 2)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("kind", "context"), [(AxisType.Auto, False), (AxisType.Explicit, False), (AxisType.Explicit, True)]
)
@pytest.mark.parametrize("tx", [gx.lbfgs(), gx.lbfgsb(-1.0, 0.3), gx.newton()], ids=["lbfgs", "lbfgsb", "newton"])
def test_solvers_of_split_parameters(tx, kind, context):
    def loss(x):
        return jnp.sum(jnp.cosh(x - 0.5) * (1 + jnp.arange(16)))

    x, mesh = jnp.linspace(-1, 1.5, 16), mesh_of(kind)
    expected = gx.minimize(loss, x, tx, maxiter=30)
    with jax.set_mesh(mesh) if context else np.errstate():
        found = gx.minimize(loss, on(mesh, x, P("x")), tx, maxiter=30)
    same(found.params, expected.params, rtol=1e-6)
    assert kind == AxisType.Auto or found.params.sharding.spec == P("x")


@pytest.mark.parametrize("method", ["levenberg_marquardt", "gauss_newton"])
def test_least_squares_of_split_parameters(method):
    x = on(mesh_of(AxisType.Explicit), jnp.linspace(-1, 1.5, 16), P("x"))
    found = gx.least_squares(lambda x: jnp.sinh(x - 0.5), x, method=method)
    np.testing.assert_allclose(found.params, 0.5, rtol=1e-6)


def test_a_vector_of_all_leaves_is_split_where_it_can_be():
    """A vector of 8 + 48 + 24 entries is sharded over 8 devices; with a scalar it has 81 entries and is replicated."""
    mesh = mesh_of(AxisType.Explicit)
    for names, spec in (("wbk", P("x")), ("wbck", P())):
        params = on(mesh, {n: TREE[n] for n in names}, {n: SPECS[n] for n in names})
        mu = gx.flatten(gx.scale_by_adam()).init(params).mu
        assert mu.sharding.is_equivalent_to(NamedSharding(mesh, spec), 1)


# --- where state lies


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_memory_is_split_as_the_parameters(kind):
    mesh = mesh_of(kind)
    state = gx.scale_by_lbfgs(4).init(on(mesh, TREE, SPECS))
    for memory in (state.diff_params_memory, state.diff_updates_memory):
        for name, spec in SPECS.items():
            assert memory[name].sharding.is_equivalent_to(NamedSharding(mesh, P(None, *spec)), memory[name].ndim)
    assert all(len(x.sharding.device_set) == 8 for x in jax.tree.leaves(state))


@pytest.mark.parametrize("tx", [gx.adamw(0.1), gx.lbfgs(0.1, linesearch=None)], ids=["adamw", "lbfgs"])
@pytest.mark.parametrize("kind", [*KINDS, None])
def test_a_step_is_compiled_once(tx, kind):
    """On a mesh, and on one device that is not the default one."""
    if kind is None:
        params = jax.device_put(jax.tree.map(jnp.asarray, TREE), jax.devices()[3])
    else:
        params = on(mesh_of(kind), TREE, SPECS)
    step, state, grads = jax.jit(tx.update), tx.init(params), params
    _, state = step(grads, state, params)
    with programs() as compiled:
        for _ in range(2):
            _, state = step(grads, state, params)
    assert compiled == []
    if kind is None:
        assert all(x.sharding == SingleDeviceSharding(jax.devices()[3]) for x in jax.tree.leaves(state))


# --- what is sent


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("expression", "most"),
    [
        ("clip_by_global_norm(1.0)", 1),
        ("normalize_by_update_norm()", 1),
        ("dog()", 1),
        ("dowg()", 1),
        ("momo()", 1),
        ("momo_adam()", 1),
        ("polyak_sgd()", 1),
        ("prodigy()", 1),
        ("dadapt_adamw()", 1),
        ("mechanize(adam(0.1))", 1),
        ("lamb(0.1)", 1),
        ("adamw(0.1)", 0),
    ],
)
def test_one_reduction_a_step(expression, most):
    """A step has a single reduction for any number of leaves, at most as many as optax's step, and gathers nothing."""
    mesh = mesh_of(AxisType.Auto)
    params = {
        f"{name}{i}": jax.ShapeDtypeStruct(np.shape(x), "float32", sharding=NamedSharding(mesh, SPECS[name]))
        for name, x in TREE.items()
        for i in range(10)
    }

    def step(tx, g, state, p):
        given = {"value": jnp.float32(1)}
        tx = tx if isinstance(tx, gx.GradientTransformation) else optax.with_extra_args_support(tx)
        return tx.update(g, state, p, **given)

    with jax.enable_x64(False):
        txs = [eval(expression, {**vars(optax.contrib), **vars(library)}) for library in (gx, optax)]
        ours, theirs = (sent(tx, params, step) for tx in txs)
    assert ours == ["all-reduce"] * len(ours)
    assert len(ours) <= min(most, len(theirs))


# --- inside shard_map

ROWS = jnp.asarray(np.random.default_rng(1).normal(size=(8, 6)))
VECTORS = {
    "projection_simplex": (),
    "projection_l1_ball": (),
    "projection_l1_sphere": (),
    "projection_monotone": (),
    "projection_ordered_simplex": (),
    "projection_box_section": (0.0, 1.0),
    "projection_affine_set": (np.ones((1, 6)), np.ones(1)),
    "projection_polyhedron": (None, None, np.eye(6), np.zeros(6)),
    "projection_intersection": ([gx.projection_simplex, gx.projection_non_negative],),
    "prox_total_variation": (0.3,),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", VECTORS)
def test_projections_on_shards(name):
    def f(x):
        return getattr(gx, name)(x, *VECTORS[name])

    def slopes(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))(x)

    mesh = mesh_of(AxisType.Auto)
    same(rows_apart(f, ROWS, mesh), jnp.stack([f(x) for x in ROWS]))
    same(rows_apart(slopes, ROWS, mesh), jnp.stack([slopes(x) for x in ROWS]))


@pytest.mark.heavy
@pytest.mark.parametrize(
    "f", [gx.projection_transport, gx.sinkhorn, gx.projection_nuclear_ball, gx.oracle_nuclear_ball]
)
def test_matrices_on_shards(f):
    x = jnp.asarray(np.random.default_rng(2).normal(size=(8, 4, 4)))
    same(rows_apart(f, x, mesh_of(AxisType.Auto)), jnp.stack([f(y) for y in x]), rtol=1e-6)


SOLVERS = {
    "minimize": lambda t: gx.minimize(lambda x: jnp.sum(jnp.cosh(x - t)), jnp.zeros(3)),
    "lbfgsb": lambda t: gx.minimize(lambda x: jnp.sum(jnp.cosh(x - t)), jnp.zeros(3), gx.lbfgsb(-9.0, 4.0)),
    "nonlinear_cg": lambda t: gx.minimize(lambda x: jnp.sum(jnp.cosh(x - t)), jnp.zeros(3), gx.nonlinear_cg()),
    "newton_cg": lambda t: gx.minimize(lambda x: jnp.sum(jnp.cosh(x - t)), jnp.zeros(3), gx.newton_cg()),
    "least_squares": lambda t: gx.least_squares(lambda x: jnp.sinh(x - t), jnp.zeros(3)),
    "augmented_lagrangian": lambda t: gx.augmented_lagrangian(
        lambda x: jnp.sum((x - t) ** 2), jnp.zeros(3), equality=lambda x: x[0] - x[1]
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_on_shards(name):
    """Each shard minimizes its own function from the same start, and takes the same steps as on its own."""
    solve, t = SOLVERS[name], jnp.linspace(-1, 6, 8)
    found = jax.jit(
        jax.shard_map(
            lambda t: jax.tree.map(lambda x: x[None], solve(t[0])),
            mesh=mesh_of(AxisType.Auto),
            in_specs=P("x"),
            out_specs=P("x"),
        )
    )(t)
    expected = jax.jit(jax.vmap(solve))(t)
    same(found.params, expected.params, rtol=1e-6)
    np.testing.assert_array_equal(found.steps, expected.steps)


@pytest.mark.heavy
def test_products_with_vectors_that_are_alike_on_all_shards():
    """All shards draw the same random vectors, although their parameters differ."""

    def f(x):
        return jnp.sum(jnp.cosh(x)) + x[0] * x[1]

    def diagonal(x):
        return gx.hutchinson_diag(f, x, jax.random.key(0), samples=3)

    def step(x):
        tx = gx.with_hessian_diag(gx.adahessian(0.1))
        return tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)[0]

    mesh = mesh_of(AxisType.Auto)
    for found in (diagonal, step, lambda x: gx.hvp(f, x, jnp.ones(6))):
        same(rows_apart(found, ROWS, mesh), jnp.stack([found(x) for x in ROWS]))


def test_a_solver_of_all_shards_together():
    """If the function sums over the shards, all shards take the same steps, and the result is replicated."""

    def solve(t):
        return gx.minimize(lambda x: jax.lax.psum(jnp.sum((x - t) ** 2), "x"), jnp.zeros(3)).params

    mesh = mesh_of(AxisType.Auto)
    found = jax.jit(jax.shard_map(solve, mesh=mesh, in_specs=P("x"), out_specs=P()))(jnp.arange(8.0))
    np.testing.assert_allclose(found, 3.5, rtol=1e-6)


@pytest.mark.parametrize(
    "search", [gx.scale_by_zoom_linesearch(20), gx.scale_by_backtracking_linesearch(20)], ids=["zoom", "backtracking"]
)
def test_a_line_search_on_shards(search):
    tx = gx.chain(gx.sgd(1.0), search)

    def loss(x):
        return jnp.sum(jnp.cosh(x))

    def step(x):
        value, grad = jax.value_and_grad(loss)(x)
        return tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=loss)[0]

    same(rows_apart(step, ROWS, mesh_of(AxisType.Auto)), jnp.stack([step(x) for x in ROWS]))
