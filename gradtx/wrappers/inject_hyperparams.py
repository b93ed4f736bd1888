"""Hyperparameters in the state, for those who come from optax.

In gradtx a transformation is a value: `tx.replace(learning_rate=...)` changes a number without a new trace, and
`gradtx.hyperparameters(tx, state)` reads them all. This wrapper keeps the numbers in the state instead, where
`state.hyperparams["learning_rate"]` is read and set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.composite import Composite
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.hyper import Schedule, function_schedule
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child, dtype, function, show, static

__all__ = ["InjectHyperparamsState", "inject_hyperparams"]


class InjectHyperparamsState(NamedTuple):
    """The steps taken, the numbers of the last step (set them here), and the inner state."""

    count: Array = counter()
    hyperparams: dict[str, Array] = per_tree(start="first_numbers")
    inner_state: Any = child_state(of="transformation")


class _Injected(Composite, state=InjectHyperparamsState):
    """A transformation that is built anew from the numbers in its state, at every step."""

    factory: Any = static(check=function)
    names: tuple[str, ...] = static()
    """The arguments whose values are in the state."""
    values: tuple[Any, ...] = child()
    others: FrozenTree = static()
    """The other arguments by name."""
    hyperparam_dtype: Any = dtype(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._built(self._given())  # raises where a number is out of range

    def children(self) -> dict[str, GradientTransformation]:
        return {"transformation": self._built(self._given())}

    def first_numbers(self, params: Any) -> dict[str, Array]:
        """The numbers of the first step."""
        del params
        return self._numbers(jnp.zeros((), jnp.int32), self._given())

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        numbers = self._numbers(state.count, state.hyperparams)
        updates, inner_state = self._built(numbers).update(updates, state.inner_state, params, **extra)
        return updates, InjectHyperparamsState(count=counted(state.count), hyperparams=numbers, inner_state=inner_state)

    def _numbers(self, count: Array, given: dict[str, Any]) -> dict[str, Array]:
        """The numbers of a step: schedules called, the others as they are in the state."""
        least = jnp.promote_types(self.hyperparam_dtype or jnp.result_type(float), jnp.float32)
        found = {}
        for name, x in zip(self.names, self.values, strict=True):
            value = jnp.asarray(x(count) if isinstance(x, Schedule) else given[name])
            found[name] = jnp.array(value, least, copy=True)
        return found

    def _built(self, numbers: dict[str, Array]) -> GradientTransformation:
        return as_transformation("inject_hyperparams", self.factory(**numbers, **self.others.tree))

    def _given(self) -> dict[str, Any]:
        return dict(zip(self.names, self.values, strict=True))

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        """The arguments of the factory, which stand for the hyperparameters of what it builds."""
        now = self._given() if state is None else self._numbers(state.count, state.hyperparams)
        return iter(now.items())

    def _parts(self) -> dict[str, Any]:
        return self._given()

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return type(self)(self.factory, self.names, tuple(parts.values()), self.others, self.hyperparam_dtype)

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={show(x)}" for name, x in (self._given() | self.others.tree).items())
        static = "" if self.hyperparam_dtype is None else f", hyperparam_dtype={show(self.hyperparam_dtype)}"
        return f"inject_hyperparams({self.factory.__name__}{static})({inner})"


_Injected.__name__ = "inject_hyperparams"  # in errors and descriptions; pickle goes by the qualified name


def inject_hyperparams(
    inner_factory: Callable[..., Any], static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
) -> Callable[..., GradientTransformation]:
    """A function like `inner_factory` whose transformation keeps its numbers in the state.

    What is kept are the arguments that are numbers, arrays or schedules, defaults included, and that may change from
    step to step; not those in `static_args`, flags, whole numbers that decide shapes, and functions that are no
    schedules, such as masks. They are kept in `hyperparam_dtype`, float32 at least. A schedule is called with the
    steps taken; any other number can be set in `state.hyperparams`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.inject_hyperparams(gx.sgd)(learning_rate=0.5)
    >>> state = tx.init(jnp.zeros(1))
    >>> state.hyperparams["learning_rate"] = jnp.asarray(0.25)
    >>> print(tx.update(jnp.ones(1), state)[0])
    [-0.25]

    Raises:
      TypeError: `inner_factory` is no function, or its result no transformation.
      ValueError: `static_args` names an argument that it does not have.
    """
    function("inject_hyperparams", "inner_factory", inner_factory)
    signature = inspect.signature(inner_factory)
    fixed = {static_args} if isinstance(static_args, str) else set(static_args)
    unknown = fixed - set(signature.parameters)
    if unknown:
        raise ValueError(
            f"inject_hyperparams: {inner_factory.__name__} has no argument {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(signature.parameters)}."
        )

    def build(*args: Any, **kwargs: Any) -> GradientTransformation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        plain = as_transformation("inject_hyperparams", inner_factory(**arguments))
        taken = {}
        for name, x in arguments.items():
            if name not in fixed:
                value = _as_hyperparameter(x, plain)
                if value is not None and _may_change(inner_factory, arguments, name, value):
                    taken[name] = value
        others = FrozenTree({name: x for name, x in arguments.items() if name not in taken})
        return _Injected(inner_factory, tuple(taken), tuple(taken.values()), others, hyperparam_dtype)

    return build


def _as_hyperparameter(x: Any, plain: GradientTransformation) -> Any:
    """A number, an array or a schedule as such; None for everything else.

    A function is a schedule where the transformation that was built of it took it for one.
    """
    if leaf.is_number(x) or isinstance(x, (Schedule, jax.Array)):
        return x
    if callable(x):
        nodes = jax.tree.leaves(plain, is_leaf=lambda node: isinstance(node, function_schedule))
        return next((node for node in nodes if isinstance(node, function_schedule) and node.fn is x), None)
    return None


def _may_change(factory: Callable[..., Any], arguments: dict[str, Any], name: str, value: Any) -> bool:
    """Whether the factory takes an array in this argument, as it takes any hyperparameter."""
    if isinstance(value, Schedule):
        return True
    try:
        factory(**{**arguments, name: jnp.asarray(value, float)})
    except (TypeError, ValueError):
        return False
    return True
