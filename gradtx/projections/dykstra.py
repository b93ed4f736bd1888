"""Projects onto an intersection of convex sets, by projecting onto each set in turn.

    p_0 = x,  q_i = 0
    y = p + q_i,    p = P_i(y),    q_i = y - p          for each set i, again and again

(Boyle and Dykstra, 1986, "A Method for Finding Projections onto the Intersection of Convex Sets in Hilbert Spaces").
The iteration stops when no q_i changes in a round (Birgin and Raydan, 2005, "Robust stopping criteria for Dykstra's
algorithm"). A test of p alone could stop too early, because p may stand still for some rounds and then move again.

The derivative is implicit. At the solution p = P_i(p + q_i) and p + sum q_i = x. Let J_i be the derivative of P_i at
p + q_i, and e_i the change of P_i's result when the arguments that describe its set change. Then

    dp = J_i (dp + dq_i) + e_i,    dp + sum dq_i = dx

So dp is the fixed point of the same algorithm with affine maps in place of the projections. The J_i are symmetric, like
all derivatives of projections, so the transposed map uses the same iteration. For a cotangent w, solve

    a = J_i (a + b_i),    a + sum b_i = w

The cotangent of x is a, and the cotangent of e_i is a + b_i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, mesh
from gradtx import tree as trees
from gradtx.projections.vector import check, narrowed

__all__ = ["projection_intersection"]

Maps = Sequence[Callable[[Array], Array]]


def projection_intersection(
    tree: Any, projections: Sequence[Callable[[Any], Any]], *, tol: float = 1e-10, maxiter: int = 10_000
) -> Any:
    """Projects onto the intersection of several convex sets, given their projections.

    One round projects onto each set once. The number of rounds depends on the angles between the sets, and grows with
    the distance between the tree and curved sets. Call the function inside `jax.jit`: outside, every call compiles the
    loop again.

    Args:
      tree: The tree to project. Leaves must be real.
      projections: A list of functions that take a tree and return a tree of the same structure and shapes, such as
        `gx.projection_simplex`. To pass further arguments, wrap a projection in a lambda. The sets must be convex and
        have a common point.
      tol: Stop when a round changes less than this, relative to the size of the tree (but at least 8 units of
        rounding). Not negative; 1e-10 by default.
      maxiter: Stop after this many rounds. At least 1; 10,000 by default.

    Returns:
      A tree like `tree`. The result is in the last set up to rounding, and in the other sets up to about `tol`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> sets = [gx.projection_simplex, lambda p: gx.projection_box(p, 0.0, 0.5)]
    >>> print(gx.projection_intersection(jnp.array([2.0, 0.5, 0.25]), sets).round(4))
    [0.5   0.375 0.125]

    Raises:
      TypeError: a leaf is complex or not a floating-point array, or an entry of `projections` is not a function.
      ValueError: a projection returns a different tree, or `tol` is negative.
    """
    who = "projection_intersection"
    maxiter = checks.integer(who, "maxiter", maxiter, ge=1)
    if not tol >= 0:
        raise ValueError(f"{who}: tol must be a number that is not negative, got {tol!r}.")
    for projection in projections:
        if not callable(projection):
            raise TypeError(
                f"{who}: projections must be functions from a tree to a tree, such as gx.projection_simplex, got "
                f"{checks.shown(projection)}. Bind a set's data with a lambda."
            )
    check(who, tree)
    dtype = trees.number(tree, 0).dtype  # dtype of all leaves during the rounds, so that rounding does not disturb them
    wide = jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), tree)
    x, restored = trees.raveled(wide)
    if not x.size or not projections:
        return tree
    like = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), wide)
    for i, projection in enumerate(projections):
        _check_result(who, i, jax.eval_shape(projection, like), like)

    def flat(projection: Callable[[Any], Any]) -> Callable[[Array], Array]:
        return lambda x: trees.raveled(projection(restored(x)))[0].astype(x.dtype)

    converted = [jax.closure_convert(flat(projection), x) for projection in projections]
    functions = tuple(fn for fn, _ in converted)
    p = _dykstra(functions, max(tol, 8 * float(jnp.finfo(x.dtype).eps)), maxiter, x, [data for _, data in converted])
    return narrowed(jax.tree.leaves(restored(p)), tree)


def _check_result(who: str, i: int, result: Any, like: Any) -> None:
    name = f"the result of projections[{i}]"
    if jax.tree.structure(result) != jax.tree.structure(like):
        raise checks.tree_mismatch(who, name, result, "the tree", like)
    checks.same_shapes(who, name, result, jax.tree.leaves(result), "the tree", jax.tree.leaves(like))


def _rounds(maps: Maps, x: Array, bearable: Any, maxiter: int) -> tuple[Array, list[Array]]:
    """Returns the fixed point p and the q_i. The iteration stops when a round changes less than `bearable(p)`."""

    def step(carry: tuple[Array, list[Array], Array, Array]) -> tuple[Array, list[Array], Array, Array]:
        p, qs, _, steps = carry
        new, change = [], jnp.zeros((), x.dtype)
        for fn, q in zip(maps, qs, strict=True):
            y = p + q
            p = fn(y)
            new.append(y - p)
            change = jnp.maximum(change, jnp.max(jnp.abs(new[-1] - q)))
        return p, new, change, steps + 1

    def unfinished(carry: tuple[Array, list[Array], Array, Array]) -> Array:
        p, _, change, steps = carry
        return (change > bearable(p)) & (steps < maxiter)

    infinite = jnp.array(jnp.inf, x.dtype)
    start = (x, [jnp.zeros_like(x) for _ in maps], infinite, jnp.zeros((), jnp.int32))
    return mesh.while_loop(unfinished, step, start)[:2]


def _solve(functions: Any, tol: float, maxiter: int, x: Array, data: Any) -> tuple[Array, list[Array]]:
    maps = [lambda y, fn=fn, numbers=numbers: fn(y, *numbers) for fn, numbers in zip(functions, data, strict=True)]
    size = jnp.max(jnp.abs(x))
    return _rounds(maps, x, lambda p: tol * jnp.maximum(size, jnp.max(jnp.abs(p))), maxiter)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _dykstra(functions: Any, tol: float, maxiter: int, x: Array, data: Any) -> Array:
    return _solve(functions, tol, maxiter, x, data)[0]


@_dykstra.defjvp
def _dykstra_jvp(
    functions: Any, tol: float, maxiter: int, primals: tuple[Array, Any], tangents: tuple[Array, Any]
) -> tuple[Array, Array]:
    (x, data), (dx, ddata) = primals, tangents
    p, qs = _solve(functions, tol, maxiter, x, data)
    points = [p + q for q in qs]
    offsets = [
        jax.jvp(lambda *numbers, fn=fn, y=y: fn(y, *numbers), tuple(numbers), tuple(moved))[1]
        if numbers
        else jnp.zeros_like(x)
        for fn, y, numbers, moved in zip(functions, points, data, ddata, strict=True)
    ]

    maps = [
        jax.linearize(lambda y, fn=fn, numbers=numbers: fn(y, *numbers), y)[1]
        for fn, y, numbers in zip(functions, points, data, strict=True)
    ]

    def forward(_: Any, operands: Array) -> Array:
        moved = [lambda y, fn=fn, e=e: fn(y) + e for fn, e in zip(maps, operands[1:], strict=True)]
        size = jnp.max(jnp.abs(operands))
        dp = _rounds(moved, operands[0], lambda _: tol * size, maxiter)[0]
        return jnp.zeros_like(operands).at[0].set(dp)

    def backward(_: Any, cotangents: Array) -> Array:
        w = cotangents[0]
        a, bs = _rounds(maps, w, lambda _: tol * jnp.max(jnp.abs(w)), maxiter)
        return jnp.stack([a, *(a + b for b in bs)])

    # A linear function with a transpose of its own: the "solution" is like the operands, and its first row is dp.
    return p, lax.custom_linear_solve(lambda y: y, jnp.stack([dx, *offsets]), forward, backward)[0]
