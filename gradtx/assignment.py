"""Assignment problems: match rows with columns so that the sum of the costs is as small as possible.

    minimize  sum_k C[i_k, j_k]      over min(n, m) pairs (i_k, j_k) that share no row and no column

Each row in turn gets a column along the shortest path of reassignments, by Dijkstra's algorithm on the reduced
costs C[i, j] - u[i] - v[j] >= 0, where u and v are dual variables. It takes O(n^2 m) operations for n <= m (Crouse,
2016, "On implementing 2D rectangular assignment algorithms"; Jonker and Volgenant, 1987).

Here a cost is a pair: its number of infinities, and its finite part. Pairs are added by parts, and compared by the
first part, then by the second. So an infinite cost is dearer than any sum of finite costs, and infinities are never
subtracted from each other.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer

from gradtx import checks, leaf, mesh

__all__ = ["hungarian_algorithm"]


def hungarian_algorithm(cost_matrix: Any) -> tuple[Array, Array]:
    """Assigns rows to columns at the least total cost.

    Use it to match predictions with targets (as in DETR), or tracks with detections. It works under `jax.jit` and
    `jax.vmap`. The pairs are integers, so there is no derivative of their choice; `cost_matrix[i, j].sum()` has the
    derivative of the sum of the chosen costs.

    Args:
      cost_matrix: The cost of each pair, an array of shape (rows, columns). Arithmetic is in float32 or wider, so
        an assignment may be dearer than the best one by rounding errors. A cost of inf forbids a pair: the result
        has as few forbidden pairs as possible, and among such results the least sum of finite costs. If every
        assignment has a forbidden pair, `cost_matrix[i, j].sum()` is infinite. Costs of -inf are chosen first.

    Returns:
      Two integer arrays (i, j) of length min(rows, columns): row `i[k]` goes with column `j[k]`. The rows ascend.

    Raises:
      TypeError: the costs are complex or not numbers.
      ValueError: `cost_matrix` is not a matrix, or contains NaN. In traced code, NaN counts as a forbidden pair
        instead.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> cost = jnp.array([[8.0, 4.0, 7.0], [5.0, 2.0, 3.0], [9.0, 6.0, 7.0], [9.0, 4.0, 8.0]])
    >>> i, j = gx.assignment.hungarian_algorithm(cost)
    >>> print(i, j, cost[i, j].sum())
    [0 1 3] [0 2 1] 15.0
    """
    costs = _checked(cost_matrix)
    rows, columns = costs.shape
    if not costs.size:
        return jnp.zeros(0, int), jnp.zeros(0, int)
    if rows > columns:
        row_of = _columns(costs.T)
        j = jnp.argsort(row_of)
        return row_of[j], j
    return jnp.arange(rows), _columns(costs)


def _checked(cost_matrix: Any) -> Array:
    who = "assignment.hungarian_algorithm"
    kind = checks.kind(getattr(cost_matrix, "dtype", None) or np.asarray(cost_matrix).dtype)
    if kind not in ("real", "integer", "bool"):
        raise TypeError(f"{who}: cost_matrix must hold real numbers, got {checks.shown(cost_matrix)}.")
    if np.ndim(cost_matrix) != 2:
        raise ValueError(
            f"{who}: cost_matrix must have two axes, (rows, columns), got shape {np.shape(cost_matrix)}. "
            "Use jax.vmap for several matrices."
        )
    costs = lax.stop_gradient(jnp.asarray(cost_matrix))
    costs = leaf.widen(costs) if kind == "real" else costs.astype(float)
    if not isinstance(costs, Tracer) and bool(jnp.any(jnp.isnan(costs))):
        raise ValueError(f"{who}: cost_matrix has a NaN. Give inf as the cost of a pair that must not be chosen.")
    return mesh.whole(costs)


def _less(a: Array, b: Array) -> Array:
    return (a[0] < b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))


def _pairs(costs: Array) -> Array:
    """Returns the costs as (number of infinities, finite part); finite parts are scaled to a size of at most 1."""
    finite, _ = leaf.in_units(jnp.where(jnp.isfinite(costs), costs, 0))
    infinities = jnp.where(jnp.isnan(costs), 1, jnp.where(jnp.isinf(costs), jnp.sign(costs), 0))
    return jnp.stack([infinities, finite])


def _columns(costs: Array) -> Array:
    """Returns the column of each row, for a matrix with no more rows than columns."""
    c = _pairs(costs)
    _, n, m = c.shape
    free = jnp.full(m, -1), jnp.full(n, -1)
    duals = jnp.zeros((2, n), c.dtype), jnp.zeros((2, m), c.dtype)
    return mesh.fori_loop(0, n, lambda row, carry: _with_row(c, row, *carry), (*duals, *free))[3]


def _with_row(c: Array, row: Any, u: Array, v: Array, row_of: Array, column_of: Array) -> tuple[Array, ...]:
    """Returns the dual variables and the assignment after one more row has got a column."""
    row = jnp.asarray(row, row_of.dtype)
    sink, distance, least, visited, via = _shortest_path(c, row, u, v, row_of)
    # Rows on the shortest paths: this one, and those whose columns were visited.
    assigned = jnp.maximum(column_of, 0)
    passed = (column_of >= 0) & visited[assigned]
    u = jnp.where(passed, u + distance[:, None] - least[:, assigned], u).at[:, row].add(distance)
    v = jnp.where(visited, v + least - distance[:, None], v)

    def reassign(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        column, row_of, column_of, _ = carry
        i = via[column]
        return column_of[i], row_of.at[column].set(i), column_of.at[i].set(column), i == row

    start = sink, row_of, column_of, jnp.zeros((), bool)
    _, row_of, column_of, _ = mesh.while_loop(lambda carry: ~carry[3], reassign, start)
    return u, v, row_of, column_of


def _shortest_path(c: Array, row: Any, u: Array, v: Array, row_of: Array) -> tuple[Array, ...]:
    """Returns the nearest free column and its distance, and for all columns distances, visits and the rows before."""
    m = c.shape[2]
    columns = jnp.arange(m)

    def visit(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        i, _, distance, least, visited, via = carry
        here = (c[:, i] - v) + (distance - u[:, i])[:, None]
        nearer = ~visited & _less(here, least)
        least, via = jnp.where(nearer, here, least), jnp.where(nearer, i, via)
        first = jnp.where(visited, jnp.inf, least[0])
        second = jnp.where(first == jnp.min(first), least[1], jnp.inf)
        nearest = second == jnp.min(second)
        # Among equally near columns, prefer a free one, which ends the search.
        column = jnp.argmax(nearest * (1 + (row_of < 0)))
        return row_of[column], column, least[:, column], least, visited | (columns == column), via

    least = jnp.full((2, m), jnp.inf, c.dtype)
    start = row, jnp.zeros_like(row), jnp.zeros(2, c.dtype), least, jnp.zeros(m, bool), jnp.full(m, -1)
    _, *found = mesh.while_loop(lambda carry: carry[0] >= 0, visit, start)
    return tuple(found)
