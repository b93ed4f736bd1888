"""Training 16-bit parameters: the digits that their rounding drops are kept in the state, or drawn.

A step that is smaller than half of a parameter's last place leaves it where it is: 1 + 1e-3 is 1 in bfloat16. With x
the weights in float32, p the parameters, and u the updates of `inner`, which sees x,

    x_t = w(p_t, s_t),    x_(t+1) = x_t + u_t,    p_(t+1) = round(x_(t+1)),    s_(t+1) = what p_(t+1) lacks

    master_weights       s = x, all of it (Micikevicius et al., 2018, "Mixed Precision Training")
    corrected_weights    s = x - p in 8 or 16 bits (Kahan, 1965, "Further Remarks on Reducing Truncation Errors")
    stochastic_weights   x = p, nothing is kept; p_(t+1) is x_(t+1) rounded up or down at random, so that its mean is
                         x_(t+1) (Gupta et al., 2015, "Deep Learning with Limited Numerical Precision")

The parameters decide: if they are changed between two steps, clipped or loaded, the weights go on from there.
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
    """Shows 16-bit leaves in float32."""

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

    def wide_update(self, updates: Any, state: Any, params: Any, weights: Any, extra: Any) -> tuple[Any, Any]:
        """The updates of the weights, and the next inner state."""
        given = self.given("inner", _IN_FLOAT32, extra, params)
        return self.inner.update(_IN_FLOAT32.seen(updates), state.inner_state, weights, **given)


class _NarrowWeights(_Wide, needs=("params",)):
    """A wrapper that keeps beside each 16-bit parameter what it lacks of a weight in float32.

    Subclasses say what that is.
    """

    kept: ClassVar[str]
    """The field of the state with what is kept: None beside a parameter that is in float32 or wider."""

    def weight(self, p: Array, kept: Array) -> Array:
        """The weight in float32."""
        raise NotImplementedError

    def split(self, x: Array, dtype: Any) -> tuple[Array, Array]:
        """The parameter in its dtype that is nearest to the weight `x`, and what is kept beside it."""
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
        """The step of a parameter, which is exact in float32, and what is kept of the weight after it."""
        if kept is None:
            return u, None
        new, kept = self.split(x + leaf.narrow(u, x.dtype), p.dtype)
        return leaf.widen(new) - leaf.widen(p), kept


class MasterWeightsState(NamedTuple):
    """The steps taken, the weights in float32, and the inner state."""

    count: Array = counter()
    master: Array = per_param(start=PARAM, only_narrow=True)
    inner_state: Any = child_state()


class master_weights(_NarrowWeights, state=MasterWeightsState):
    """Keeps a float32 copy of bfloat16 and float16 parameters, so that small steps are not lost.

    `inner` sees parameters and gradients in float32. The updates lead from the parameters to the rounded copy. They are
    in float32, whatever the gradients are, because the difference of two 16-bit numbers may need more digits. A wrapper
    around it may round them to the gradients' dtype, which changes only steps larger than half of a parameter. Without
    `master_weights`, each step below half of a parameter's last place is lost: 1 + 1e-3 is 1 in bfloat16.

    A parameter that was changed since the last step, loaded or clipped, is taken as it is, and its copy begins anew.

    Args:
      inner: The transformation.

    Returns:
      A transformation whose `update` needs params. State: 4 bytes for each entry of a 16-bit parameter, none for
      others, beside the inner state.

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
    """The steps taken, what the rounding of the parameters dropped, and the inner state."""

    count: Array = counter()
    remainder: Array = per_param(dtype="remainder_dtype", only_narrow=True)
    inner_state: Any = child_state()


class corrected_weights(_NarrowWeights, state=CorrectedWeightsState):
    """Keeps the digits that bfloat16 and float16 parameters drop, in 8 or 16 bits, so that small steps are not lost.

    It is `master_weights` in less memory: parameter and remainder together are the weight. With 16 bits, a bfloat16
    parameter and its remainder have the 24 digits in base 2 of a float32; with 8, the weight has 16. The
    updates are in float32, as those of `master_weights`.

    Args:
      inner: The transformation, which sees parameters and gradients in float32.
      remainder_dtype: 'int16' (default) or 'int8'. Take 'int8' for runs whose steps are above 1e-5 of the weights.

    Returns:
      A transformation whose `update` needs params. State: 2 bytes or 1 for each entry of a 16-bit parameter, none for
      others, beside the inner state.

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
    """The steps taken, and the inner state."""

    count: Array = counter()
    inner_state: Any = child_state()


class stochastic_weights(_Wide, state=StochasticWeightsState):
    """Rounds bfloat16 and float16 parameters up or down at random, so that small steps are not lost on average.

    Take it where there is no memory for `corrected_weights`. A step that is a tenth of a parameter's last place moves
    it by the whole place, with probability 0.1. The randomness is computed from the seed, the step, the leaf's path and
    the entry's index, so that a run repeats bit for bit, on any mesh, and nothing is kept for it. The updates are in
    float32, as those of `master_weights`.

    Args:
      inner: The transformation, which sees parameters and gradients in float32.
      seed: Another number gives other roundings (default 0).

    Returns:
      A transformation whose `update` needs params. State: one count beside the inner state.

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
        """The step of a parameter, which is exact in float32."""
        wide = leaf.widen(p)
        if wide.dtype == p.dtype:
            return u
        x = wide + leaf.narrow(u, wide.dtype)
        return leaf.widen(stochastic(p.dtype).encode(x, draws(p.shape, self.seed, path, count))) - wide
