"""Names for what transformations take and return, to annotate your own programs with.

    def train_step(tx: gx.types.Transformation, params: gx.types.Params, state: gx.types.State) -> ...

A tree of arrays has no type of its own in Python: it may be a nested dict, a list, a dataclass, or a model of flax or
equinox. So the names of trees stand for `Any`, and say what is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from jax.typing import ArrayLike, DTypeLike

__all__ = ["Mask", "OptionalDType", "Params", "Scalar", "Slots", "State", "Transformation", "Updates"]

Params: TypeAlias = Any
"""The parameters: a tree of arrays."""

Updates: TypeAlias = Any
"""Gradients, or what a transformation makes of them: a tree with the structure and shapes of the parameters."""

State: TypeAlias = Any
"""The state of a transformation, as its `init` and `update` return it: a tree of arrays."""

Slots: TypeAlias = Any
"""What the state holds for one parameter, by name, as in `slots.mu`."""

Mask: TypeAlias = Any
"""Which parameters: a selector (`gx.select`), a tree of booleans, or a function of the parameters. None for all."""

Scalar: TypeAlias = ArrayLike
"""One number: a Python number, or an array of shape ()."""

OptionalDType: TypeAlias = DTypeLike | None
"""A dtype such as 'bfloat16' or `jnp.float32`; None for the choice that the method states."""


class Transformation(Protocol):
    """What has `init` and `update`: a gradtx transformation, or one of another library such as optax.

    >>> import gradtx as gx
    >>> def steps(tx: gx.types.Transformation, params: gx.types.Params) -> gx.types.State:
    ...     return tx.init(params)
    >>> steps(gx.identity(), {"w": 1.0})
    EmptyState()
    """

    @property
    def init(self) -> Callable[..., Any]:
        """Returns the state before the first step, for the parameters."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """Returns the updates and the next state, for the gradients, the state and the parameters."""
        ...
