"""Projections and proximal operators find the same points as cvxpy; and properties of all projections."""

import contextlib
import functools
import warnings

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.nearest import CASES, generic, points

SETS = [case for case in CASES if case.is_set]
CONVEX = [case for case in SETS if case.convex]
MATRICES = ("psd", "spectral", "nuclear", "stiefel", "transport", "group_lasso")


def names(case):
    return case.name


def costly(cases):
    """Returns all cases as pytest parameters; the quick run uses every eighth case."""
    return [pytest.param(case, marks=[pytest.mark.heavy] if i % 8 else []) for i, case in enumerate(cases)]


def flat(x):
    return x.reshape(len(x), -1)


@functools.cache
def batched(case):
    return jax.jit(jax.vmap(lambda x: case.fn(x, *case.data)))


@functools.cache
def projected(case):
    """Returns 200 points of all kinds, and their projections."""
    x = points(case)
    return x, np.asarray(batched(case)(x))


def size(x):
    """Returns the largest entry of each point, but at least 1."""
    return np.maximum(1, np.abs(flat(x)).max(axis=1, initial=0))


def stated(case):
    """Returns the problem for cvxpy, with the point as a parameter: minimize the distance, or the function's value.

    It uses the distance instead of its square, so that the solver's accuracy applies to the distance.
    """
    v = cp.Variable(case.shape, symmetric=case.symmetric)
    x = cp.Parameter(case.shape)
    penalty, constraints = case.problem(v, *case.data)
    cost = cp.norm2(cp.vec(v - x, order="F")) if case.is_set else cp.sum_squares(v - x) / 2 + penalty
    return v, x, cost, cp.Problem(cp.Minimize(cost), constraints)


def solve(problem, v):
    """Solves the problem as exactly as the solver can."""
    for tol in (1e-12, 1e-10, 1e-8, 1e-6):
        v.save_value(None)
        with warnings.catch_warnings(), contextlib.suppress(cp.SolverError):
            warnings.simplefilter("ignore")  # the solver warns that its result may be inexact
            problem.solve(solver=cp.CLARABEL, tol_gap_abs=tol, tol_gap_rel=tol, tol_feas=tol)
        if v.value is not None:
            return
    raise AssertionError("the solver failed")


def check_nearest(case, count):
    """The distance (or the function's value) is the solver's within 1e-8, relative where it is larger than 1.

    Now and then the solver comes less far, and then ours, which is in the set, may be less by more. A value that is a
    square is not resolved by the solver for points that are far away; tests/projections/test_prox.py has those.
    """
    xs, ps = (part[:: len(part) // count] for part in projected(case))
    v, x, cost, problem = stated(case)
    for point, p in zip(xs, ps, strict=True):
        if not case.is_set and size(point[None])[0] > 100:
            continue
        x.value = point
        solve(problem, v)
        least = cost.value
        v.save_value(p)
        unit = max(1, abs(least))
        assert -1e-6 * unit <= cost.value - least <= 1e-8 * unit, (point, p, cost.value, least)


@pytest.mark.one_in(8)
@pytest.mark.parametrize("case", [case for case in CASES if case.convex], ids=names)
def test_the_nearest_point_is_that_of_a_solver(case):
    check_nearest(case, 8)


@pytest.mark.heavy
@pytest.mark.parametrize("case", [case for case in CASES if case.convex], ids=names)
def test_the_nearest_of_many_points_is_that_of_a_solver(case):
    check_nearest(case, 200)


@pytest.mark.parametrize("case", [case for case in SETS if not case.convex], ids=names)
def test_the_nearest_point_of_a_set_that_is_not_convex(case):
    for x, p in zip(*(part[::4] for part in projected(case)), strict=True):
        nearest = case.reference(x, *case.data)
        assert np.linalg.norm(x - p) <= np.linalg.norm(x - nearest) + 1e-12 * size(x[None])[0]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", SETS, ids=names)
def test_points_are_in_the_set_and_stay(case):
    x, p = projected(case)
    slack = 1e-12 if "intersection" not in case.name else 1e-11  # Dykstra's algorithm ends at a tolerance
    for i in range(len(p)):
        assert case.violation(p[i], *case.data) <= slack * size(p)[i], (x[i], p[i])
    again = np.asarray(batched(case)(p))
    assert (np.abs(flat(again - p)).max(axis=1) <= slack * size(p)).all()


@pytest.mark.one_in(10)
@pytest.mark.parametrize("case", CONVEX, ids=names)
def test_the_variational_inequality(case):
    """<x - p, z - p> <= 0 for all z of the set; tested with the projections of all other points."""
    x, p = (flat(part) for part in projected(case))
    products = (x - p) @ p.T - np.sum((x - p) * p, axis=1, keepdims=True)
    bound = 1e-10 * size(x)[:, None] * np.maximum(size(p)[:, None], size(p)[None, :])
    assert (products <= bound).all()


@pytest.mark.parametrize("case", [case for case in CASES if case.convex], ids=names)
def test_distances_do_not_grow(case):
    x, p = (flat(part) for part in projected(case))
    before, after = (np.linalg.norm(part[1:] - part[:-1], axis=1) for part in (x, p))
    assert (after <= before + 1e-12 * np.maximum(size(x)[1:], size(x)[:-1])).all()


@pytest.mark.parametrize("case", costly(CASES), ids=names)
def test_one_point_is_as_in_a_batch_and_leaves_are_one_vector(case):
    x, p = projected(case)
    alone = jax.jit(lambda x: case.fn(x, *case.data))
    for i in range(8):
        np.testing.assert_allclose(alone(x[i]), p[i], rtol=1e-12, atol=1e-12 * size(x)[i])
    np.testing.assert_allclose(case.fn(jnp.asarray(x[0]), *case.data), p[0], rtol=1e-12, atol=1e-12)
    of_trees = ("vector", "plane", "halfspace", "box", "prox_l1", "hyper")
    if not any(kind in case.name for kind in (*MATRICES, "intersection", *of_trees)):
        tree = {"a": jnp.asarray(x[0][:2]), "b": [jnp.asarray(x[0][2:-1]).reshape(1, -1), None, x[0][-1]]}
        new = jax.jit(lambda x: case.fn(x, *case.data))(tree)
        assert jax.tree.structure(new) == jax.tree.structure(tree)
        np.testing.assert_allclose(gx.tree.raveled(new)[0], p[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", costly(CASES), ids=names)
def test_dtypes(case):
    """16-bit leaves are projected in float32, so the result differs from the exact result only by rounding."""
    x = generic(case, 1)[0]
    xs = {dtype: jnp.asarray(x, dtype) for dtype in ("float16", "bfloat16", "float32")}
    new = jax.jit(lambda xs: [case.fn(x, *case.data) for x in xs])(list(xs.values()))
    for (dtype, rounded), p in zip(xs.items(), new, strict=True):
        assert p.dtype == dtype
        assert p.shape == x.shape
        exact = np.asarray(batched(case)(np.tile(np.asarray(rounded, float), (200,) + (1,) * x.ndim)))[0]
        eps = float(jnp.finfo(dtype).eps) + (1e-5 if dtype == "float32" else 1e-4)
        np.testing.assert_allclose(np.asarray(p, float), exact, atol=eps * size(exact[None])[0], rtol=eps)


def tangents(case):
    """Returns the derivative along a direction of the point and of the data, and its transpose."""

    @jax.jit
    @jax.vmap
    def both(x, data, dx, ddata, w):
        p, dp = jax.jvp(case.fn, (x, *data), (dx, *ddata))
        _, back = jax.vjp(case.fn, x, *data)
        return p, dp, back(w)

    return both


@functools.cache
def directions(case, count):
    rng = np.random.default_rng(2)
    data = tuple(np.broadcast_to(np.asarray(d, float), (count, *np.shape(d))) for d in case.data)
    dx, w = (rng.normal(size=(count, *case.shape)) for _ in range(2))
    return data, dx, tuple(0.1 * rng.normal(size=d.shape) for d in data), w


@pytest.mark.parametrize("case", costly(CASES), ids=names)
def test_derivatives(case):
    """Forward and reverse mode agree, equal difference quotients at generic points, and are finite at all points."""
    count, h = 16, 1e-6
    x = generic(case, count)
    data, dx, ddata, w = directions(case, count)
    both = tangents(case)
    _, dp, (xbar, *dbar) = both(x, data, dx, ddata, w)
    forward = np.sum(flat(w * dp), axis=1)
    backward = sum(
        np.sum(flat(np.asarray(bar) * d), axis=1) for bar, d in zip((xbar, *dbar), (dx, *ddata), strict=True)
    )
    np.testing.assert_allclose(forward, backward, rtol=1e-7, atol=1e-8)
    value = jax.jit(jax.vmap(lambda x, data: case.fn(x, *data)))
    moved = [
        np.asarray(value(x + s * h * dx, tuple(d + s * h * dd for d, dd in zip(data, ddata, strict=True))))
        for s in (1, -1)
    ]
    np.testing.assert_allclose(dp, (moved[0] - moved[1]) / (2 * h), rtol=1e-5, atol=1e-6)
    degenerate = points(case, count)
    assert all(np.isfinite(part).all() for part in jax.tree.leaves(both(degenerate, data, dx, ddata, w)))
    zeros = np.zeros_like(x)
    if case.name != "projection_intersection, of a ball, a plane and a box":
        assert all(np.isfinite(part).all() for part in jax.tree.leaves(both(zeros, data, dx, ddata, w)))


def test_every_public_projection_and_proximal_operator_has_a_case():
    public = {name for name in gx.__all__ if name.startswith(("projection_", "prox_"))}
    assert public == {case.name.split(",")[0] for case in CASES}


EMPTY = {
    "projection_affine_set": (np.zeros((0, 0)), np.zeros(0)),
    "projection_polyhedron": (),
    "projection_intersection": ([gx.projection_simplex],),
    "projection_box": (0, 1),
    "projection_box_section": (0, 1),
    "projection_vector": (1.0,),
    "projection_hyperplane": (1.0, 1.0),
    "projection_halfspace": (1.0, 1.0),
}


@pytest.mark.parametrize("name", sorted({case.name.split(",")[0] for case in CASES}))
def test_nothing_to_project(name):
    fn, arguments = getattr(gx, name), EMPTY.get(name, ())
    shape = (0, 0) if any(kind in name for kind in MATRICES) else (0,)
    for tree in ({}, None, {"a": np.zeros(shape, np.float32), "b": None}):
        new = fn(tree, *arguments)
        assert jax.tree.structure(new) == jax.tree.structure(tree)
        assert all(x.shape == shape and x.dtype == jnp.float32 for x in jax.tree.leaves(new))


# Where optax has the projection.


SHARED = ["non_negative", "hypercube", "simplex", "l1_ball", "l1_sphere", "l2_ball", "l2_sphere", "linf_ball"]


@pytest.mark.parametrize("name", [*SHARED, "vector", "hyperplane", "halfspace"])
def test_the_names_of_optax(name):
    rng = np.random.default_rng(3)
    x = {"a": jnp.asarray(rng.normal(size=5)), "b": jnp.asarray(rng.normal(size=(2, 2)))}
    a = jax.tree.map(jnp.cos, x)
    arguments = {"vector": (a,), "hyperplane": (a, 0.3), "halfspace": (a, -0.3), "hypercube": (jax.tree.map(abs, a),)}
    ours, theirs = (getattr(module, f"projection_{name}") for module in (gx, optax.projections))
    if name == "hypercube":  # optax's scalar bounds fit a tree of one leaf only
        x, a = x["a"], a["a"]
        arguments = {"hypercube": (abs(a),)}
    for new, old in zip(*(jax.tree.leaves(fn(x, *arguments.get(name, ()))) for fn in (ours, theirs)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-14, atol=1e-14)


@pytest.mark.heavy
def test_where_optax_is_wrong():
    """Zeros onto a sphere, norms that overflow, 16-bit leaves, and derivatives at zero."""
    optax_, zeros = optax.projections, jnp.zeros(4)
    assert np.isnan(optax_.projection_l2_sphere(zeros)).any()
    np.testing.assert_allclose(gx.projection_l2_sphere(zeros), 0.5)
    assert not optax_.projection_l1_sphere(zeros).any()
    np.testing.assert_allclose(gx.projection_l1_sphere(zeros), 0.25)
    huge = jnp.float32([3e30, -4e30])
    assert not optax_.projection_l2_ball(huge).any()
    np.testing.assert_allclose(gx.projection_l2_ball(huge), [0.6, -0.8], rtol=1e-6)
    half = jnp.float16([300, -400])
    assert not optax_.projection_l2_ball(half).any()
    np.testing.assert_allclose(gx.projection_l2_ball(half), [0.6, -0.8], rtol=1e-3)
    slope = jax.grad(lambda x: optax_.projection_l2_sphere(x)[0])(zeros)
    assert np.isnan(slope).any()
    assert np.isfinite(jax.grad(lambda x: gx.projection_l2_sphere(x)[0])(zeros)).all()
    assert np.isnan(optax_.projection_simplex(zeros, 0.0)).any()
    assert not gx.projection_simplex(zeros, 0.0).any()


@pytest.mark.parametrize("name", ["l1_ball", "l1_sphere", "l2_ball", "l2_sphere", "linf_ball", "simplex"])
def test_radius_zero_a_traced_radius_and_the_largest_numbers(name):
    fn = getattr(gx, f"projection_{name}")
    x = jnp.array([1.0, -2.0, 1.0])
    largest = float(jnp.finfo(jnp.float64).max)
    both = jax.jit(jax.value_and_grad(lambda x, s: jnp.sum(fn(x, s) * jnp.arange(3.0)), (0, 1)))
    for point in (x, 0 * x, largest / 2 * x, jnp.full(3, 1e-308)):
        assert not np.any(fn(point, 0.0))
        for radius in (0.0, 1.0, 1e-300):
            value, grads = both(point, radius)
            assert np.isfinite(value)
            assert all(np.isfinite(g).all() for g in grads)
        if name != "linf_ball" and np.abs(point).max() > 1:
            order = 2 if "l2" in name else 1
            np.testing.assert_allclose(np.linalg.norm(fn(point), order), 1, rtol=1e-14)


def test_complex_leaves():
    x = jnp.array([3 + 4j, 0.3j, 0])
    np.testing.assert_allclose(gx.projection_l2_ball(x), x / np.linalg.norm(x))
    np.testing.assert_allclose(gx.projection_linf_ball(x), [0.6 + 0.8j, 0.3j, 0])
    np.testing.assert_allclose(gx.prox_l1(x), [2.4 + 3.2j, 0, 0])
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3))
    p = gx.projection_stiefel(jnp.asarray(a))
    np.testing.assert_allclose(p.conj().T @ p, np.eye(3), atol=1e-14)
    w = np.linalg.eigvalsh(gx.projection_psd_cone(jnp.asarray(a)))
    np.testing.assert_allclose(w, np.maximum(np.linalg.eigvalsh((a + a.conj().T) / 2), 0), atol=1e-14)
    with pytest.raises(TypeError, match="complex"):
        gx.projection_simplex(x)


@pytest.mark.heavy
def test_matrices_with_equal_and_with_no_eigenvalues():
    """The projection is differentiable at equal eigenvalues, although the eigenvectors are not."""
    eye = jnp.eye(3)
    d = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    for fn, at in (
        (gx.projection_psd_cone, -2.0),
        (gx.projection_psd_cone, 2.0),
        (gx.projection_stiefel, 2.0),
        (gx.projection_spectral_ball, 2.0),
        (gx.projection_nuclear_ball, 2.0),
        (gx.prox_nuclear_norm, 2.0),
    ):
        fn = jax.jit(fn)
        _, dp = jax.jvp(fn, (at * eye,), (d,))
        quotient = (fn(at * eye + 1e-6 * d) - fn(at * eye - 1e-6 * d)) / 2e-6
        np.testing.assert_allclose(dp, quotient, atol=1e-5)
        assert np.isfinite(jax.jacrev(fn)(0 * eye)).all()


@pytest.mark.heavy
def test_sinkhorn():
    rng = np.random.default_rng(0)
    x, a, b = rng.normal(size=(5, 4)), rng.random(5), rng.random(4)
    a, b = a / a.sum(), b / b.sum()
    for epsilon in (1.0, 0.05):
        p = np.asarray(gx.sinkhorn(jnp.asarray(x), a, b, epsilon))
        np.testing.assert_allclose(p.sum(0), b, rtol=1e-12)
        np.testing.assert_allclose(p.sum(1), a, atol=1e-9)
        # That epsilon log p - x is u_i + v_j makes it optimal: the problem is convex.
        duals = epsilon * np.log(p) - x
        sums = duals[:, :1] + duals[:1] - duals[0, 0]
        np.testing.assert_allclose(duals, sums, atol=1e-12)
    margins = gx.sinkhorn(jnp.asarray(x), np.array([0, 0.2, 0.3, 0.5, 0]), b)
    np.testing.assert_allclose(margins.sum(1), [0, 0.2, 0.3, 0.5, 0], atol=1e-9)

    def plan(x, a, b, epsilon):
        return gx.sinkhorn(x, a / a.sum(), b / b.sum(), epsilon, tol=1e-14)

    at = (jnp.asarray(x), jnp.asarray(a), jnp.asarray(b), jnp.asarray(0.5))
    along = tuple(jnp.asarray(0.1 * rng.normal(size=np.shape(part))) for part in at)
    w = rng.normal(size=x.shape)
    _, dp = jax.jvp(plan, at, along)
    here, there = (plan(*(p + h * d for p, d in zip(at, along, strict=True))) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(dp, (here - there) / 2e-5, atol=1e-7)
    back = jax.vjp(plan, *at)[1](jnp.asarray(w))
    np.testing.assert_allclose(sum(jnp.sum(p * d) for p, d in zip(back, along, strict=True)), jnp.sum(w * dp))


@pytest.mark.heavy
def test_sets_without_points_give_nan():
    x = jnp.ones(2)
    assert np.isnan(gx.projection_polyhedron(x, G=jnp.array([[1.0, 0], [-1, 0]]), h=jnp.array([0.0, -1]))).all()
    assert np.isnan(gx.projection_polyhedron(x, [[1.0, 1]], [2.0], [[1.0, 1]], [1.0])).all()
    assert np.isnan(gx.projection_box_section(x, 0.0, 0.25, 1, 1.0)).all()


def test_a_box_section_at_its_corners():
    for c, p in ((2.0, 1.0), (0.0, 0.0)):
        np.testing.assert_allclose(gx.projection_box_section(jnp.array([0.3, -5.0]), 0, 1, 1, c), p)


@pytest.mark.heavy
def test_intersections_of_other_trees_and_with_outer_derivatives():
    """Data of the sets that a function closes over have derivatives, also under jit and vmap."""

    def loss(radius, x):
        sets = [lambda p: gx.projection_l2_ball(p, radius), gx.projection_non_negative]
        p = gx.projection_intersection(x, sets, tol=1e-13)
        return p["a"] @ jnp.array([1.0, 2.0]) + p["b"]

    x = {"a": jnp.array([2.0, -1.0]), "b": jnp.array(1.0)}
    quotient = (loss(1 + 1e-6, x) - loss(1 - 1e-6, x)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(1.0, x), quotient, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(lambda r: loss(r, x), (1.0,), (1.0,))[1], quotient, rtol=1e-6)
    radii = jnp.array([0.5, 1.0, 5.0])
    many = jax.jit(jax.vmap(jax.grad(loss), (0, None)))(radii, x)
    np.testing.assert_allclose(many, [jax.grad(loss)(r, x) for r in radii], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: gx.projection_simplex(x, -1.0), "scale must be in"),
        (lambda x: gx.projection_simplex(x, jnp.ones(2)), "one number"),
        (lambda x: gx.projection_simplex({"w": jnp.arange(3)}), r"\['w'\] tree has dtype int"),
        (lambda x: gx.projection_box(x, 1, 0), "no number between"),
        (lambda x: gx.projection_box(x, jnp.zeros(2), 1), "shape"),
        (lambda x: gx.projection_box({"a": x}, {"b": 0}, 1), "has no leaf at"),
        (lambda x: gx.projection_hyperplane(x, jnp.ones(2), 0), "shape"),
        (lambda x: gx.projection_vector(x, {"a": x}), "tree of a"),
        (lambda x: gx.projection_affine_set(x, jnp.ones((1, 2)), jnp.ones(1)), "a column for each of the 3 entries"),
        (lambda x: gx.projection_polyhedron(x, G=jnp.ones((1, 3))), "h a vector"),
        (lambda x: gx.projection_psd_cone(jnp.ones((2, 3))), "square"),
        (lambda x: gx.projection_stiefel(x), "Project only the leaves that are matrices"),
        (lambda x: gx.projection_transport(x), "plans are matrices"),
        (lambda x: gx.projection_transport(jnp.ones((2, 2)), np.ones(3)), "an entry for each row"),
        (lambda x: gx.projection_transport(jnp.ones((2, 2)), np.ones(2), np.array([0.5, 1])), "Divide each by its sum"),
        (lambda x: gx.sinkhorn(jnp.ones((2, 2)), np.array([-1.0, 1])), "must not be negative"),
        (lambda x: gx.sinkhorn(jnp.ones((2, 2)), epsilon=0), "epsilon must be in"),
        (lambda x: gx.projection_intersection(x, [1.0]), "functions from a tree to a tree"),
        (lambda x: gx.projection_intersection(x, [lambda x: x[:1]]), "has shape"),
        (lambda x: gx.projection_intersection(x, [gx.projection_simplex], tol=-1.0), "tol must be"),
        (lambda x: gx.prox_l1(x, -1.0), "reg must be in"),
        (lambda x: gx.prox_l1(x, scaling=-1.0), "scaling must be in"),
        (lambda x: gx.prox_group_lasso(x, axis=1), "axis is 1"),
        (lambda x: gx.prox_l2(x, jnp.ones(3)), "one number"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call(jnp.ones(3))
