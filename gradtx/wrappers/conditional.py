"""Steps on which a transformation is left out, by a function of the step count and the extra arguments."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx import tree
from gradtx.core.branch import branch
from gradtx.core.composite import Wrapper
from gradtx.core.hyper import of_step
from gradtx.core.slots import child_state, counter
from gradtx.core.state import counted
from gradtx.core.transformation import takes
from gradtx.core.value import flag, function, static
from gradtx.types import Params, State, Updates

__all__ = ["ConditionallyMaskState", "ConditionallyTransformState", "conditionally_mask", "conditionally_transform"]


class ConditionallyTransformState(NamedTuple):
    """The steps taken, and the inner state."""

    inner_state: Any = child_state()
    step: Array = counter()


class ConditionallyMaskState(NamedTuple):
    """The steps taken, and the inner state."""

    step: Array = counter()
    inner_state: Any = child_state()


class _Conditional(Wrapper):
    should_transform_fn: Any = static(check=function)
    forward_extra_args: bool = flag(default=False)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        given = extra if self.forward_extra_args else {}
        updates, inner_state = branch(
            type(self).__name__,
            of_step(self.should_transform_fn, state.step, **given),
            lambda: self.inner_update(updates, state.inner_state, params, extra),
            lambda: (self._left_out(updates), state.inner_state),
        )
        return updates, self.State(step=counted(state.step), inner_state=inner_state)

    def accepts(self, name: str) -> bool:
        return super().accepts(name) or (self.forward_extra_args and takes(self.should_transform_fn, name))

    def _left_out(self, updates: Any) -> Any:
        """The updates of a step on which the inner transformation is left out."""
        raise NotImplementedError


class conditionally_transform(_Conditional, state=ConditionallyTransformState):
    """Applies `inner` on the steps for which `should_transform_fn(step)` is true, else passes the updates on.

    `step` counts from 0. With `forward_extra_args` the function gets the extra arguments of `update` too. On the
    other steps the state of `inner` rests.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.conditionally_transform(gx.clip(1.0), lambda step: step >= 1)
    >>> state = tx.init(jnp.zeros(1))
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array([3.0]), state)
    ...     print(updates)
    [3.]
    [1.]
    """

    def _left_out(self, updates: Updates) -> Any:
        return updates


class conditionally_mask(_Conditional, state=ConditionallyMaskState):
    """Applies `inner` on the steps for which `should_transform_fn(step)` is true; on the others the update is zero.

    `step` counts from 0. With `forward_extra_args` the function gets the extra arguments of `update` too. On the
    other steps the state of `inner` rests.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.conditionally_mask(gx.sgd(1.0), lambda step: step >= 1)
    >>> state = tx.init(jnp.zeros(1))
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array([3.0]), state)
    ...     print(updates)
    [0.]
    [-3.]
    """

    def _left_out(self, updates: Updates) -> Any:
        return tree.zeros_like(updates)
