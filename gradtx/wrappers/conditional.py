"""Applies a transformation only on some steps, chosen by a function of the step count and the extra arguments."""

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
    """The number of steps, and the inner state."""

    inner_state: Any = child_state()
    step: Array = counter()


class ConditionallyMaskState(NamedTuple):
    """The number of steps, and the inner state."""

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

    def _left_out(self, updates: Updates) -> Any:
        """Returns the outgoing updates of a step on which the inner transformation is not applied."""
        raise NotImplementedError


class conditionally_transform(_Conditional, state=ConditionallyTransformState):
    """Applies `inner` only on steps for which a function returns true; other steps leave the updates unchanged.

    Use it for a transformation that should act only during some phase of training, such as clipping during the warm-up.
    On the other steps the inner state does not change. To set the updates of the other steps to zero, use
    `conditionally_mask`.

    Args:
      inner: The transformation to wrap, such as `gx.clip(1.0)`.
      should_transform_fn: Function of the step count (0 at the first step) that returns a boolean. It is called with a
        traced array in compiled code, so write it with `jax.numpy`.
      forward_extra_args: True to call the function with the extra arguments of `update` as well, by name. Default
        False.

    Returns:
      A transformation. State: a step count, in addition to the inner state.

    Example:
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
    """Applies `inner` only on steps for which a function returns true; on other steps the update is zero.

    Use it for an optimizer that should move the parameters only on some steps, such as the optimizer of a GAN's
    generator. On the other steps the inner state does not change. To leave the updates of the other steps unchanged,
    use `conditionally_transform`.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      should_transform_fn: Function of the step count (0 at the first step) that returns a boolean. It is called with a
        traced array in compiled code, so write it with `jax.numpy`.
      forward_extra_args: True to call the function with the extra arguments of `update` as well, by name. Default
        False.

    Returns:
      A transformation. State: a step count, in addition to the inner state.

    Example:
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
