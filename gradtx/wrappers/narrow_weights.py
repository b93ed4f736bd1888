"""Trains 16-bit parameters without losing small steps: keeps the bits that rounding drops, or rounds at random.

A step smaller than half a unit in a parameter's last place does not change the parameter: 1 + 1e-3 is 1 in bfloat16. So
each parameter p stands for a float32 weight x. `inner` sees x and computes its update u; the state s holds the bits of
x that p lacks:

    x_t = weight(p_t, s_t),    x_(t+1) = x_t + u_t,    p_(t+1) = round(x_(t+1)),    s_(t+1) = remainder of the rounding

    master_weights       s = x, the whole weight (Micikevicius et al., 2018, "Mixed Precision Training")
    corrected_weights    s = x - p in 8 or 16 bits (Kahan, 1965, "Further Remarks on Reducing Truncation Errors")
    stochastic_weights   x = p, nothing is kept; p_(t+1) is x_(t+1) rounded up or down at random, so that its mean is
                         x_(t+1) (Gupta et al., 2015, "Deep Learning with Limited Numerical Precision")

The parameters have priority: if they are changed between two steps (clipped or loaded, for example), the weights
restart from the new values.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.composite import View, Wrapper
from gradtx.core.packed import draws
from gradtx.core.slots import PARAM, child_state, counter, per_param
from gradtx.core.state import counted
from gradtx.core.value import choice, seed
from gradtx.storage.remainder import remainder, with_remainder
from gradtx.storage.rounded import stochastic
from gradtx.types import Params, State, Updates

__all__ = [
    "CorrectedWeightsState",
    "MasterWeightsState",
    "StochasticWeightsState",
    "corrected_weights",
    "master_weights",
    "stochastic_weights",
]


class _InFloat32(View):
    """Presents 16-bit leaves in float32 to the inner transformation."""

    def seen(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), tree)

    def restored(self, part: Any, tree: Any) -> Any:
        return jax.tree.map(lambda x, like: leaf.narrow(x, jnp.result_type(like)), part, tree)


_IN_FLOAT32 = _InFloat32()


class _Wide(Wrapper, needs=("params",)):
    """A wrapper whose inner transformation sees 16-bit leaves in float32."""

    def init(self, params: Params) -> Any:
        checks.floating(type(self).__name__, "params", params, jax.tree.leaves(params))
        return super().init(params)

    def views(self, tree: Any) -> dict[str, View]:
        del tree
        return {"inner": _IN_FLOAT32}

    def shown_to(self, name: str, trees: tuple[Any, ...]) -> tuple[Any, ...]:
        del name
        return trees

    def wide_update(self, updates: Updates, state: State, params: Params, weights: Any, extra: Any) -> tuple[Any, Any]:
        """Returns the updates of the weights, and the next inner state."""
        given = self.given("inner", _IN_FLOAT32, extra, params)
        return self.inner.update(_IN_FLOAT32.seen(updates), state.inner_state, weights, **given)


class _NarrowWeights(_Wide, needs=("params",)):
    """Keeps a float32 weight for each 16-bit parameter: the state holds the bits that the parameter lacks.

    Subclasses define in which form these bits are stored.
    """

    kept: ClassVar[str]
    """Name of the state's field with the kept bits; its leaf is None for a parameter in float32 or wider."""

    def weight(self, p: Array, kept: Array) -> Array:
        """Returns the weight in float32."""
        raise NotImplementedError

    def split(self, x: Array, dtype: Any) -> tuple[Array, Array]:
        """Returns the parameter (in `dtype`) nearest to the weight `x`, and the bits to keep in the state."""
        raise NotImplementedError

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        leaves, treedef = jax.tree.flatten(params)
        kept = treedef.flatten_up_to(getattr(state, self.kept))
        weights = [self._weight(jnp.asarray(p), k) for p, k in zip(leaves, kept, strict=True)]
        steps, inner_state = self.wide_update(updates, state, params, treedef.unflatten(weights), extra)
        trios = zip(leaves, weights, treedef.flatten_up_to(steps), kept, strict=True)
        moved = [self._moved(jnp.asarray(p), x, u, k) for p, x, u, k in trios]
        kept = {self.kept: treedef.unflatten([k for _, k in moved])}
        state = state._replace(count=counted(state.count), inner_state=inner_state, **kept)
        return treedef.unflatten([u for u, _ in moved]), state

    def _weight(self, p: Array, kept: Array | None) -> Array:
        return leaf.widen(p) if kept is None else self.weight(p, kept)

    def _moved(self, p: Array, x: Array, u: Array, kept: Array | None) -> tuple[Array, Any]:
        """Returns the exact update in float32, and the low bits of the new weight, which the state keeps."""
        if kept is None:
            return u, None
        new, kept = self.split(x + leaf.narrow(u, x.dtype), p.dtype)
        return leaf.widen(new) - leaf.widen(p), kept


class MasterWeightsState(NamedTuple):
    """The number of steps, the weights in float32, and the inner state."""

    count: Array = counter()
    master: Array = per_param(start=PARAM, only_narrow=True)
    inner_state: Any = child_state()


class master_weights(_NarrowWeights, state=MasterWeightsState):
    """Keeps a float32 copy of bfloat16 and float16 parameters, so that small steps are not lost.

    Use it to train 16-bit parameters if there is memory for the copy. Without a copy, each step smaller than half a
    unit in a parameter's last place is lost: 1 + 1e-3 is 1 in bfloat16.

    `inner` sees parameters and gradients in float32. The updates are the difference between the rounded copy and the
    parameters. They are in float32, whatever the dtype of the gradients, because the difference of two 16-bit numbers
    may need more bits. If another wrapper around this one rounds the updates to the gradients' dtype, only updates
    larger than half of the parameter change. If a parameter was changed since the previous step (loaded or clipped, for
    example), its copy restarts from the new value.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.

    Returns:
      A transformation whose `update` needs `params`. State: 4 bytes for each entry of a 16-bit parameter, none for
        other parameters, in addition to the inner state.

    References:
      Micikevicius et al., 2018, "Mixed Precision Training".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> for tx in (gx.sgd(1e-3), gx.master_weights(gx.sgd(1e-3))):
      ...     params = jnp.ones(1, "bfloat16")
      ...     state = tx.init(params)
      ...     for _ in range(100):
      ...         updates, state = tx.update(-jnp.ones(1, "bfloat16"), state, params)
      ...         params = gx.apply_updates(params, updates)
      ...     print(params)
      [1]
      [1.10156]
    """

    kept = "master"

    def weight(self, p: Array, kept: Array) -> Array:
        return jnp.where(leaf.narrow(kept, p.dtype) == p, kept, leaf.widen(p))

    def split(self, x: Array, dtype: Any) -> tuple[Array, Array]:
        return leaf.narrow(x, dtype), x


class CorrectedWeightsState(NamedTuple):
    """The number of steps, the bits that rounding dropped from the parameters, and the inner state."""

    count: Array = counter()
    remainder: Array = per_param(dtype="remainder_dtype", only_narrow=True)
    inner_state: Any = child_state()


class corrected_weights(_NarrowWeights, state=CorrectedWeightsState):
    """Keeps the rounding error of bfloat16 and float16 parameters in 8 or 16 bits, so that small steps are not lost.

    Use it instead of `master_weights` to save memory. The parameter and its remainder (the rounding error) together
    represent the weight. For a bfloat16 parameter, a 16-bit remainder gives the weight the 24 significant bits of a
    float32; an 8-bit remainder gives it 16 significant bits. The updates are in float32, as with `master_weights`.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It sees parameters and gradients in float32.
      remainder_dtype: Dtype of the remainder, 'int16' (default) or 'int8'. 'int8' is enough if the steps are larger
        than 1e-5 times the weights.

    Returns:
      A transformation whose `update` needs `params`. State: 2 bytes ('int16') or 1 byte ('int8') for each entry of a
        16-bit parameter, none for other parameters, in addition to the inner state.

    References:
      Kahan, 1965, "Further Remarks on Reducing Truncation Errors".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.corrected_weights(gx.sgd(1e-3), "int8")
      >>> params = jnp.ones(1, "bfloat16")
      >>> state = tx.init(params)
      >>> for _ in range(100):
      ...     updates, state = tx.update(-jnp.ones(1, "bfloat16"), state, params)
      ...     params = gx.apply_updates(params, updates)
      >>> print(params)
      [1.10156]
    """

    kept = "remainder"
    remainder_dtype: str = choice(default="int16", options=("int8", "int16"))

    def weight(self, p: Array, kept: Array) -> Array:
        return with_remainder(p, kept)

    def split(self, x: Array, dtype: Any) -> tuple[Array, Array]:
        p = leaf.narrow(x, dtype)
        return p, remainder(x, p, self.remainder_dtype)


class StochasticWeightsState(NamedTuple):
    """The number of steps, and the inner state."""

    count: Array = counter()
    inner_state: Any = child_state()


class stochastic_weights(_Wide, state=StochasticWeightsState):
    """Rounds bfloat16 and float16 parameters up or down at random, so that small steps are not lost on average.

    Use it if there is no memory for `corrected_weights`. A step of a tenth of a unit in a parameter's last place moves
    the parameter by the whole unit with probability 0.1. The random numbers are computed from the seed, the step, the
    leaf's path and the entry's index. So a run can be repeated bit for bit, on any mesh, and the state holds no random
    key. The updates are in float32, as with `master_weights`.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It sees parameters and gradients in float32.
      seed: Seed of the random numbers, an integer; the same seed gives the same run. Default 0.

    Returns:
      A transformation whose `update` needs `params`. State: a step count, in addition to the inner state.

    References:
      Gupta et al., 2015, "Deep Learning with Limited Numerical Precision".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.stochastic_weights(gx.sgd(1e-3))
      >>> params = jnp.ones(1000, "bfloat16")
      >>> state = tx.init(params)
      >>> for _ in range(100):
      ...     updates, state = tx.update(-jnp.ones(1000, "bfloat16"), state, params)
      ...     params = gx.apply_updates(params, updates)
      >>> print(params.astype("float32").mean().round(2))
      1.1
    """

    seed: int = seed(default=0)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        steps, inner_state = self.wide_update(updates, state, params, _IN_FLOAT32.seen(params), extra)
        leaves, treedef = jax.tree.flatten(params)
        trios = zip(checks.paths(params), leaves, treedef.flatten_up_to(steps), strict=True)
        drawn = [self._moved(path, jnp.asarray(p), u, state.count) for path, p, u in trios]
        return treedef.unflatten(drawn), state._replace(count=counted(state.count), inner_state=inner_state)

    def _moved(self, path: str, p: Array, u: Array, count: Array) -> Array:
        """Returns the update of a parameter, which is exact in float32."""
        wide = leaf.widen(p)
        if wide.dtype == p.dtype:
            return u
        x = wide + leaf.narrow(u, wide.dtype)
        return leaf.widen(stochastic(p.dtype).encode(x, draws(p.shape, self.seed, path, count))) - wide
