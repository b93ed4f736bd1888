"""Ways to combine the results of the micro-batches of a batch."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf
from gradtx.frozen import Frozen
from gradtx.microbatching import parts

__all__ = ["AccumulationType", "Accumulator", "check_accumulators", "composed"]


class Accumulator(Frozen):
    """Defines how the results of the micro-batches are combined; write one if no `AccumulationType` suits.

    If the argument `accumulator` is a tree, each function below gets only the subtree of the result at the position of
    this object.

    Args:
      init: A function that gets the shapes of a micro-batch's result, as a tree of `jax.ShapeDtypeStruct`, and returns
        the first carry.
      update: A function `(carry, value, index)` that returns the next carry. `value` is the result of the micro-batch
        with the index `index`, counted from 0.
      finalize: A function that gets the last carry and returns the combined result.
      aggregate: A function for `micro_vmap` that reduces the results of the examples in a micro-batch, arrays with a
        leading axis of examples, to one result.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> largest = gx.microbatching.Accumulator(
    ...     init=lambda like: jnp.full(like.shape, -jnp.inf, like.dtype),
    ...     update=lambda carry, value, index: jnp.maximum(carry, value),
    ...     finalize=lambda carry: carry,
    ...     aggregate=lambda values: values.max(axis=0),
    ... )
    >>> print(gx.microbatching.microbatch(jnp.max, 0, 2, largest)(jnp.array([1.0, 5.0, 3.0, 2.0])))
    5.0
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], Any]
    finalize: Callable[[Any], Any]
    aggregate: Callable[[Any], Any]


class AccumulationType(enum.Enum):
    """The usual ways to combine the results of the micro-batches: MEAN, SUM, RUNNING_MEAN and CONCAT."""

    MEAN = enum.auto()
    """The sum divided by the number of all micro-batches, even if only some of them were evaluated."""
    SUM = enum.auto()
    """The sum; for booleans, the number of True entries."""
    RUNNING_MEAN = enum.auto()
    """The mean over the micro-batches that were evaluated."""
    CONCAT = enum.auto()
    """All rows, in the order of the batch, along the first axis; zeros for micro-batches that were not evaluated.

    If the result of a micro-batch is a scalar, the scalars of all micro-batches are stacked in one array."""


def _wide(x: Any) -> np.dtype:
    """Returns the dtype in which arrays like `x` are summed."""
    if x.dtype == bool:
        return jnp.result_type(int)
    return leaf.accumulator_dtype(x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x.dtype


def _zeros(x: Any) -> Array:
    return parts.placed(jnp.zeros(x.shape, _wide(x)), x)


def _inexact(who: str, kind: AccumulationType, x: Any) -> None:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"{who}: accumulator {kind.name} takes means, but a result has dtype {x.dtype}. "
            "Return a float, as by x.astype(float), or use SUM or CONCAT."
        )


def _leafwise(init: Any, update: Any, finalize: Any, aggregate: Any) -> Callable[[Any], Accumulator]:
    """Returns a function that makes an accumulator for all leaves of a tree, from the shapes and dtypes of a result."""

    def of(like: Any) -> Accumulator:
        each = jax.tree.map
        return Accumulator(
            init=lambda value: each(init, value),
            update=lambda carry, value, index: each(lambda c, v: update(c, v, index), carry, value),
            finalize=lambda carry: each(finalize, carry, like),
            aggregate=lambda values: each(aggregate, values),
        )

    return of


def _returned(carry: Array, like: Any) -> Array:
    """Casts a sum or mean to the dtype of the results; sums of booleans stay integers."""
    return carry if like.dtype == bool else leaf.narrow(carry, like.dtype)


def _reduced(by: Callable[..., Array]) -> Callable[[Array], Array]:
    def reduce(x: Array) -> Array:
        return _returned(by(x.astype(_wide(x)), axis=0), x)

    return reduce


def _built_in(who: str, kind: AccumulationType, count: int) -> Callable[[Any], Accumulator]:
    def begin(like: Any) -> Array:
        _inexact(who, kind, like)
        return _zeros(like)

    def mean(x: Array) -> Array:
        _inexact(who, kind, x)
        return _reduced(jnp.mean)(x)

    def running(carry: Array, value: Array, index: Any) -> Array:
        share = 1 / (jnp.asarray(index, jnp.finfo(carry.dtype).dtype) + 1)
        return carry * (1 - share) + value.astype(carry.dtype) * share

    def rows(like: Any) -> Array:
        n, *rest = like.shape or (1,)
        return parts.placed(jnp.zeros((n, count, *rest), like.dtype), like, after_first=True)

    def joined(carry: Array, like: Any) -> Array:
        return parts.joined(carry, like.shape[1:])

    return {
        AccumulationType.SUM: _leafwise(_zeros, lambda c, v, _: c + v.astype(c.dtype), _returned, _reduced(jnp.sum)),
        AccumulationType.MEAN: _leafwise(begin, lambda c, v, _: c + v.astype(c.dtype) / count, _returned, mean),
        AccumulationType.RUNNING_MEAN: _leafwise(begin, running, _returned, mean),
        AccumulationType.CONCAT: _leafwise(rows, lambda c, v, i: c.at[:, i].set(v), joined, lambda x: x),
    }[kind]


def check_accumulators(who: str, accumulator: Any) -> None:
    for one in jax.tree.leaves(accumulator):
        if not isinstance(one, (Accumulator, AccumulationType)):
            raise TypeError(
                f"{who}: accumulator must be an AccumulationType, an Accumulator or a tree of them, got "
                f"{checks.shown(one)}."
            )


def composed(who: str, accumulator: Any, like: Any, count: int) -> Accumulator:
    """Returns one accumulator for the whole result, from a tree of accumulators that is a prefix of the result."""
    kinds, treedef = jax.tree.flatten(accumulator)
    try:
        likes = treedef.flatten_up_to(like)
    except ValueError as error:
        raise ValueError(
            f"{who}: accumulator must have the structure of the result, or of its upper part. The result has "
            f"{jax.tree.structure(like)}, accumulator has {treedef}."
        ) from error
    one = [
        kind if isinstance(kind, Accumulator) else _built_in(who, kind, count)(x)
        for kind, x in zip(kinds, likes, strict=True)
    ]

    def each(name: str) -> Callable[..., Any]:
        def apply(first: Any, *others: Any) -> Any:
            columns = [treedef.flatten_up_to(x) for x in (first, *others[:1])]
            results = [getattr(a, name)(*row, *others[1:]) for a, *row in zip(one, *columns, strict=True)]
            return treedef.unflatten(results)

        return apply

    return Accumulator(each("init"), each("update"), each("finalize"), each("aggregate"))
