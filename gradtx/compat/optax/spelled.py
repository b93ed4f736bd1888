"""Makes the functions of this package: gradtx's functions with optax's argument names and defaults.

    adadelta = spelled(native.adadelta, rename={"weight_decay_mask": "mask"}, default={"learning_rate": None})

is `adadelta` with optax's argument names and defaults. The transformations that such functions return ignore unknown
extra arguments, like the transformations of optax. Only the outermost transformation must ignore unknown arguments,
because it passes to the inner transformations only the arguments that they accept. So a function unwraps the
transformations in its arguments, and the transformations of a chain run together as in gradtx.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import starmap
from typing import Any, Self

import jax

from gradtx.core.chain import chain, needs
from gradtx.core.composite import Composite, Wrapper
from gradtx.core.hyper import Schedule
from gradtx.core.state import CountState, EmptyState
from gradtx.core.transformation import GradientTransformation as NativeTransformation
from gradtx.core.transformation import as_transformation, identity, stateless, takes
from gradtx.transforms.clip import ClipByGlobalNormState

__all__ = [
    "REQUIRED",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "lenient",
    "seed_of",
    "spelled",
    "strict",
    "with_extra_args_support",
]


class GradientTransformation(Wrapper):
    """A transformation made of two functions, as in optax; `update` raises an error for unknown extra arguments.

    In optax this class is a named tuple. So here it also unpacks (`init, update = tx`), and has the methods of a named
    tuple.

    Args:
      init: Function of the parameters that returns the state before the first step.
      update: Function `update(updates, state, params=None)` that returns the new updates and the next state.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> flip = optax.GradientTransformation(
      ...     init=lambda params: optax.EmptyState(),
      ...     update=lambda updates, state, params=None: (-updates, state),
      ... )
      >>> flip.update(2.0, flip.init(1.0))
      (-2.0, EmptyState())
    """

    def __init__(self, init: Callable[..., Any], update: Callable[..., Any]) -> None:
        object.__setattr__(self, "inner", NativeTransformation(init, update))

    def init(self, params: Any) -> Any:
        return self.inner.init(params)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        known = _remembered(self.inner, state, updates)
        updates, new = self.inner.update(updates, known, params, **self._given(extra))
        return updates, new if known is state else _forgotten(state, new)

    def _given(self, extra: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the extra arguments for `inner`, which raises an error for arguments that it does not accept."""
        return extra

    def accepts(self, name: str) -> bool:
        return self.inner.accepts(name)

    def __getitem__(self, index: Any) -> Any:
        return (self.init, self.update)[index]

    def _replace(self, **functions: Callable[..., Any]) -> Self:
        """Returns a transformation with a different `init` or `update`."""
        return type(self)(**{"init": self.init, "update": self.update, **functions})

    def path_to(self, name: str) -> tuple[str, ...]:
        del name
        return ()

    def _members(self, state: Any = None) -> Iterator[tuple[str, NativeTransformation, Any]]:
        if isinstance(self.inner, Composite):
            return self.inner._members(state)
        return super()._members(state)

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        return self.inner._hyperparameters(state)

    def _parts(self) -> dict[str, Any]:
        return self.inner._parts()

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return self._around(self.inner._with_parts(parts))

    @classmethod
    def _around(cls, tx: NativeTransformation) -> Self:
        made = object.__new__(cls)
        object.__setattr__(made, "inner", tx)
        return made

    def __repr__(self) -> str:
        return repr(self.inner)


class GradientTransformationExtraArgs(GradientTransformation):
    """A transformation whose `update` accepts any extra argument, and ignores the arguments that nothing reads.

    The functions of this package return this class; `inner` is then the transformation of gradtx that does the work.

    Args:
      init: Function of the parameters that returns the state before the first step.
      update: Function `update(updates, state, params=None, **extra)` that returns the new updates and the next state.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.sgd(1.0)
      >>> isinstance(tx, optax.GradientTransformationExtraArgs)
      True
      >>> print(tx.update(jnp.ones(1), tx.init(jnp.ones(1)), epoch=3)[0])
      [-1.]
    """

    takes_any = True

    def __init__(self, init: Callable[..., Any], update: Callable[..., Any]) -> None:
        super().__init__(init, update)  # otherwise `Value` would generate an __init__ from the fields

    def _given(self, extra: Mapping[str, Any]) -> Mapping[str, Any]:
        return _with_data(self.inner, extra)

    def accepts(self, name: str) -> bool:
        del name
        return True

    def __repr__(self) -> str:
        return f"with_extra_args_support({self.inner!r})"


def _with_data(tx: NativeTransformation, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the extra arguments that `tx` accepts; other arguments are bound to `value_fn` if it has such arguments.

    As in optax, a line search raises an error for arguments that its `value_fn` does not accept.
    """
    given: dict[str, Any] = tx.accepted(extra)
    fn = extra.get("value_fn")
    if fn is None:
        return given
    others = {name: x for name, x in extra.items() if name not in given}
    data = {name: x for name, x in others.items() if takes(fn, name)}
    if len(data) < len(others) and "value_fn" in needs(tx):
        unread = ", ".join(name for name in others if name not in data)
        raise TypeError(
            f"update: Unexpected keyword arguments: {unread}. A line search passes them to value_fn, which does not "
            "take them. Leave them out, or give value_fn arguments of these names."
        )
    return {**given, "value_fn": functools.partial(fn, **data)} if data else given


def _is_empty(state: Any) -> bool:
    """Whether `state` has no arrays, as for a transformation without memory: `EmptyState()`, (), {} or None."""
    return not jax.tree.leaves(state)


def _has_memory(tx: Any) -> bool:
    """Whether the updates of `tx` depend on its state."""
    numbers = (getattr(tx, name) for name in tx._dynamic)
    return getattr(tx, "State", None) not in _NO_MEMORY or any(isinstance(x, Schedule) for x in numbers)


_NO_MEMORY = (CountState, ClipByGlobalNormState)
"""The state classes that no update depends on, unless a schedule needs the count."""


def _remembered(tx: Any, state: Any, like: Any) -> Any:
    """Returns the state with gradtx's initial states in place of optax's empty states.

    optax has empty states for transformations without memory; gradtx has a step count.
    """
    if isinstance(tx, chain) and isinstance(state, tuple) and len(state) == len(tx.links):
        found = [_remembered(link, part, like) for link, part in zip(tx.links, state, strict=True)]
        return state if all(new is old for new, old in zip(found, state, strict=True)) else tuple(found)
    if isinstance(tx, (identity, stateless)):
        return EmptyState() if _is_empty(state) else state
    if isinstance(state, CountState) or not _is_empty(state) or tx.foreign or _has_memory(tx):
        return state
    return tx.init(like)


def _forgotten(state: Any, new: Any) -> Any:
    """Returns the next state, but keeps the empty states of the previous state."""
    if _is_empty(state):
        return state
    return tuple(starmap(_forgotten, zip(state, new, strict=True))) if type(state) is tuple else new


def lenient(tx: Any) -> Any:
    """Returns `tx` as a transformation that ignores unknown extra arguments."""
    if isinstance(tx, GradientTransformationExtraArgs):
        return tx
    return GradientTransformationExtraArgs._around(strict(tx))


def with_extra_args_support(tx: Any) -> Any:
    """Makes a transformation ignore unknown extra arguments; otherwise gradtx raises an error for them.

    Args:
      tx: A transformation.

    Returns:
      A transformation with the same state.

    Example:
      >>> import gradtx as gx, gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.with_extra_args_support(gx.sgd(1.0))
      >>> print(tx.update(jnp.ones(1), tx.init(jnp.ones(1)), epoch=3)[0])
      [-1.]
    """
    return lenient(as_transformation("with_extra_args_support", tx))


def strict(x: Any) -> Any:
    """Unwraps the transformations in an argument to the underlying transformations of gradtx."""
    if isinstance(x, GradientTransformation):
        return x.inner
    if type(x) in (tuple, list):
        return type(x)(map(strict, x))
    return {key: strict(value) for key, value in x.items()} if type(x) is dict else x


REQUIRED = inspect.Parameter.empty
"""Marks an argument that has no default in optax."""

_NONE: Mapping[str, Any] = {}


def spelled(
    native: Callable[..., Any],
    *,
    rename: Mapping[str, str] = _NONE,
    default: Mapping[str, Any] = _NONE,
    ignore: Mapping[str, Any] = _NONE,
    none: Mapping[str, Any] = _NONE,
    alone: bool = False,
) -> Callable[..., Any]:
    """Returns `native` with optax's argument names and defaults.

    Args:
      native: A function or class of gradtx, or a function of this package with optax's behavior.
      rename: Maps optax's name of an argument to the name in `native`.
      default: Maps optax's name of an argument to optax's default.
      ignore: Maps the arguments of optax that have no effect here to their defaults. They come after the positional
        arguments.
      none: Maps optax's name of an argument to the value that replaces None.
      alone: True if optax's state is the state of the first transformation of the chain. The chain must have no further
        transformations, unless the call passes arguments that optax does not have.
    """
    signature = inspect.signature(native)
    theirs = {ours: optax for optax, ours in rename.items()}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        spelt = theirs.get(parameter.name, parameter.name)
        parameters.append(parameter.replace(name=spelt, default=default.get(spelt, parameter.default)))
    rest = next((i for i, p in enumerate(parameters) if p.kind > p.POSITIONAL_OR_KEYWORD), len(parameters))
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters[rest:rest] = [inspect.Parameter(spelt, kind, default=value) for spelt, value in ignore.items()]
    own = signature.replace(parameters=parameters)

    @functools.wraps(native)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = own.bind(*args, **kwargs)
        bound.apply_defaults()
        given: dict[str, Any] = {
            rename.get(spelt, spelt): none.get(spelt) if x is None else strict(x)
            for spelt, x in bound.arguments.items()
            if spelt not in ignore
        }
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for p in signature.parameters.values():
            if p.kind is p.VAR_POSITIONAL:
                positional += given[p.name]
            elif p.kind is p.VAR_KEYWORD:
                named |= given[p.name]
            elif p.kind is p.KEYWORD_ONLY:
                named[p.name] = given[p.name]
            else:
                positional.append(given[p.name])
        made = native(*positional, **named)
        made = made.links[0] if alone and len(made.links) == 1 else made
        return lenient(made) if isinstance(made, NativeTransformation) else made

    call.__signature__ = own  # pyright: ignore[reportAttributeAccessIssue]
    return call


def seed_of(who: str, key: Any, seed: int | None = None) -> int:
    """Returns the seed from `key` (a random key or an integer) or from `seed`, its other name; 0 if both are None."""
    if key is not None and seed is not None:
        raise ValueError(f"{who}: key and seed are two names for the same argument. Pass only key.")
    key = seed if key is None else key
    if key is None:
        return 0
    return key if isinstance(key, int) else int(jax.random.bits(key, dtype="uint32"))
