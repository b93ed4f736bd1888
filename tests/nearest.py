"""The registry of projections and proximal operators: a case for each; all their tests run over these cases.

A case is a function of a point and of data, and an independent statement of the same problem: a penalty and constraints
for cvxpy, or, for a set that is not convex, the nearest point by enumeration or in closed form, in NumPy.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np

import gradtx as gx


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    fn: Callable  # (x, *data) -> p
    data: tuple = ()
    shape: tuple = (6,)
    problem: Callable | None = None  # (variable, *data) -> (penalty or 0, constraints)
    reference: Callable | None = None  # (x, *data) -> p, where the set is not convex
    violation: Callable | None = None  # (p, *data) -> how far p is from the set
    symmetric: bool = False  # the variable of cvxpy is a symmetric matrix
    cone: bool = False  # needs a solver for cones, which is less exact
    far: bool = True  # works for points whose distance is a thousand or a million times the size of the set

    @property
    def convex(self):
        return self.reference is None

    @property
    def is_set(self):
        return self.violation is not None


RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


def positive(p):
    return np.maximum(-p, 0).max(initial=0)


def off(a, b):
    return np.abs(np.asarray(a) - b).max(initial=0)


def above(a, b):
    return np.maximum(np.asarray(a) - b, 0).max(initial=0)


# Not convex: the nearest point by enumeration, or in closed form.


def on_l1_sphere(x, s):
    """Returns the nearest point whose absolute values sum to s, by enumerating all signs and supports."""
    best, least = None, np.inf
    for signs in itertools.product((-1, 1), repeat=x.size):
        for support in itertools.product((0, 1), repeat=x.size):
            held = np.array(support, bool)
            if not held.any():
                continue
            sign = np.array(signs)
            p = np.where(held, x + sign * (s - (sign * x)[held].sum()) / held.sum(), 0)
            d = np.linalg.norm(p - x)
            if (p * sign >= 0).all() and d < least:
                best, least = p, d
    return best


def on_l2_sphere(x, s):
    n = np.linalg.norm(x)
    return x / n * s if n else np.full_like(x, s / np.sqrt(x.size))


def on_stiefel(x):
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    return u @ vh


A = normal(2, 6)
G, H = normal(9, 6), RNG.uniform(0.2, 1.0, 9)
LOWER, UPPER, W = -RNG.uniform(0.1, 1, 6), RNG.uniform(0.1, 1, 6), normal(6)
ROWS, COLUMNS = np.array([0.21, 0.33, 0.46]), np.array([0.13, 0.38, 0.22, 0.27])
A3 = np.concatenate([A, A.sum(0, keepdims=True)])


def share(a):
    return a / a.sum()


def intersection(*projections):
    return lambda x, *data: gx.projection_intersection(
        x, [lambda p, fn=fn: fn(p, *data) for fn in projections], tol=1e-13
    )


CASES = [
    Case(
        "projection_non_negative",
        gx.projection_non_negative,
        problem=lambda v: (0, [v >= 0]),
        violation=positive,
    ),
    Case(
        "projection_box",
        gx.projection_box,
        (LOWER, UPPER),
        problem=lambda v, lower, upper: (0, [v >= lower, v <= upper]),
        violation=lambda p, lower, upper: max(above(p, upper), above(lower, p)),
    ),
    Case(
        "projection_hypercube",
        gx.projection_hypercube,
        (0.7,),
        problem=lambda v, s: (0, [v >= 0, v <= s]),
        violation=lambda p, s: max(positive(p), above(p, s)),
    ),
    Case(
        "projection_linf_ball",
        gx.projection_linf_ball,
        (0.7,),
        problem=lambda v, s: (0, [cp.norm_inf(v) <= s]),
        violation=lambda p, s: above(np.abs(p), s),
    ),
    Case(
        "projection_l1_ball",
        gx.projection_l1_ball,
        (1.3,),
        problem=lambda v, s: (0, [cp.norm1(v) <= s]),
        violation=lambda p, s: above(np.abs(p).sum(), s),
    ),
    Case(
        "projection_l2_ball",
        gx.projection_l2_ball,
        (1.3,),
        problem=lambda v, s: (0, [cp.norm2(v) <= s]),
        violation=lambda p, s: above(np.linalg.norm(p), s),
        cone=True,
    ),
    Case(
        "projection_l1_sphere",
        gx.projection_l1_sphere,
        (1.3,),
        shape=(5,),
        reference=on_l1_sphere,
        violation=lambda p, s: off(np.abs(p).sum(), s),
    ),
    Case(
        "projection_l2_sphere",
        gx.projection_l2_sphere,
        (1.3,),
        reference=on_l2_sphere,
        violation=lambda p, s: off(np.linalg.norm(p), s),
    ),
    Case(
        "projection_simplex",
        gx.projection_simplex,
        (1.3,),
        problem=lambda v, s: (0, [v >= 0, cp.sum(v) == s]),
        violation=lambda p, s: max(positive(p), off(p.sum(), s)),
    ),
    Case(
        "projection_vector",
        gx.projection_vector,
        (W,),
        problem=lambda v, a: (0, [v == cp.Variable() * a]),
        violation=lambda p, a: off(p, a * (p @ a) / (a @ a)),
    ),
    Case(
        "projection_hyperplane",
        gx.projection_hyperplane,
        (W, 0.4),
        problem=lambda v, a, b: (0, [a @ v == b]),
        violation=lambda p, a, b: off(a @ p, b),
    ),
    Case(
        "projection_halfspace",
        gx.projection_halfspace,
        (W, 0.4),
        problem=lambda v, a, b: (0, [a @ v <= b]),
        violation=lambda p, a, b: above(a @ p, b),
    ),
    Case(
        "projection_affine_set",
        gx.projection_affine_set,
        (A, normal(2)),
        problem=lambda v, A, b: (0, [A @ v == b]),
        violation=lambda p, A, b: off(A @ p, b),
    ),
    Case(
        "projection_affine_set, dependent rows",
        lambda x, A, y: gx.projection_affine_set(x, jnp.concatenate([A, A[:1] + A[1:]]), jnp.append(y, y.sum())),
        (A, normal(2)),
        problem=lambda v, A, b: (0, [A @ v == b]),
        violation=lambda p, A, b: off(A @ p, b),
    ),
    Case(
        "projection_polyhedron",
        gx.projection_polyhedron,
        (A, A @ (0.1 * W), G, G @ (0.1 * W) + H),
        problem=lambda v, A, b, G, h: (0, [A @ v == b, G @ v <= h]),
        violation=lambda p, A, b, G, h: max(off(A @ p, b), above(G @ p, h)),
    ),
    Case(
        "projection_polyhedron, inequalities, one twice",
        lambda x, G, h: gx.projection_polyhedron(x, G=jnp.concatenate([G, G]), h=jnp.concatenate([h, h])),
        (G, H),
        problem=lambda v, G, h: (0, [G @ v <= h]),
        violation=lambda p, G, h: above(G @ p, h),
    ),
    Case(
        "projection_second_order_cone",
        gx.projection_second_order_cone,
        (0.8,),
        problem=lambda v, s: (0, [cp.norm2(v[:-1]) <= s * v[-1]]),
        violation=lambda p, s: above(np.linalg.norm(p[:-1]), s * p[-1]),
        cone=True,
    ),
    Case(
        "projection_psd_cone",
        gx.projection_psd_cone,
        shape=(3, 3),
        problem=lambda v: (0, [v >> 0]),
        violation=lambda p: max(positive(np.linalg.eigvalsh(p)), off(p, p.T)),
        symmetric=True,
        cone=True,
    ),
    Case(
        "projection_spectral_ball",
        gx.projection_spectral_ball,
        (0.9,),
        shape=(3, 2),
        problem=lambda v, s: (0, [cp.sigma_max(v) <= s]),
        violation=lambda p, s: above(np.linalg.norm(p, 2), s),
        cone=True,
    ),
    Case(
        "projection_nuclear_ball",
        gx.projection_nuclear_ball,
        (0.9,),
        shape=(2, 3),
        problem=lambda v, s: (0, [cp.normNuc(v) <= s]),
        violation=lambda p, s: above(np.linalg.norm(p, "nuc"), s),
        cone=True,
    ),
    Case(
        "projection_stiefel",
        gx.projection_stiefel,
        shape=(4, 3),
        reference=on_stiefel,
        violation=lambda p: off(p.T @ p, np.eye(3)),
    ),
    Case(
        "projection_transport",
        lambda x, a, b: gx.projection_transport(x, a / a.sum(), b / b.sum()),
        (ROWS, COLUMNS),
        shape=(3, 4),
        problem=lambda v, a, b: (0, [v >= 0, cp.sum(v, axis=1) == share(a), cp.sum(v, axis=0) == share(b)]),
        violation=lambda p, a, b: max(positive(p), off(p.sum(1), share(a)), off(p.sum(0), share(b))),
    ),
    Case(
        "projection_monotone",
        gx.projection_monotone,
        problem=lambda v: (0, [cp.diff(v) >= 0]),
        violation=lambda p: positive(np.diff(p)),
    ),
    Case(
        "projection_monotone, decreasing",
        lambda x: gx.projection_monotone(x, increasing=False),
        problem=lambda v: (0, [cp.diff(v) <= 0]),
        violation=lambda p: positive(-np.diff(p)),
    ),
    Case(
        "projection_ordered_simplex",
        gx.projection_ordered_simplex,
        (1.3,),
        problem=lambda v, s: (0, [v >= 0, cp.sum(v) == s, cp.diff(v) >= 0]),
        violation=lambda p, s: max(positive(p), off(p.sum(), s), positive(np.diff(p))),
    ),
    Case(
        "projection_ordered_simplex, decreasing",
        lambda x, s: gx.projection_ordered_simplex(x, s, increasing=False),
        (1.3,),
        problem=lambda v, s: (0, [v >= 0, cp.sum(v) == s, cp.diff(v) <= 0]),
        violation=lambda p, s: max(positive(p), off(p.sum(), s), positive(-np.diff(p))),
    ),
    Case(
        "projection_box_section",
        gx.projection_box_section,
        (LOWER, UPPER, W, 0.3),
        problem=lambda v, lower, upper, w, c: (0, [v >= lower, v <= upper, w @ v == c]),
        violation=lambda p, lower, upper, w, c: max(above(p, upper), above(lower, p), off(w @ p, c)),
    ),
    Case(
        "projection_box_section, half open, a weight of zero",
        lambda x, lower, w, c: gx.projection_box_section(x, lower, jnp.inf, w * np.array([0, 1, 1, 1, 1, 1]), c),
        (LOWER, np.abs(W), 0.3),
        problem=lambda v, lower, w, c: (0, [v >= lower, (w * np.array([0, 1, 1, 1, 1, 1])) @ v == c]),
        violation=lambda p, lower, w, c: max(above(lower, p), off(w[1:] @ p[1:], c)),
    ),
    Case(
        "projection_intersection, of a ball, a plane and a box",
        intersection(
            lambda p, r, a, b, u: gx.projection_l2_ball(p, r),
            lambda p, r, a, b, u: gx.projection_hyperplane(p, a, b),
            lambda p, r, a, b, u: gx.projection_box(p, -u, u),
        ),
        (1.1, W, 0.4, UPPER),
        problem=lambda v, r, a, b, u: (0, [cp.norm2(v) <= r, a @ v == b, v >= -u, v <= u]),
        violation=lambda p, r, a, b, u: max(above(np.linalg.norm(p), r), off(a @ p, b), above(np.abs(p), u)),
        cone=True,
        far=False,
    ),
    Case(
        "projection_intersection, of the simplex and a half-space",
        intersection(
            lambda p, a, b: gx.projection_halfspace(p, a, b),
            lambda p, a, b: gx.projection_simplex(p),
        ),
        (W, 0.1),
        problem=lambda v, a, b: (0, [v >= 0, cp.sum(v) == 1, a @ v <= b]),
        violation=lambda p, a, b: max(positive(p), off(p.sum(), 1), above(a @ p, b)),
        far=False,
    ),
    Case(
        "prox_l1",
        gx.prox_l1,
        (0.6, 0.7),
        problem=lambda v, r, s: (r * s * cp.norm1(v), []),
    ),
    Case(
        "prox_l1, an l1 for each entry, non-negative",
        lambda x, r, s: gx.prox_l1(x, r, s, non_negative=True),
        (UPPER, 0.7),
        problem=lambda v, r, s: (s * cp.sum(cp.multiply(r, v)), [v >= 0]),
    ),
    Case(
        "prox_l2_squared",
        gx.prox_l2_squared,
        (0.6, 0.7),
        problem=lambda v, r, s: (r * s * cp.sum_squares(v) / 2, []),
    ),
    Case(
        "prox_l2_squared, non-negative",
        lambda x, r, s: gx.prox_l2_squared(x, r, s, non_negative=True),
        (0.6, 0.7),
        problem=lambda v, r, s: (r * s * cp.sum_squares(v) / 2, [v >= 0]),
    ),
    Case(
        "prox_elastic_net",
        gx.prox_elastic_net,
        (0.6, 0.4, 0.7),
        problem=lambda v, r, q, s: (s * (r * cp.norm1(v) + q * cp.sum_squares(v) / 2), []),
    ),
    Case(
        "prox_elastic_net, non-negative",
        lambda x, r, q, s: gx.prox_elastic_net(x, r, q, s, non_negative=True),
        (0.6, 0.4, 0.7),
        problem=lambda v, r, q, s: (s * (r * cp.norm1(v) + q * cp.sum_squares(v) / 2), [v >= 0]),
    ),
    Case(
        "prox_l2",
        gx.prox_l2,
        (2.0, 0.7),
        problem=lambda v, r, s: (r * s * cp.norm2(v), []),
        cone=True,
    ),
    Case(
        "prox_l2, non-negative",
        lambda x, r, s: gx.prox_l2(x, r, s, non_negative=True),
        (2.0, 0.7),
        problem=lambda v, r, s: (r * s * cp.norm2(v), [v >= 0]),
        cone=True,
    ),
    Case(
        "prox_group_lasso, columns",
        lambda x, r, s: gx.prox_group_lasso(x, r, s, axis=0),
        (2.0, 0.7),
        shape=(3, 2),
        problem=lambda v, r, s: (r * s * cp.sum(cp.norm(v, 2, axis=0)), []),
        cone=True,
    ),
    Case(
        "prox_group_lasso, rows, non-negative",
        lambda x, r, s: gx.prox_group_lasso(x, r, s, axis=1, non_negative=True),
        (2.0, 0.7),
        shape=(3, 2),
        problem=lambda v, r, s: (r * s * cp.sum(cp.norm(v, 2, axis=1)), [v >= 0]),
        cone=True,
    ),
    Case(
        "prox_log_barrier",
        gx.prox_log_barrier,
        (0.6, 0.7),
        problem=lambda v, r, s: (-r * s * cp.sum(cp.log(v)), []),
        cone=True,
    ),
    Case(
        "prox_nuclear_norm",
        gx.prox_nuclear_norm,
        (0.6, 0.7),
        shape=(2, 3),
        problem=lambda v, r, s: (r * s * cp.normNuc(v), []),
        cone=True,
    ),
    Case(
        "prox_total_variation",
        gx.prox_total_variation,
        (0.6, 0.7),
        shape=(8,),
        problem=lambda v, r, s: (r * s * cp.norm1(cp.diff(v)), []),
    ),
]


def points(case, count=200):
    """Returns points of all kinds: near, far, inside, on the boundary, with ties, with zeros, and huge points."""
    rng = np.random.default_rng(sum(map(ord, case.name)))
    x = rng.normal(size=(count, *case.shape))
    zero = rng.random(x.shape) < 0.7
    if case.symmetric:
        x, zero = x + x.swapaxes(1, 2), zero & zero.swapaxes(1, 2)
    boundary = np.asarray(jax.jit(jax.vmap(lambda x: case.fn(x, *case.data)))(3 * x))
    kinds = [x, boundary, np.round(x), 0.05 * x, np.where(zero, 0, x), 5 * x]
    if case.far:
        kinds += [1e6 * x, 1e3 * x]
    return np.stack([kinds[i % len(kinds)][i] for i in range(count)])


def generic(case, count=20):
    """Returns random points at which the case is differentiable (with probability one)."""
    return 1.5 * np.random.default_rng(1).normal(size=(count, *case.shape))
