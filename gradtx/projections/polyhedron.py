"""Projections onto the solutions of linear equations and onto polyhedra.

    projection_affine_set    A p = b                   p = x - A^+ (A x - b)
    projection_polyhedron    A p = b,  G p <= h        p = x - A^T l - G^T m,  m >= 0,  m (G p - h) = 0

The equations are eliminated first. Then a dual active-set method goes from the nearest point of the affine set to the
solution: it adds the inequality that is violated most to the active set, and drops inequalities whose multipliers would
become negative (Goldfarb and Idnani, 1983, "A numerically stable dual method for solving strictly convex quadratic
programs"). The method ends after finitely many steps with the exact active set. The solution is then the projection
onto the affine set on which the active inequalities hold with equality. An inequality counts as violated if it is
missed by more than 100 units of rounding. The derivative is implicit, with the same active set.

Each step updates a dense matrix with a row for each inequality, so use the method for hundreds of inequalities, not
thousands.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, mesh
from gradtx.projections.vector import vector

__all__ = ["projection_affine_set", "projection_polyhedron"]


def projection_affine_set(tree: Any, A: Any, b: Any) -> Any:  # noqa: N803
    """Projects onto all vectors p with A p = b.

    Args:
      tree: The tree to project, treated as one vector. Leaves must be real.
      A: A matrix with a column for each entry of the tree; it may have any rank.
      b: A vector with an entry for each row of `A`. If there is no solution, the result is the nearest
        least-squares solution.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_affine_set(jnp.array([1.0, 2.0, 3.0]), jnp.array([[1.0, 1.0, 0.0]]), jnp.ones(1)))
    [0. 1. 3.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `A` or `b` has a wrong shape.
    """
    who = "projection_affine_set"
    x, restored = vector(who, tree)
    matrix, right = _system(who, ("A", "b"), (A, b), x)
    return restored(_on_affine(x, matrix, right))


def projection_polyhedron(
    tree: Any,
    A: Any = None,  # noqa: N803
    b: Any = None,
    G: Any = None,  # noqa: N803
    h: Any = None,
) -> Any:
    """Projects onto a polyhedron: all vectors p with A p = b and G p <= h.

    Use it for up to a few hundred inequalities.

    Args:
      tree: The tree to project, treated as one vector. Leaves must be real.
      A: The matrix of the equations, with a column for each entry of the tree. None (default) for no equations.
      b: The right side of the equations, a vector. Pass `A` and `b` together.
      G: The matrix of the inequalities, with a column for each entry of the tree. None (default) for no
        inequalities.
      h: The right side of the inequalities, a vector. Pass `G` and `h` together.

    Returns:
      A tree like `tree`; NaN if no point satisfies the conditions.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> x = jnp.array([1.0, 2.0, 3.0])
    >>> print(gx.projection_polyhedron(x, G=jnp.array([[0.0, 1.0, 1.0]]), h=jnp.array([4.0])).round(4))
    [1.  1.5 2.5]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: a matrix or vector has a wrong shape, or only one of `A` and `b` (or of `G` and `h`) is given.
    """
    who = "projection_polyhedron"
    x, restored = vector(who, tree)
    equations = _system(who, ("A", "b"), (A, b), x)
    return restored(_in_polyhedron(x, *equations, *_system(who, ("G", "h"), (G, h), x)))


def _system(who: str, names: tuple[str, str], data: tuple[Any, Any], x: Array) -> tuple[Array, Array]:
    """Returns a checked matrix and vector, whose shapes match `x` and each other; both have no rows if both are
    None.
    """
    if all(part is None for part in data):
        return jnp.zeros((0, x.size), x.dtype), jnp.zeros(0, x.dtype)
    for name, part in zip(names, data, strict=True):
        if part is None or isinstance(part, (dict, str)):
            raise ValueError(
                f"{who}: {names[0]} must be a matrix and {names[1]} a vector, got {checks.shown(part)} for {name}."
            )
    matrix, right = (jnp.asarray(part).astype(x.dtype) for part in data)
    if matrix.ndim != 2 or matrix.shape[1] != x.size or right.shape != matrix.shape[:1]:
        raise ValueError(
            f"{who}: {names[0]} must have a column for each of the {x.size} entries of the tree, and {names[1]} an "
            f"entry for each row of {names[0]}; got shapes {matrix.shape} and {right.shape}."
        )
    return matrix, right


@jax.jit
def _on_affine(x: Array, matrix: Array, right: Array) -> Array:
    if not matrix.size:
        return x
    inverse = jnp.linalg.pinv(matrix)
    for _ in range(3):  # later passes remove the rounding errors of earlier ones
        x = x - inverse @ (matrix @ x - right)
    return x


class _Solution(NamedTuple):
    p: Array
    active: Array  # True for inequalities that hold with equality and are needed


@jax.jit
def _solve(x: Array, A: Array, b: Array, G: Array, h: Array) -> _Solution:  # noqa: N803
    """Returns the nearest point of a polyhedron, and the inequalities that are active at that point."""
    start = _on_affine(x, A, b)
    rows, bounds = G, h
    if A.size:
        inverse = jnp.linalg.pinv(A)
        rows, bounds = G - (G @ inverse) @ A, h - G @ (inverse @ b)
    sizes, before = (jnp.sqrt(jnp.sum(m * m, axis=1)) for m in (rows, G))
    eps = jnp.finfo(x.dtype).eps
    some = sizes > 1e3 * eps * before  # False: the equations already decide the inequality
    divisor = jnp.where(some, sizes, 1)
    rows, bounds = jnp.where(some[:, None], rows / divisor[:, None], 0), bounds / divisor
    reached = _reached(jnp.append(start, bounds))
    empty = jnp.any(~some & (bounds < -reached))
    p, active, found = _goldfarb_idnani(start, rows, jnp.where(some, bounds, jnp.inf))
    return _Solution(jnp.where(found & ~empty, _on_affine(p, A, b), jnp.nan), active)


def _reached(numbers: Array) -> Array:
    """Returns the rounding error to expect in a result that is computed from these numbers."""
    size = jnp.max(jnp.abs(jnp.where(jnp.isfinite(numbers), numbers, 0)), initial=0)
    return 100 * jnp.finfo(numbers.dtype).eps * size


class _Search(NamedTuple):
    x: Array
    active: Array
    inverse: Array  # inverse of N N^T, where N holds the active rows; zeros for inactive rows
    multipliers: Array
    adding: Array  # the inequality that is being added, -1 for none
    added: Array  # its multiplier so far
    tol: Array
    steps: Array
    empty: Array


def _violation(s: _Search, rows: Array, bounds: Array) -> Array:
    return jnp.where(s.active, -jnp.inf, rows @ s.x - bounds)


def _step(s: _Search, rows: Array, bounds: Array) -> _Search:
    """Adds one inequality to the active set, or drops one."""
    eps, places = jnp.finfo(s.x.dtype).eps, jnp.arange(bounds.size)
    adding = jnp.where(s.adding >= 0, s.adding, jnp.argmax(_violation(s, rows, bounds)).astype(jnp.int32))
    normal = rows[adding]
    held = jnp.where(s.active[:, None], rows, 0)
    change = s.inverse @ (held @ normal)
    for _ in range(2):  # corrects the rounding of the inverse
        change = change + s.inverse @ (held @ (normal - held.T @ change))
    along = normal - held.T @ change
    length = along @ along
    free = length > 100 * eps
    blocked = s.active & (change > 100 * eps)
    ratios = jnp.where(blocked, s.multipliers / jnp.where(blocked, change, 1), jnp.inf)
    drop, far = jnp.argmin(ratios), jnp.min(ratios)
    full = jnp.where(free, (normal @ s.x - bounds[adding]) / jnp.where(free, length, 1), jnp.inf)
    step = jnp.minimum(far, full)
    done, empty = full <= far, jnp.isinf(step)
    step = jnp.where(empty, 0, step)
    multipliers = jnp.maximum(s.multipliers - step * jnp.where(s.active, change, 0), 0)
    added = s.added + step
    here = places == adding
    there = places == drop
    border = jnp.where(here, -1, change)
    column = s.inverse[:, drop]
    larger = s.inverse + border[:, None] * border[None, :] / jnp.where(free, length, 1)
    smaller = s.inverse - column[:, None] * column[None, :] / jnp.where(s.active[drop], column[drop], 1)
    smaller = jnp.where(there[:, None] | there[None, :], 0, smaller)
    return _Search(
        s.x - jnp.where(free, step, 0) * along,
        jnp.where(done & ~empty, s.active | here, s.active & ~there),
        jnp.where(done, larger, smaller),
        jnp.where(done & here, added, jnp.where(~done & there, 0, multipliers)),
        jnp.where(done, -1, adding),
        jnp.where(done, 0, added),
        s.tol,
        s.steps + 1,
        empty,
    )


def _goldfarb_idnani(x: Array, rows: Array, bounds: Array) -> tuple[Array, Array, Array]:
    """Returns the nearest point, its active set, and whether it was found; rows must have length 1."""
    m = bounds.size
    if not m:
        return x, jnp.zeros(0, bool), jnp.array(True)
    most = 20 * (m + 5)

    def unfinished(s: _Search) -> Array:
        wanted = (s.adding >= 0) | (jnp.max(_violation(s, rows, bounds)) > s.tol)
        return wanted & ~s.empty & (s.steps < most)

    def settled(_: int, s: _Search) -> _Search:
        """Continues the search to its end, and then computes the point of the active set to full precision.

        If x is far away, the recomputed point is much more accurate than the points of the search. So the search is
        then continued from the recomputed point.
        """
        s = mesh.while_loop(
            unfinished, partial(_step, rows=rows, bounds=bounds), s._replace(tol=_reached(jnp.append(s.x, bounds)))
        )
        held, x = jnp.where(s.active[:, None], rows, 0), s.x
        for _ in range(3):
            x = x - held.T @ (s.inverse @ (held @ x - jnp.where(s.active, bounds, 0)))
        return s._replace(x=x)

    zeros, none, steps = jnp.zeros_like(bounds), jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32)
    square = jnp.zeros((m, m), x.dtype)
    first = _Search(x, jnp.zeros(m, bool), square, zeros, steps - 1, none, none, steps, jnp.array(False))
    last = mesh.fori_loop(0, 2, settled, first)
    return last.x, last.active, ~last.empty & (last.steps < most)


@jax.custom_jvp
def _in_polyhedron(x: Array, A: Array, b: Array, G: Array, h: Array) -> Array:  # noqa: N803
    return _solve(x, A, b, G, h).p


@_in_polyhedron.defjvp
def _in_polyhedron_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    x, A, _, G, _ = primals  # noqa: N806
    dx, dA, db, dG, dh = tangents  # noqa: N806
    p, active = _solve(*primals)
    # With the active rows M and multipliers l:  p + M^T l = x  and  M p = r.
    held, dheld = (jnp.concatenate([a, jnp.where(active[:, None], g, 0)]) for a, g in ((A, G), (dA, dG)))
    if not held.size:
        return p, dx
    inverse = jnp.linalg.pinv(held)
    multipliers = inverse.T @ (x - p)
    moved = dx - dheld.T @ multipliers
    right = jnp.concatenate([db, jnp.where(active, dh, 0)]) - dheld @ p
    return p, moved - inverse @ (held @ moved - right)
