"""Other views of the same tree: as one vector, or with complex leaves as pairs of real ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf
from gradtx.core.wrapper import Wrapper

__all__ = ["SplitRealAndImaginaryArrays", "flatten", "split_real_and_imaginary", "with_extra_args_support"]


class _View(Wrapper):
    """`inner` on another view of the tree, which extra arguments like the updates, and functions, see too."""

    def _seen(self, tree: Any) -> Any:
        raise NotImplementedError

    def _back(self, seen: Any, like: Any) -> Any:
        raise NotImplementedError

    def init(self, params: Any) -> Any:
        who = type(self).__name__
        checks.floating(who, "params", params, jax.tree.leaves(params))
        return self.inner.init(self._seen(params))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._begin(state, extra)
        checks.trees(type(self).__name__, updates, params)
        if params is not None or not jax.tree.leaves(updates):
            params = self._seen(params)
        given = {name: self._of_view(name, x, updates) for name, x in extra.items()}
        seen, state = self._inner_update(self._seen(updates), state, params, given)
        return self._back(seen, updates), state

    def _nearest(self, params: Any) -> Any:
        return self._back(self.inner._nearest(self._seen(params)), params)

    def _reduced(self, params: Any, grad: Any) -> Any:
        return self._back(self.inner._reduced(self._seen(params), self._seen(grad)), grad)

    def _of_view(self, name: str, x: Any, like: Any) -> Any:
        """An extra argument as the inner transformation is to see it."""
        if name == "value_fn":
            return lambda seen, *args: x(self._back(seen, like), *args)
        if name == "grad_fn":
            return lambda seen, *args: self._seen(x(self._back(seen, like), *args))
        return self._seen(x) if _is_like(x, like) else x


def _is_like(x: Any, updates: Any) -> bool:
    """Whether an extra argument is a tree of arrays like the updates."""
    if jax.tree.structure(x) != jax.tree.structure(updates):
        return False
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(updates), strict=True)
    return all(hasattr(a, "shape") and a.shape == np.shape(b) for a, b in pairs)


class flatten(_View):
    """`inner` on all leaves as one vector: a few large operations in place of many small ones.

    The vector has a dtype that holds those of all leaves. A rule that looks at a leaf as a whole then sees the whole
    tree as one leaf.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.flatten(gx.clip_by_block_rms(1.0))
    >>> g = {"w": jnp.array([1.0]), "b": jnp.array([7.0])}
    >>> print(tx.update(g, tx.init(g))[0]["b"])
    [1.4]
    """

    def _seen(self, tree: Any) -> Array:
        leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
        if not leaves:
            return jnp.zeros((0,), jnp.float32)
        dtype = jnp.result_type(*leaves)
        return jnp.concatenate([jnp.ravel(x).astype(dtype) for x in leaves])

    def _back(self, seen: Any, like: Any) -> Any:
        leaves, treedef = jax.tree.flatten(like)
        parts = jnp.split(seen, np.cumsum([np.size(x) for x in leaves])[:-1]) if leaves else []
        return treedef.unflatten(
            [_cast(part.reshape(np.shape(x)), jnp.result_type(x)) for part, x in zip(parts, leaves, strict=True)]
        )


def _cast(x: Array, dtype: Any) -> Array:
    return leaf.narrow(x if jnp.issubdtype(dtype, jnp.complexfloating) else x.real, dtype)


class SplitRealAndImaginaryArrays(NamedTuple):
    """A complex leaf as two real ones.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> tx = gx.split_real_and_imaginary(gx.scale_by_lion())
    >>> print(jax.tree.map(jnp.shape, tx.init(jnp.ones(3, complex)).mu))
    SplitRealAndImaginaryArrays(real=(3,), imaginary=(3,))
    """

    real: Any
    imaginary: Any


class split_real_and_imaginary(_View):
    """`inner` on real leaves only: each complex leaf is a pair of its real and its imaginary part.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.split_real_and_imaginary(gx.sign_sgd(1.0))
    >>> g = jnp.array([3 - 4j])
    >>> print(tx.update(g, tx.init(g))[0])
    [-1.+1.j]
    """

    def _seen(self, tree: Any) -> Any:
        def split(x: Any) -> Any:
            return SplitRealAndImaginaryArrays(jnp.real(x), jnp.imag(x)) if jnp.iscomplexobj(x) else x

        return jax.tree.map(split, tree)

    def _back(self, seen: Any, like: Any) -> Any:
        def join(x: Any, part: Any) -> Any:
            return jax.lax.complex(*part) if jnp.iscomplexobj(x) else part

        return jax.tree.map(join, like, seen)


class with_extra_args_support(Wrapper):
    """`inner`, which ignores the extra arguments that it does not know, where gradtx would raise.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.with_extra_args_support(gx.sgd(1.0))
    >>> print(tx.update(jnp.ones(1), tx.init(jnp.ones(1)), epoch=3)[0])
    [-1.]
    """

    def init(self, params: Any) -> Any:
        return self.inner.init(params)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return self._inner_update(updates, state, params, extra)

    def _accepts(self, name: str) -> bool:
        del name
        return True
