"""Rules written for one tensor.

A rule says what happens to one leaf, in `init_leaf` and `update_leaf`, as in the paper. The engine
(`core/engine.py`) alone knows about trees, None leaves, the step counter, dtypes, schedules and errors.

Three base classes say what a rule may look at, and the laws hold a rule to what it says:

    Elementwise   every entry by itself: gluing leaves together changes nothing
    Layerwise     a leaf as a whole, but no other leaf
    Treewide      the whole tree, once a step, in `measure`, whose scalars `update_leaf` receives
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks
from gradtx.core.engine import resolve, run_update
from gradtx.core.hyper import Schedule
from gradtx.core.state import CountState
from gradtx.core.transformation import GradientTransformation

__all__ = ["Elementwise", "Layerwise", "Leafwise", "Treewide"]


class Leafwise(GradientTransformation):
    """A transformation given by a rule for one leaf; subclass one of the three scopes instead.

    Class arguments:
      state: the NamedTuple class of the state: `count`, then one field per slot of a leaf.
      needs: which of `params` and the extra arguments `update` cannot do without.
    """

    State: ClassVar[type[Any]] = CountState
    needs: ClassVar[tuple[str, ...]] = ()
    measures: ClassVar[bool] = False
    """Whether the rule has a `measure`, for which the whole tree must be there."""
    may_loop: ClassVar[bool] = False
    """Whether `update_leaf` may contain loops and other functions that are better not traced inline."""

    def __init_subclass__(
        cls, *, state: type[Any] | None = None, needs: tuple[str, ...] | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if state is not None:
            cls.State = state
        if needs is not None:
            cls.needs = needs
            cls.extra_args = frozenset(needs) - {"params"}

    # --- what a rule defines

    def init_leaf(self, p: Array) -> tuple[Any, ...]:
        """The slots of one parameter: one array for each state field after `count`."""
        del p
        return ()

    def at_step(self, t: Array) -> Any:
        """What all leaves share at step `t`, which counts from 1: computed once, passed to `update_leaf`."""
        del t

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """The update and the new slots of one leaf.

        All arrays come in float32 or wider, and the engine casts what is returned to the dtypes of
        the gradient and of the old slots. `p` is None unless the rule needs `params`; `shared` is
        what `at_step` returned, or what the `measure` of a treewide rule did.
        """
        raise NotImplementedError

    def where(self, params: Any) -> Sequence[bool] | None:
        """For each leaf of `params`, whether the rule applies to it; None where it applies to all."""
        del params
        return None

    # --- what the engine makes of it

    def init(self, params: Any) -> Any:
        who = type(self).__name__
        leaves, treedef = jax.tree.flatten(params)
        checks.floating(who, "params", params, leaves)
        rule = self._filled(self._dynamic, [resolve(self, name, 0) for name in self._dynamic])
        slots = [rule.init_leaf(jnp.asarray(p)) for p in leaves]
        columns = zip(*slots, strict=True) if slots else ((),) * (len(self.State._fields) - 1)
        return self.State(jnp.zeros((), jnp.int32), *map(treedef.unflatten, columns))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        updates, states = run_update((self,), updates, (state,), params, extra)
        return updates, states[0]

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        for name in self._dynamic:
            value = getattr(self, name)
            if state is not None and isinstance(value, Schedule):
                value = value(state.count)
            yield name, value


class Elementwise(Leafwise):
    """A rule that treats every entry by itself."""


class Layerwise(Leafwise):
    """A rule that sees one leaf as a whole."""

    may_loop = True


class Treewide(Leafwise):
    """A rule that sees the whole tree once a step."""

    measures = True

    def measure(self, updates: Any, slots: Any, params: Any, t: Array, **extra: Any) -> Any:
        """Scalars computed from the whole tree, once a step; `update_leaf` receives them as `shared`.

        `slots` is a tuple of trees, one for each state field after `count`; `extra` holds the extra
        arguments that the class needs; `params` is None unless it needs them.
        """
        raise NotImplementedError
