"""Rules written for one tensor.

A rule says what happens to one leaf, in `init_leaf` and `update_leaf`, as in the paper. The engine
(`core/engine.py`) alone knows about trees, None leaves, the step counter, dtypes, schedules and errors.

Three base classes say what a rule may look at, and the laws hold a rule to what it says:

    Elementwise   every entry by itself: gluing leaves together changes nothing
    Layerwise     a leaf as a whole, but no other leaf
    Treewide      the whole tree, once a step, in `measure`, whose result `update_leaf` receives
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks
from gradtx.core import mask
from gradtx.core.engine import EachLeaf, resolve, run_update
from gradtx.core.state import CountState, fields
from gradtx.core.transformation import GradientTransformation

__all__ = ["EachLeaf", "Elementwise", "Layerwise", "Leafwise", "Treewide"]


class Leafwise(GradientTransformation):
    """A transformation given by a rule for one leaf; subclass one of the three scopes instead.

    Class arguments:
      state: the NamedTuple class of the state: `count`, the slots of a leaf, what is kept `Once` (`core.state`).
      needs: which of `params` and the extra arguments `update` cannot do without.
      takes: extra arguments that `measure` receives too, None where they are not given.
      real: True for a rule that has no meaning for complex leaves, and refuses them.
    """

    State: ClassVar[type[Any]] = CountState
    needs: ClassVar[tuple[str, ...]] = ()
    real: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    """Whether the rule has a `measure`, for which the whole tree must be there."""
    may_loop: ClassVar[bool] = False
    """Whether `update_leaf` may contain loops and other functions that are better not traced inline."""

    def __init_subclass__(
        cls,
        *,
        state: type[Any] | None = None,
        needs: tuple[str, ...] = (),
        takes: tuple[str, ...] = (),
        real: bool = False,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        cls.real = cls.real or real
        cls.measures = cls.measure is not Leafwise.measure
        if state is not None:
            fields(state)  # raises if they are in the wrong order
            cls.State = state
        if needs or takes:
            cls.needs = needs
            cls.extra_args = frozenset(needs + takes) - {"params"}

    # --- what a rule defines

    def init_leaf(self, p: Array) -> tuple[Any, ...]:
        """The slots of one parameter: an array, or a list of arrays, for each field of a leaf."""
        del p
        return ()

    def init_once(self, params: Any) -> tuple[Any, ...]:
        """What is kept once for the tree: an array for each field that is declared `Once`."""
        del params
        return ()

    def at_step(self, t: Array) -> Any:
        """What all leaves share at step `t`, which counts from 1: computed once, passed to `update_leaf`."""
        del t

    def measure(
        self, updates: Any, slots: Any, once: Any, params: Any, t: Array, **extra: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """What needs the whole tree, once a step: `(shared, once)`.

        `shared` goes to every `update_leaf`, in place of what `at_step` returns; in `EachLeaf` every leaf gets
        its own. `once` are the new values of the fields kept once, () if there are none. `slots` is a
        tuple of trees, one for each field of a leaf; `extra` holds the extra arguments that the
        class needs or takes; `params` is None unless it needs them.
        """
        raise NotImplementedError

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """The update and the new slots of one leaf.

        All arrays come in float32 or wider, and the engine casts what is returned to the dtypes of
        the gradient and of the old slots. `p` is None unless the rule needs `params`; `shared` is
        what `at_step` returned, or what `measure` did.
        """
        raise NotImplementedError

    def where(self, params: Any) -> Sequence[bool] | None:
        """For each leaf of `params`, whether the rule applies to it; None where it applies to all."""
        return mask.selected(type(self).__name__, getattr(self, "mask", None), params)

    # --- what the engine makes of it

    def init(self, params: Any) -> Any:
        who = type(self).__name__
        leaves, treedef = jax.tree.flatten(params)
        checks.floating(who, "params", params, leaves)
        if self.real:
            checks.real(who, "params", params, leaves)
        rule = self._filled(self._dynamic, [resolve(self, name, 0) for name in self._dynamic])
        slots = [rule.init_leaf(jnp.asarray(p)) for p in leaves]
        columns = zip(*slots, strict=True) if slots else ((),) * len(fields(self.State).leaf)
        once = rule.init_once(jax.tree.map(jnp.asarray, params)) if fields(self.State).once else ()
        return self.State(jnp.zeros((), jnp.int32), *map(treedef.unflatten, columns), *once)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        updates, states = run_update((self,), updates, (state,), params, extra)
        return updates, states[0]


class Elementwise(Leafwise):
    """A rule that treats every entry by itself."""


class Layerwise(Leafwise):
    """A rule that sees one leaf as a whole."""

    may_loop = True


class Treewide(Leafwise):
    """A rule that sees the whole tree once a step, in `measure`."""
