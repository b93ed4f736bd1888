"""Keeps hyperparameters in the state, for code written for optax.

New code does not need this wrapper: `tx.replace(learning_rate=...)` changes a hyperparameter without recompiling, and
`gradtx.hyperparameters(tx, state)` reads all hyperparameters. This wrapper keeps the hyperparameters in the state
instead, where you read and set them as `state.hyperparams["learning_rate"]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from gradtx import checks, leaf
from gradtx.core.composite import Composite
from gradtx.core.fits import Owner
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.hyper import Schedule, StatefulSchedule, function_schedule, with_extra
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child, dtype, function, show, static
from gradtx.types import Params, State, Updates

__all__ = ["InjectHyperparamsState", "inject_hyperparams"]


class InjectHyperparamsState(NamedTuple):
    """The state of a transformation made by `inject_hyperparams`.

    `hyperparams` holds the hyperparameter values that the previous update used. Set new values here; a hyperparameter
    that follows a schedule is overwritten by its schedule. `gradtx.hyperparameters(tx, state)` shows the values that
    the next update will use. `hyperparams_states` maps the name of each hyperparameter with a stateful schedule to the
    schedule's state.
    """

    count: Array = counter()
    hyperparams: dict[str, Array] = per_tree(start="first_hyperparams")
    hyperparams_states: dict[str, Any] = per_tree(start="first_schedule_states")
    inner_state: Any = child_state(of="transformation")


def inject_hyperparams(
    inner_factory: Callable[..., Any], static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
) -> Callable[..., GradientTransformation]:
    """Makes a function like `inner_factory` whose transformation keeps its hyperparameters in the state.

    Use it for code written for optax that sets `state.hyperparams["learning_rate"]`. New code can use
    `tx.replace(learning_rate=...)` instead.

    The state holds all arguments that are numbers, arrays or schedules, including defaults. The state does not hold
    `static_args`, flags, integers that determine shapes, and functions that are not schedules, such as masks. A
    schedule is called with the number of steps taken. A `gx.rules.StatefulSchedule` is called with its own state, which
    is kept in the state as well, and with the extra arguments of `update`. Every hyperparameter without a schedule can
    be set in `state.hyperparams`, which holds the values that the previous update used. If you set the decay rate of a
    moving average there, its bias correction assumes that all steps used this decay rate; with a schedule the bias
    correction is exact.

    Args:
      inner_factory: A function that makes a transformation, such as `gx.sgd`. Its arguments must have names.
      static_args: The name of an argument that should not be in the state, or several names. None by default.
      hyperparam_dtype: Dtype of the hyperparameters in the state. By default, and at least, float32.

    Returns:
      A function with the arguments of `inner_factory`. State of its transformations: a step count and 4 bytes per
        hyperparameter, in addition to the inner state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.inject_hyperparams(gx.sgd)(learning_rate=0.5)
      >>> state = tx.init(jnp.zeros(1))
      >>> state.hyperparams["learning_rate"] = jnp.asarray(0.25)
      >>> print(tx.update(jnp.ones(1), state)[0])
      [-0.25]

    Raises:
      TypeError: `inner_factory` is not a function, has arguments without names (`*args`), or does not return a
        transformation.
      ValueError: `static_args` names an argument that `inner_factory` does not have.
    """
    function("inject_hyperparams", "inner_factory", inner_factory)
    signature = inspect.signature(inner_factory)
    fixed = {static_args} if isinstance(static_args, str) else set(static_args)
    _check_names(inner_factory, signature, fixed)

    def build(*args: Any, **kwargs: Any) -> GradientTransformation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        stateful = {name: x for name, x in arguments.items() if isinstance(x, StatefulSchedule) and name not in fixed}
        arguments |= {name: _first(name, x) for name, x in stateful.items()}
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:  # its items are arguments of the factory by their own names
                arguments |= arguments.pop(name)
        built = as_transformation("inject_hyperparams", inner_factory(**arguments))
        taken = {}
        for name, x in arguments.items():
            if name not in fixed:
                value = _as_hyperparameter(x, built)
                if value is not None and _accepts_array(inner_factory, arguments, name, value):
                    taken[name] = value
        # Static fields must be hashable.
        others = FrozenTree({name: x for name, x in arguments.items() if name not in taken})
        kept = tuple(taken), tuple(taken.values())
        return _Injected(inner_factory, *kept, others, hyperparam_dtype, FrozenTree(stateful))

    return build


def _check_names(factory: Callable[..., Any], signature: inspect.Signature, fixed: set[str]) -> None:
    """Raises unless all arguments of the factory have names, and `fixed` contains only names of its arguments."""
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            shown = f"*{name}" if parameter.kind is parameter.VAR_POSITIONAL else f"the positional-only {name}"
            raise TypeError(
                f"inject_hyperparams: {_name_of(factory)} takes {shown}, but hyperparameters are kept by name. "
                "Write a function with named arguments, such as "
                "lambda learning_rate: gx.chain(gx.clip(1.0), gx.sgd(learning_rate))."
            )
    unknown = fixed - set(signature.parameters)
    if unknown:
        raise ValueError(
            f"inject_hyperparams: {_name_of(factory)} has no argument {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(signature.parameters)}."
        )


def _name_of(factory: Callable[..., Any]) -> str:
    return getattr(factory, "__name__", repr(factory))


def _as_hyperparameter(x: Any, built: GradientTransformation) -> Any:
    """Returns `x` as a hyperparameter if it is a number, an array or a schedule; otherwise None.

    A callable counts as a schedule only if the built transformation wrapped it in `function_schedule`, because a mask,
    for instance, is also callable.
    """
    if leaf.is_number(x) or isinstance(x, (Schedule, jax.Array)):
        return x
    if callable(x):
        nodes = jax.tree.leaves(built, is_leaf=lambda node: isinstance(node, function_schedule))
        return next((node for node in nodes if isinstance(node, function_schedule) and node.fn is x), None)
    return None


def _accepts_array(factory: Callable[..., Any], arguments: dict[str, Any], name: str, value: Any) -> bool:
    """Tries the factory with an array for this argument; returns False if it raises TypeError or ValueError.

    A hyperparameter may be an array. An integer that determines a shape, or a flag, may not.
    """
    if isinstance(value, Schedule):
        return True
    try:
        factory(**{**arguments, name: jnp.asarray(value, float)})
    except (TypeError, ValueError):
        return False
    return True


def _first(name: str, schedule: StatefulSchedule) -> Any:
    """Returns the schedule's value at the first step, as a Python number unless it is traced.

    With Python numbers, transformations can be compared with `==`.
    """
    number = _number("inject_hyperparams", name, schedule(schedule.init()))
    return number if isinstance(number, Tracer) else number.item()


def _number(who: str, name: str, value: Any) -> Array:
    """Returns the value of a stateful schedule as a scalar array."""
    checks.scalar(who, f"the value of the schedule {name}", value)
    return jnp.asarray(value, float)


def _owned(x: Any) -> Array:
    """Returns a copy of `x` that may be donated (own buffer) and keeps its dtype in arithmetic (no weak type)."""
    return jnp.array(x, jnp.result_type(x), copy=True)


def _like(name: str, state: State, last: Any) -> Any:
    """Returns the next state of a schedule, in the dtypes of its previous state."""
    who, what = "inject_hyperparams", f"the next state of the schedule {name}"
    checks.same_tree(who, what, state, "the last one", last)

    def cast(x: Any, y: Array) -> Array:
        if checks.kind(checks.dtype(x)) != checks.kind(y.dtype):
            raise TypeError(
                f"{who}: {what} has dtype {checks.dtype(x)} where the last one has {y.dtype}. Let init() return what "
                "update() does, such as jnp.zeros(()) for a float."
            )
        return jnp.asarray(x, y.dtype)

    return jax.tree.map(cast, state, last)


def _as_real(x: Any) -> Any:
    found = checks.dtype(x)
    return x if found is None or checks.kind(found) != "integer" else x * 1.0


class _Injected(Composite, state=InjectHyperparamsState):
    """Rebuilds the transformation at every step from the hyperparameters in the state."""

    factory: Any = static(check=function)
    names: tuple[str, ...] = static()
    """The names of the arguments that are kept in the state."""
    values: tuple[Any, ...] = child()
    """The values of these arguments as the user passed them: numbers, arrays or schedules."""
    others: FrozenTree = static()
    """All other arguments by name."""
    hyperparam_dtype: Any = dtype(default=None)
    stateful: FrozenTree = static(default=FrozenTree({}))
    """The schedules that have a state, by argument name; `values` holds their values at the first step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._build(self._initial())  # raises if a number is out of range

    def children(self) -> dict[str, GradientTransformation]:
        return {"transformation": self._build(self._initial())}

    def first_hyperparams(self, params: Params) -> dict[str, Array]:
        """Returns the hyperparameters of the first step."""
        del params
        return self._numbers(jnp.zeros((), jnp.int32), self._initial(), self.first_schedule_states(), {})

    def first_schedule_states(self, params: Params = None) -> dict[str, Any]:
        """Returns the initial states of all schedules that have a state."""
        del params
        return {name: jax.tree.map(_owned, x.init()) for name, x in self.stateful.tree.items()}

    def accepts(self, name: str) -> bool:
        return super().accepts(name) or any(x.reads(name) for x in self.stateful.tree.values())

    def _check_fits(self, state: State, owner: Owner) -> None:
        if isinstance(state, InjectHyperparamsState) and isinstance(state.hyperparams, dict):
            # A user may write an integer, as in state.hyperparams["learning_rate"] = 0: the step casts it.
            state = state._replace(hyperparams={name: _as_real(x) for name, x in state.hyperparams.items()})
        super()._check_fits(state, owner)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        states = state.hyperparams_states
        numbers = self._numbers(state.count, state.hyperparams, states, extra)
        inner = self._build(numbers)
        updates, inner_state = inner.update(updates, state.inner_state, params, **inner.accepted(extra))
        following = {
            name: _like(name, with_extra(x.update, states[name], extra), states[name])
            for name, x in self.stateful.tree.items()
        }
        return updates, InjectHyperparamsState(
            count=counted(state.count), hyperparams=numbers, hyperparams_states=following, inner_state=inner_state
        )

    def _numbers(self, count: Array, current: dict[str, Any], states: Any, extra: dict[str, Any]) -> dict[str, Array]:
        """Returns the hyperparameters of a step as numbers.

        Schedules are called with `count`, or with their state and extra arguments. The other hyperparameters come from
        `current`: the constructor's values before the first step, the state's `hyperparams` later.
        """
        kept_dtype = jnp.promote_types(self.hyperparam_dtype or jnp.result_type(float), jnp.float32)
        found: dict[str, Array] = {}
        for name, x in zip(self.names, self.values, strict=True):
            value = x(count) if isinstance(x, Schedule) else current[name]
            if name in self.stateful.tree:
                value = _number("inject_hyperparams", name, with_extra(self.stateful.tree[name], states[name], extra))
            found[name] = jnp.array(jnp.asarray(value), kept_dtype, copy=True)
        return found

    def _build(self, arguments: dict[str, Any]) -> GradientTransformation:
        return as_transformation("inject_hyperparams", self.factory(**arguments, **self.others.tree))

    def _initial(self) -> dict[str, Any]:
        """Returns the constructor's values by name; some may be schedules."""
        return dict(zip(self.names, self.values, strict=True))

    def _hyperparameters(self, state: State) -> Iterator[tuple[str, Any]]:
        """Yields the hyperparameters by name; with a state, with the values that the next update will use."""
        now = self._parts()
        if state is not None:
            now = self._numbers(state.count, state.hyperparams, state.hyperparams_states, {})
        return iter(now.items())

    def _parts(self) -> dict[str, Any]:
        return self._initial() | self.stateful.tree

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        stateful = {name: x for name, x in parts.items() if isinstance(x, StatefulSchedule)}
        values = [_first(name, x) if name in stateful else x for name, x in parts.items()]
        kept = self.names, tuple(values), self.others, self.hyperparam_dtype
        return type(self)(self.factory, *kept, FrozenTree(stateful))

    def with_parts_replaced(self, f: Callable[[str, GradientTransformation], GradientTransformation]) -> Self:
        def factory(**arguments: Any) -> GradientTransformation:
            return f("transformation", as_transformation("inject_hyperparams", self.factory(**arguments)))

        kept = self.names, self.values, self.others, self.hyperparam_dtype, self.stateful
        return type(self)(factory, *kept)

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={show(x)}" for name, x in (self._parts() | self.others.tree).items())
        option = "" if self.hyperparam_dtype is None else f", hyperparam_dtype={show(self.hyperparam_dtype)}"
        return f"inject_hyperparams({_name_of(self.factory)}{option})({inner})"


_Injected.__name__ = "inject_hyperparams"  # the name in errors and descriptions; pickle uses the qualified name
