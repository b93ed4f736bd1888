"""Views of a tree for an inner transformation: as one vector, or with complex leaves as pairs of real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf, mesh
from gradtx.core.composite import View, Wrapper
from gradtx.core.prefix import ByPath
from gradtx.types import Params, State, Updates

__all__ = ["SplitRealAndImaginaryArrays", "flatten", "split_real_and_imaginary"]


class _OnView(Wrapper):
    """Applies `inner` to another view of the tree; extra arguments like the updates, and functions, are converted,
    too.
    """

    view: ClassVar[View]

    def views(self, tree: Any) -> dict[str, View]:
        del tree
        return {"inner": self.view}

    def init(self, params: Params) -> Any:
        checks.floating(type(self).__name__, "params", params, jax.tree.leaves(params))
        return super().init(params)

    def _check_trees(self, updates: Updates, params: Params) -> None:
        checks.trees(type(self).__name__, updates, params)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        given = self.given("inner", self.view, extra, updates)
        seen = None if params is None and jax.tree.leaves(updates) else self.view.seen(params)
        new, state = self.inner.update(self.view.seen(updates), state, seen, **given)
        return self.view.restored(new, updates), state


class _Vector(View):
    def outline(self, tree: Any) -> Any:
        leaves = jax.tree.leaves(tree)
        dtype = jnp.result_type(*leaves) if leaves else jnp.float32
        return jax.ShapeDtypeStruct((sum(map(np.size, leaves)),), dtype)

    def seen(self, tree: Any) -> Array:
        leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
        if not leaves:
            return jnp.zeros((0,), jnp.float32)
        return mesh.automatic(_glued, *leaves, like=mesh.as_vector(leaves))

    def restored(self, part: Any, tree: Any) -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        shapes = [np.shape(x) for x in leaves]
        parts = mesh.automatic(partial(_divided, shapes), part, like=leaves) if leaves else []
        return treedef.unflatten([_cast(x, jnp.result_type(old)) for x, old in zip(parts, leaves, strict=True)])


def _glued(*leaves: Array) -> Array:
    dtype = jnp.result_type(*leaves)
    return jnp.concatenate([jnp.ravel(x).astype(dtype) for x in leaves])


def _divided(shapes: Sequence[tuple[int, ...]], x: Array) -> list[Array]:
    parts = jnp.split(x, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _cast(x: Array, dtype: Any) -> Array:
    return leaf.narrow(x if jnp.issubdtype(dtype, jnp.complexfloating) else x.real, dtype)


class flatten(_OnView):
    """Concatenates all leaves to one vector for the inner transformation: a few large operations instead of many small
    ones.

    Use it for models with many small parameters. A rule that looks at each leaf as a whole then sees the whole tree
    as one leaf. The vector has a dtype that can hold the dtypes of all leaves. On a mesh with explicit axes the
    vector is split over all axes that split a leaf, if they divide its length; otherwise each device has all of it.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.

    Returns:
      A transformation with the state of `inner` for one vector.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.flatten(gx.clip_by_block_rms(1.0))
    >>> g = {"w": jnp.array([1.0]), "b": jnp.array([7.0])}
    >>> print(tx.update(g, tx.init(g))[0]["b"])
    [1.4]
    """

    view = _Vector()


class SplitRealAndImaginaryArrays(NamedTuple):
    """A complex leaf as two real arrays, `real` and `imaginary`; `split_real_and_imaginary` makes them.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> tx = gx.split_real_and_imaginary(gx.scale_by_lion())
    >>> print(jax.tree.map(jnp.shape, tx.init(jnp.ones(3, complex)).mu))
    SplitRealAndImaginaryArrays(real=(3,), imaginary=(3,))
    """

    real: Any
    imaginary: Any


class _RealAndImaginary(View):
    def seen(self, tree: Any) -> Any:
        def split(x: Any) -> Any:
            return SplitRealAndImaginaryArrays(jnp.real(x), jnp.imag(x)) if jnp.iscomplexobj(x) else x

        return jax.tree.map(split, tree)

    def restored(self, part: Any, tree: Any) -> Any:
        def join(x: Any, part: Any) -> Any:
            return jax.lax.complex(*part) if jnp.iscomplexobj(x) else part

        return jax.tree.map(join, tree, part)


class split_real_and_imaginary(_OnView):
    """Shows complex leaves to the inner transformation as pairs of their real and imaginary parts.

    Use it for complex parameters with methods that only support real ones, or to treat both parts independently.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.

    Returns:
      A transformation with the state of `inner` for real leaves.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.split_real_and_imaginary(gx.sign_sgd(1.0))
    >>> g = jnp.array([3 - 4j])
    >>> print(tx.update(g, tx.init(g))[0])
    [-1.+1.j]
    """

    view = _RealAndImaginary()

    def shown_to(self, name: str, trees: tuple[Any, ...]) -> tuple[Any, ...]:
        """Gives both parts of a complex leaf the item of the leaf."""
        del name
        return tuple(map(ByPath, trees))
