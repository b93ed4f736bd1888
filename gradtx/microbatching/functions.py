"""Functions that evaluate another function on one micro-batch after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gradtx import checks, leaf, mesh
from gradtx.microbatching.accumulators import AccumulationType, check_accumulators, composed
from gradtx.microbatching.parts import axis_of, parts_of, split

__all__ = ["micro_grad", "micro_vmap", "microbatch"]


class IndividualOutputs(NamedTuple):
    """What `micro_grad` returns for each example: losses (`values`), `metrics` of the gradients, and `aux`."""

    values: Any
    metrics: Any
    aux: Any


def microbatch(
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    microbatch_size: int | None,
    accumulator: Any = AccumulationType.SUM,
    *,
    argnames: str | Sequence[str] = (),
    in_axes: int | Sequence[int] = 0,
    num_real_microbatches: Any = None,
) -> Callable[..., Any]:
    """Makes a function that evaluates `fun` on one micro-batch after the other, and combines the results.

    Use it for a gradient, or another sum over examples, if the intermediate arrays for the whole batch do not fit into
    memory: only the arrays of one micro-batch are held at a time. For gradients of a mean, pass the accumulator MEAN.
    The wrapper `gx.accumulate` combines gradients over several calls of `update` instead.

    Args:
      fun: Any function of arrays.
      argnums: The position, or positions, of the arguments with a batch axis.
      microbatch_size: Number of rows of a micro-batch; it must divide the batch size. None returns `fun` itself.
      accumulator: How results are combined: an `AccumulationType` (SUM by default), an `Accumulator`, or a tree of
        them with the structure of the result or of its upper part.
      argnames: The name, or names, of keyword arguments with a batch axis. None by default.
      in_axes: The batch axis of all leaves of these arguments: one integer for all arguments (0 by default), or one
        integer for each argument in `argnums`, then in `argnames`.
      num_real_microbatches: Number of micro-batches to evaluate. None (default) for all. If you pass an integer array,
        the number may change without recompiling, but the function has no reverse-mode derivative.

    Returns:
      A function with the arguments of `fun`. It needs memory for one micro-batch, the carry, and the arguments.

    Raises:
      TypeError: an argument has the wrong type, or the accumulator is a mean and a result holds integers.
      ValueError: the batch axes differ in length, `microbatch_size` does not divide this length, or the structure of
        `accumulator` does not match the result.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> loss = lambda w, x, y: jnp.mean((x @ w - y) ** 2)
    >>> w, x, y = jnp.ones(2), jnp.arange(8.0).reshape(4, 2), jnp.ones(4)
    >>> mean = gx.microbatching.AccumulationType.MEAN
    >>> grad = gx.microbatching.microbatch(jax.grad(loss), argnums=(1, 2), microbatch_size=1, accumulator=mean)
    >>> print(grad(w, x, y), jax.grad(loss)(w, x, y))
    [56. 68.] [56. 68.]
    """
    who = "microbatching.microbatch"
    if not callable(fun):
        raise TypeError(f"{who}: fun must be a function, got {checks.shown(fun)}.")
    if microbatch_size is None:
        return fun
    batched = (*_several(who, "argnums", argnums, int), *_several(who, "argnames", argnames, str))
    axes = _axes(who, batched, in_axes)
    return _in_parts(
        who, fun, microbatch_size, accumulator, dict(zip(batched, axes, strict=True)), num_real_microbatches
    )


def _in_parts(who: str, fun: Any, size: int, accumulator: Any, axes: dict[Any, int], real: Any) -> Callable[..., Any]:
    size = checks.integer(who, "microbatch_size", size, ge=1)
    check_accumulators(who, accumulator)
    if real is not None:
        _check_count(who, real)

    def microbatched(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(enumerate(args)), **kwargs}
        parts, batch, places = _batches(who, axes, given, size)

        def part(index: Any) -> Any:
            now = given | {key: jax.tree.map(lambda x, i: _part(x, i, index), batch[key], places[key]) for key in axes}
            return fun(*(now[i] for i in range(len(args))), **{name: now[name] for name in kwargs})

        if leaf.is_number(real) and real > parts:
            raise ValueError(
                f"{who}: num_real_microbatches must be at most {parts}, the number of micro-batches; got {real}."
            )
        like, end = jax.eval_shape(part, 0), parts if real is None else real
        total = composed(who, accumulator, like, parts)

        def step(index: Any, carry: Any) -> Any:
            return total.update(carry, part(index), index)

        return total.finalize(mesh.fori_loop(0, end, step, total.init(like)))

    return microbatched


def _part(x: Any, axis: int, index: Any) -> Any:
    return lax.dynamic_index_in_dim(x, index, axis + 1, keepdims=False)


def _axes(who: str, batched: Any, in_axes: Any) -> tuple[int, ...]:
    """Returns the batch axis of each argument that has one."""
    axes = (in_axes,) * len(batched) if isinstance(in_axes, int) else tuple(in_axes)
    if len(axes) != len(batched) or not batched:
        raise ValueError(
            f"{who}: in_axes has {len(axes)} axes for {len(batched)} arguments with a batch axis. Name at least one "
            "argument in argnums or argnames, and give one axis for each, or one for all."
        )
    return axes


def _several(who: str, name: str, value: Any, kind: type[Any]) -> tuple[Any, ...]:
    """Returns the items of an argument as a tuple; the argument is a single item or a sequence."""
    items = (value,) if isinstance(value, kind) else value
    good = isinstance(items, Sequence) and all(isinstance(x, kind) and not isinstance(x, bool) for x in items)
    if not good or any(isinstance(x, int) and x < 0 for x in items) or len(set(items)) < len(items):
        wanted = "a position, from 0," if kind is int else "a name"
        raise TypeError(f"{who}: {name} must be {wanted} or a sequence without repetitions, got {checks.shown(value)}.")
    return tuple(items)


def _check_count(who: str, count: Any) -> None:
    if leaf.is_number(count):
        checks.integer(who, "num_real_microbatches", count, ge=0)
    elif checks.kind(checks.dtype(count)) != "integer" or np.shape(count):
        raise TypeError(f"{who}: num_real_microbatches must be one integer, got {checks.shown(count)}.")


def _batches(who: str, axes: dict[Any, int], given: Any, size: int) -> tuple[int, dict[Any, Any], dict[Any, Any]]:
    """Returns the number of micro-batches, the arguments with split batch axes, and each leaf's batch axis."""
    missing = [key for key in axes if key not in given]
    if missing:
        place = f"position {missing[0]}" if isinstance(missing[0], int) else f"the name {missing[0]!r}"
        raise TypeError(f"{who}: the function was called without the argument at {place}, which has a batch axis.")
    places, batch, found = {}, {}, {}
    for key, axis in axes.items():
        batch[key] = jax.tree.map(jnp.asarray, given[key])
        places[key] = jax.tree.map(lambda x, axis=axis: axis_of(who, axis, x), batch[key])
        lengths = jax.tree.map(lambda x, i: x.shape[i], batch[key], places[key])
        found |= dict.fromkeys(jax.tree.leaves(lengths), key)
    if len(found) != 1:
        shown = ", ".join(f"{n} in argument {key!r}" for n, key in found.items())
        raise ValueError(f"{who}: all batch axes must have the same length, got {shown or 'no arrays'}.")
    parts = parts_of(who, found.popitem()[0], size)
    return parts, {key: jax.tree.map(lambda x, i: split(x, parts, i), batch[key], places[key]) for key in axes}, places


def micro_vmap(
    fun: Callable[..., Any],
    in_axes: int | Sequence[int | None] | None = 0,
    out_axes: Any = 0,
    *,
    microbatch_size: int | None = None,
    vmap_fn: Callable[..., Any] = jax.vmap,
    accumulator: Any = AccumulationType.CONCAT,
    num_real_microbatches: Any = None,
) -> Callable[..., Any]:
    """Makes a function that maps `fun` over a batch like `jax.vmap`, one micro-batch after the other.

    Use it if `jax.vmap` over the whole batch needs too much memory.

    Args:
      fun: A function of one example.
      in_axes: The batch axis of the positional arguments: one integer for all (0 by default), or a sequence with an
        integer, or None for no batch axis, for each argument. Keyword arguments are mapped over their first axis.
      out_axes: Must be 0: the batch is the first axis of the results.
      microbatch_size: Number of examples to map at a time; it must divide the batch size. None (default) for all.
      vmap_fn: A function like `jax.vmap` (default) that does the mapping; it is called with three arguments.
      accumulator: How results are combined: CONCAT (default) keeps the result of each example. Accumulators such as SUM
        reduce the results over the batch, and never hold the results of all examples. See `microbatch`.
      num_real_microbatches: Number of micro-batches to evaluate. None (default) for all. See `microbatch`.

    Returns:
      A function of a batch.

    Raises:
      ValueError: `out_axes` is not 0, or `microbatch` would raise a ValueError.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.microbatching.micro_vmap(lambda x: x**2, microbatch_size=2)(jnp.arange(6)))
    [ 0  1  4  9 16 25]
    """
    who = "microbatching.micro_vmap"
    check_accumulators(who, accumulator)
    if isinstance(out_axes, bool) or out_axes != 0:
        raise ValueError(
            f"{who}: out_axes must be 0, got {checks.shown(out_axes)}. Move the axis of the result instead."
        )

    def mapped(*args: Any, **kwargs: Any) -> Any:
        axes = tuple(in_axes) if isinstance(in_axes, Sequence) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise ValueError(f"{who}: in_axes has {len(axes)} axes for {len(args)} positional arguments.")

        def reduced(*args: Any, kwargs: Any) -> Any:
            out = vmap_fn(fun, axes, 0)(*args, **kwargs)
            return composed(who, accumulator, out, 1).aggregate(out)

        batched = [i for i, axis in enumerate(axes) if axis is not None]
        in_parts = microbatch(
            reduced,
            batched,
            microbatch_size,
            accumulator,
            argnames="kwargs",
            in_axes=[*(axes[i] for i in batched), 0],  # pyright: ignore[reportArgumentType]
            num_real_microbatches=num_real_microbatches,
        )
        return in_parts(*args, kwargs=kwargs)

    return mapped


def micro_grad(
    fun: Callable[..., Any],
    has_aux: bool = False,
    argnums: int | Sequence[int] = 0,
    *,
    batch_argnums: int | Sequence[int] = 1,
    keep_batch_dim: bool = True,
    microbatch_size: int | None = None,
    accumulator: Any = AccumulationType.SUM,
    transform_fn: Callable[[Any], Any] = lambda x: x,
    metrics_fn: Callable[[Any], Any] = lambda x: None,
    num_real_microbatches: Any = None,
) -> Callable[..., Any]:
    """Makes a function that computes the gradient of each example, transforms it, and combines the results.

    Use it to clip the gradients of single examples, or to compute the moments or norms of these gradients. Only
    `microbatch_size` gradients are held in memory at a time.

    Args:
      fun: A real loss, a function `(params, batch)`.
      has_aux: Whether `fun` returns a pair of the loss and further results. False by default.
      argnums: The position, or positions, of the arguments to differentiate with respect to. 0 by default.
      batch_argnums: The position, or positions, of the arguments with the batch as their first axis. 1 by default.
      keep_batch_dim: Whether `fun` gets batches of one example (True, the default), or examples without a batch
        axis.
      microbatch_size: Number of examples at a time. None (default) for all. See `microbatch`.
      accumulator: How the transformed gradients of the examples are combined; SUM by default. See `microbatch`.
      transform_fn: A function that transforms the gradient of one example. By default the gradient is unchanged.
      metrics_fn: A function that computes metrics from the gradient of one example, before `transform_fn`; the metrics
        of each example are returned. No metrics by default.
      num_real_microbatches: Number of micro-batches to evaluate. None (default) for all. See `microbatch`.

    Returns:
      A function with the arguments of `fun`. It returns the combined gradients, and a named tuple of the losses
      (`values`), the `metrics` and the `aux` of `fun`, each with a leading axis of examples.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> loss = lambda w, x: 0.5 * jnp.sum((w - x) ** 2)
    >>> clipped = gx.microbatching.micro_grad(loss, transform_fn=lambda g: jnp.clip(g, -1, 1), metrics_fn=jnp.abs)
    >>> total, each = clipped(0.0, jnp.array([1.0, 3.0, 5.0]))
    >>> print(total, each.metrics)
    -3.0 [1. 3. 5.]
    """
    batched = _several("microbatching.micro_grad", "batch_argnums", batch_argnums, int)
    value_and_grad = jax.value_and_grad(fun if has_aux else lambda *a, **k: (fun(*a, **k), None), argnums, has_aux=True)

    def one(*args: Any, **kwargs: Any) -> Any:
        (value, aux), grad = value_and_grad(*args, **kwargs)
        return transform_fn(grad), IndividualOutputs(value, metrics_fn(grad), aux)

    def of_batch(*args: Any, **kwargs: Any) -> Any:
        if keep_batch_dim:
            args = tuple(jax.tree.map(lambda x: x[:, None], x) if i in batched else x for i, x in enumerate(args))
        return micro_vmap(
            one,
            [0 if i in batched else None for i in range(len(args))],
            microbatch_size=microbatch_size,
            accumulator=(accumulator, AccumulationType.CONCAT),
            num_real_microbatches=num_real_microbatches,
        )(*args, **kwargs)

    return of_batch
