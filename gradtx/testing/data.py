"""The trees on which the laws run a transformation, and helpers for these trees."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["SHAPES", "at", "close", "draw", "finite", "stack"]

SHAPES = {"w": (8, 2), "deep": [(8,)]}
"""Few leaves and few shapes, because compilation takes most of the laws' time. An axis of 8 can be sharded over 8
devices."""


def draw(seed: int, dtype: Any = "float64", scale: float = 1.0) -> Any:
    """Draws a tree of normally distributed random numbers with the shapes `SHAPES`."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(scale * rng.normal(size=shape), dtype), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )


def stack(trees: Any) -> Any:
    """Stacks the leaves of `trees` along a new leading axis."""
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *trees)


def at(tree: Any, i: int) -> Any:
    """Returns entry `i` of the leading axis of every leaf, as NumPy arrays, so that nothing is compiled."""
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[i]), tree)


def close(actual: Any, expected: Any, rtol: float = 1e-12, atol: float = 0.0, about: str = "") -> None:
    """Asserts that two trees have the same structure and close leaves; `about` starts the error message."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected), f"{about or 'trees'}: the tree structures differ"
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        message = " at ".join(filter(None, (about, jax.tree_util.keystr(path))))
        a, b = (np.asarray(x, dtype=_wide(x)) for x in (a, b))
        try:
            np.testing.assert_allclose(a, b, rtol, atol)
        except AssertionError as error:
            raise AssertionError(f"{message or 'the tree'}: {str(error).strip()}") from None


def _wide(x: Any) -> Any:
    return np.complex128 if jnp.iscomplexobj(x) else np.float64


def finite(tree: Any) -> bool:
    """Returns whether every entry of every leaf is finite."""
    return all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(tree))
