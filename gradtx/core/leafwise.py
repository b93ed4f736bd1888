"""Rules that are written for one tensor.

A rule says in `update_leaf` what happens to one leaf, as in the paper. Only the engine (`core/engine.py`) deals
with trees, None leaves, the step counter, dtypes, schedules and errors.

Three base classes say what a rule may look at; the tests check that it looks at nothing else:

    Elementwise   every entry separately: gluing leaves together changes nothing
    Layerwise     a leaf as a whole, but no other leaf
    Treewide      the whole tree, once a step, in `measure`, whose result `update_leaf` receives

Beside `update_leaf` there are three hooks, which are separate because they differ in cost:

    at_step       the step count and the slots per tree                   once a step, no pass over leaves
    on_stack      all matrices of one shape as one batch                  a pass before it and one after it
    measure       the whole tree                                          a pass of its own, before all others

What is known about a leaf from its path, its shape or a mask is a field (`core/mask.py`); what comes with it in
another tree is an extra argument (`by_leaf`). `update_leaf` gets both as keyword arguments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core import mask, matrices
from gradtx.core.engine import run_update
from gradtx.core.shared import ByLeaf, Shared
from gradtx.core.slots import average_weights, counter
from gradtx.core.state import CountState, declared, is_of_matrices
from gradtx.core.stateful import Stateful
from gradtx.types import Params, State, Updates

__all__ = ["ByLeaf", "Elementwise", "Layerwise", "Leafwise", "Shared", "Treewide"]


def _check_rule(cls: Any) -> None:
    """Raises a TypeError if the class arguments, hooks and slots of a rule do not fit together."""
    who, slots = cls.__name__, declared(cls.State)
    if slots.get("count") != counter():
        raise TypeError(
            f"{who}: {cls.State.__name__} must have a field `count: Array = counter()`: every rule counts its steps, "
            "so that schedules work."
        )
    strange = [name for name in cls._by_leaf if name not in {*cls.extra_args, "index"}]
    if strange:
        raise TypeError(f"{who}: by_leaf names {strange[0]!r}; name it in needs or takes, too.")
    if cls._every is not None and cls._every not in {f.name for f in dataclasses.fields(cls)}:
        raise TypeError(f"{who}: every names {cls._every!r}, but it has no field of that name.")
    missing = [name for name in cls.corrected if name not in cls._dynamic]
    if missing:
        raise TypeError(f"{who}: corrected names {missing[0]!r}, but it has no hyperparameter of that name.")
    if cls.corrected and not isinstance(slots.get("weights"), average_weights):
        raise TypeError(
            f"{who}: {cls.State.__name__} must have a field `weights: Any = average_weights()`: there are decays in "
            "corrected, and one that is a schedule needs it."
        )
    if cls._measures and not issubclass(cls, Treewide):
        raise TypeError(f"{who}: `measure` looks at the whole tree: make it a Treewide rule.")
    works = cls.on_stack is not Leafwise.on_stack
    if works and cls._measures:
        raise TypeError(f"{who}: a rule has `measure` or `on_stack`, not both: make it two links.")
    if (works or any(map(is_of_matrices, slots.values()))) and cls._stack_field is None:
        raise TypeError(
            f"{who}: a rule with `on_stack`, or with slots of matrices such as factors of rows, needs `on_stack` and a "
            "field that says how leaves are matrices: write weight_dimension_numbers: Any = matrix_axes()."
        )


class Leafwise(Stateful, state=CountState):
    """Base class of rules for one leaf; subclass one of the three scopes instead.

    Class arguments, beside those of `Stateful`:
      by_leaf: Which of the extra arguments are trees like the updates. `update_leaf` gets each leaf's own item, in
      float32 or wider, as a keyword argument of that name. 'index' stands for the position of the leaf in the tree.
      corrected: The decay rates of moving averages that the rule corrects for their start at zero, by `weight`.
      every: The name of the field that says how often `renew_stack` is called; by default at every step. renews:
      'before' (the default) to call `renew_stack` before `on_stack`; 'after' for a step that uses the old slots and
      a `renew_stack` that sees the slots that `on_stack` returned. loops: True for a rule whose `update_leaf`
      contains loops (`lax.scan`, `lax.fori_loop`). Elementwise rules are traced as if every loop were written out,
      which is quicker if there are none.
    """

    corrected: ClassVar[tuple[str, ...]] = ()
    _by_leaf: ClassVar[tuple[str, ...]] = ()
    _every: ClassVar[str | None] = None
    _renews: ClassVar[str] = "before"
    _loops: ClassVar[bool] = False
    _measures: ClassVar[bool] = False
    """Whether the rule has a `measure`, which needs the whole tree."""
    _stack_field: ClassVar[str | None] = None
    """The name of the field that says how leaves are matrices, for a rule that works on stacks of matrices."""

    def __init_subclass__(
        cls,
        *,
        by_leaf: tuple[str, ...] = (),
        corrected: tuple[str, ...] = (),
        every: str | None = None,
        renews: str | None = None,
        loops: bool = False,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        cls._by_leaf = by_leaf or cls._by_leaf
        cls.corrected = corrected or cls.corrected
        cls._every = every or cls._every
        cls._renews = checks.choice(cls.__name__, "renews", renews or cls._renews, ("before", "after"))
        cls._loops = cls._loops or loops
        cls._measures = cls.measure is not Leafwise.measure
        cls._each, cls._applies = mask.leaf_fields(cls)
        if cls.on_stack is not Leafwise.on_stack:
            cls._stack_field = next((name for name, each in cls._each.items() if each is matrices.views), None)
        _check_rule(cls)

    _each: ClassVar[dict[str, Any]] = {}
    _applies: ClassVar[str | None] = None

    # --- what a rule defines

    def at_step(self, t: Array, numbers: Any, **extra: Any) -> tuple[Any, Any]:
        """Returns what all leaves share at step `t`, which counts from 1, and the next slots per tree:
        `(shared, numbers)`.

        `numbers` has the state's fields per tree, by name: return it unchanged or `numbers._replace(...)`. `extra`
        has the extra arguments that the class needs or takes, except those by leaf.
        """
        del t, extra
        return None, numbers

    def measure(self, updates: Any, slots: Any, numbers: Any, params: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        """Computes from the whole tree, once a step, what leaves share; replaces `at_step` and returns
        `(shared, numbers)`.

        `slots` has the state's fields per parameter, by name, each a tree; `params` is None unless the class needs
        them. `extra` has all extra arguments that the class needs or takes. Results for single leaves can be passed
        on: with `Shared(z=ByLeaf(tree))` each leaf gets its own `shared.z`.
        """
        raise NotImplementedError

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, **here: Any) -> tuple[Array, Any]:
        """Returns the update and the next slots of one leaf.

        `slots` has the state's fields per parameter, by name: return it unchanged or `slots._replace(...)`. All
        arrays are in float32 or wider, and the engine casts the results to the dtypes of the gradient and of the
        old slots. `p` is None unless the class needs `params`; `shared` is what `at_step` or `measure` returned.
        `here` has what is known about this leaf: the items of its `per_leaf` fields, and the extra arguments by
        leaf.

        For a rule with `on_stack`, `g` is the result of `on_stack`, in the leaf's own shape, and `here["before"]`
        is the result of `to_stack`.
        """
        raise TypeError(f"{type(self).__name__} must define update_leaf(self, g, slots, p, shared).")

    def to_stack(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """Returns for one leaf the array that `on_stack` gets as matrices, in the leaf's shape, and the next slots."""
        del p, shared
        return g, slots

    def renew_stack(self, x: Array, slots: Any, shared: Any) -> Any:
        """Returns the slots of a stack that are renewed every so many steps; see `every` and `renews`."""
        del x, shared
        return slots

    def on_stack(self, x: Array, slots: Any, shared: Any) -> tuple[Array, Any]:
        """Transforms all matrices of one shape and dtype at once, with their slots.

        `x` has the shape (matrices, inputs, outputs). `slots` has the fields declared by `per_matrix`, or as
        factors of 'rows' or 'columns', by name, with all matrices along a leading axis.
        """
        raise NotImplementedError

    def matrix_view(self, view: Any) -> Any:
        """Returns how the rule sees a leaf that the user wants seen as `view`, such as in blocks; unchanged by
        default.
        """
        return view

    # --- what a rule may call: the start at zero of a moving average

    def weight(self, decay: str, t: Array, numbers: Any, ahead: int = 0) -> Array:
        """Returns the bias-correction divisor of a moving average at step `t`: 1 minus the product of all decay
        rates so far.

        The moving average starts at zero, so dividing it by this number removes the bias towards zero. `decay` is the
        name of the field with the decay rate; the name must be listed in the class attribute `corrected`. `ahead=1`
        returns the divisor after one more step with the decay rate of this step. `ahead=-1` returns the divisor before
        this step, and 1 at the first step, where that divisor would be 0.
        """
        base, kept = getattr(self, decay), numbers.weights.get(decay)
        if kept is None:
            return leaf.one_minus_power(base, t + ahead if ahead else t)
        for _ in range(1 + ahead):
            kept = leaf.moment(kept, jnp.ones_like(kept), base)
        return jnp.where(kept > 0, kept, 1) if ahead < 0 else kept

    def weighed(self, numbers: Any) -> Any:
        """Returns the per-tree slots with the bias-correction divisors after this step.

        `at_step` or `measure` must return them.
        """
        kept = {
            name: leaf.moment(weight, jnp.ones_like(weight), getattr(self, name))
            for name, weight in numbers.weights.items()
        }
        return numbers._replace(weights=kept)

    def debias(self, decay: str, t: Array, numbers: Any, nesterov: bool = False) -> tuple[Any, ...]:
        """Returns the factors that correct a first moment for its start at zero, for `leaf.debiased_ratio`.

        With `nesterov` the estimate looks one step ahead, with the decay rate b of this step: m_t / w_t is replaced
        by b * m_t / w_(t+1) + (1 - b) * g_t / w_t, where w_t is the weight at step t.
        """
        base, left = getattr(self, decay), self.weight(decay, t, numbers)
        return (base / self.weight(decay, t, numbers, ahead=1), (1 - base) / left) if nesterov else (left,)

    # --- what the engine makes of it

    def _where(self, params: Any) -> Sequence[bool] | None:
        """Returns for each leaf of `params` whether the rule applies to it; None if it applies to all."""
        return self._applies and mask.selected(type(self).__name__, getattr(self, self._applies), params)  # pyright: ignore

    def _facts(self, params: Any) -> dict[str, list[Any]]:
        """Returns by field what is known about each leaf."""
        who = type(self).__name__
        facts = {name: each(who, getattr(self, name), params) for name, each in self._each.items()}
        if self._stack_field is not None:
            facts[self._stack_field] = self._matrix_views(params)
        return facts

    def _matrix_views(self, tree: Any) -> Sequence[Any]:
        if self._stack_field is None:
            return super()._matrix_views(tree)
        found = matrices.views(type(self).__name__, getattr(self, self._stack_field), tree)
        return list(map(self.matrix_view, found))

    def init(self, params: Params) -> Any:
        state = super().init(params)
        self._where(params)  # raises already here for a mask that does not fit the tree, or that selects nothing
        self._facts(params)
        return state

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        self._check_state(updates, state, params)
        updates, states = run_update((self,), updates, (state,), params, extra)
        return updates, states[0]


class Elementwise(Leafwise):
    """Base class of rules that treat every entry separately.

    Define `update_leaf`, and `at_step` if leaves share something at a step. Class arguments: `state`, `needs`,
    `takes`, `by_leaf`, `real`, and `loops=True` if `update_leaf` contains a loop, which would otherwise be
    unrolled.
    """


class Layerwise(Leafwise, loops=True):
    """Base class of rules that see one leaf as a whole.

    Define `update_leaf`, and `at_step` or `on_stack` if the rule needs them. Class arguments: `state`, `needs`,
    `takes`, `by_leaf`, `real`, and `every`, the name of the field that says how often `renew_stack` is called.
    """


class Treewide(Leafwise):
    """Base class of rules whose result for a leaf also depends on other leaves, usually through `measure`.

    Define `update_leaf` and `measure`. Class arguments: `state`, `needs`, `takes`, `by_leaf`, `real`, `loops`.
    """
