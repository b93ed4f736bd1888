"""The transformation: a frozen pytree value with pure `init` and `update`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf
from gradtx.core.fits import UNKNOWN, Owner, check_class
from gradtx.core.hyper import Schedule
from gradtx.core.of_shapes import takes_shapes
from gradtx.core.state import EmptyState
from gradtx.core.value import Value, function, static
from gradtx.types import Params, State, Updates

__all__ = ["STANDARD_EXTRA_ARGS", "GradientTransformation", "apply_updates", "identity", "stateless", "takes"]

STANDARD_EXTRA_ARGS = frozenset({"value", "grad", "value_fn", "key"})
"""What every transformation accepts beyond `params`, and ignores unless it has a use for it."""

_SINGLE = {"value": checks.scalar, "key": checks.random_key}
"""The checks of those that are one number, or one key."""


class GradientTransformation(Value):
    """A pair of pure functions as one value.

    `init(params) -> state` and `update(updates, state, params=None, **extra) -> (updates, state)`.

    Called as a constructor, `GradientTransformation(init_fn, update_fn)` makes a transformation of
    two functions; they are static, so it is equal only to one of the same functions, and its
    repr evaluates only where theirs does. Every transformation unpacks: `init, update = tx`.

    >>> import gradtx as gx
    >>> flip = gx.GradientTransformation(
    ...     init_fn=lambda params: gx.EmptyState(),
    ...     update_fn=lambda updates, state, params=None: (-updates, state),
    ... )
    >>> init, update = flip
    >>> update(2.0, init(1.0))
    (-2.0, EmptyState())
    """

    extra_args: ClassVar[frozenset[str]] = frozenset()
    """The names of the extra arguments of `update` that this class uses, beyond the standard ones."""

    foreign: ClassVar[bool] = False
    """Whether it is made of functions that are not ours, which get updates in the gradients' own dtypes."""

    takes_any: ClassVar[bool] = False
    """Whether `update` takes every extra argument, and ignores those that nobody inside reads."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "init" in vars(cls):
            cls.init = takes_shapes(cls.init)  # pyright: ignore[reportAttributeAccessIssue]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        del args, kwargs
        made: Any = _Functions if cls is GradientTransformation else cls
        return object.__new__(made)

    def __init__(self, init_fn: Callable[..., Any], update_fn: Callable[..., Any]) -> None:
        """Makes a transformation of two functions."""
        raise NotImplementedError  # `__new__` has chosen a subclass, whose `__init__` runs instead

    def init(self, params: Any) -> Any:
        """The state before the first step, for parameters of this structure, shape and dtype.

        Leaves may be shapes, `jax.ShapeDtypeStruct`. Then the state has arrays where they do not depend on the
        parameters' values, and shapes elsewhere, as for a copy of the parameters.
        """
        raise NotImplementedError

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        """The transformed updates, and the state for the next step."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.update))

    def accepts(self, name: str) -> bool:
        """Whether `update` takes an extra argument of this name."""
        return name in STANDARD_EXTRA_ARGS or name in self.extra_args

    def accepted(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The extra arguments that this transformation accepts."""
        return {name: value for name, value in extra.items() if self.accepts(name)}

    def largest(self, incoming: float, most: float) -> float:
        """A bound of the entries of the updates, for gradients whose entries are at most `incoming`; infinity for none.

        `most` is the largest number of the dtype; parameters and state are finite. With it a step is known to be finite
        before it is computed. A learning rate that is not a number yet counts as 1e15.
        """
        del incoming, most
        return math.inf

    @property
    def reshapes(self) -> bool:
        """Whether its updates may be another tree than those that it gets; that is not known of a user's function."""
        return self.foreign

    def known_extra_args(self) -> frozenset[str]:
        """The names of the extra arguments that `update` takes beyond the standard ones, inside of it too."""
        return self.extra_args

    def _check_extra(self, extra: Mapping[str, Any]) -> None:
        """Raises for an argument that nobody reads (most likely a misspelt one), and for several values or keys."""
        for name in extra:
            if not self.accepts(name):
                known = ", ".join(sorted(STANDARD_EXTRA_ARGS | self.known_extra_args()))
                raise TypeError(
                    f"{type(self).__name__}.update: unknown extra argument {name!r}. It would be ignored, so it is "
                    f"refused; the extra arguments known here are {known}. Write one of these, or use "
                    "gradtx.compat.optax.with_extra_args_support(tx), which ignores all others."
                )
        for name, check in _SINGLE.items():
            if extra.get(name) is not None:
                check(f"{type(self).__name__}.update", name, extra[name])

    def _check_state(self, updates: Any, state: Any, params: Any) -> None:
        """Raises unless the updates are like the parameters, and the state, with all inside, is one made for them."""
        who = type(self).__name__
        if params is None:
            self._check_fits(state, Owner(who, updates, "updates"))
        else:
            if not self.reshapes:
                checks.same_tree(who, "updates", updates, "params", params)
            self._check_fits(state, Owner(who, params, "params"))

    def _check_fits(self, state: Any, owner: Owner) -> None:
        """Raises unless the state is one that `init` makes for `owner.like`; nothing is known of a user's functions."""

    # --- what solvers ask of a transformation that keeps the parameters to a set

    def nearest(self, params: Any) -> Any:
        """The nearest parameters in the set that this transformation keeps to; `params` themselves if it has none."""
        return params

    def reduced_gradient(self, params: Any, grad: Any) -> Any:
        """What the set leaves of a gradient, x - P(x - g): zero where no descent stays in the set."""
        del params
        return grad

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        """The dynamic fields; with a state, schedules as the numbers that the next update will use."""
        for name in self._dynamic:
            value = getattr(self, name)
            yield name, value(state.count) if state is not None and isinstance(value, Schedule) else value


def takes(fn: Callable[..., Any], name: str, *, any_name: bool = True) -> bool:
    """Whether a function of the user's takes an argument of this name; with `any_name` `**kwargs` do, too."""
    parameters = inspect.signature(fn).parameters
    return name in parameters or (any_name and any(p.kind is p.VAR_KEYWORD for p in parameters.values()))


class _Functions(GradientTransformation):
    """A transformation made of two functions."""

    foreign = True

    init_fn: Any = static(check=function)
    update_fn: Any = static(check=function)

    def init(self, params: Params) -> Any:
        return self.init_fn(params)

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        taken = {name: value for name, value in extra.items() if self._names_taken(name)}
        given = (updates, state) if params is None and not self._takes_params() else (updates, state, params)
        return self.update_fn(*given, **taken)

    def _takes_params(self) -> bool:
        """Whether the function has a third argument."""
        kinds = [p.kind for p in inspect.signature(self.update_fn).parameters.values()]
        return len([kind for kind in kinds if kind < inspect.Parameter.VAR_POSITIONAL]) > 2 or (
            inspect.Parameter.VAR_POSITIONAL in kinds
        )

    def accepts(self, name: str) -> bool:
        return super().accepts(name) or self._names_taken(name)

    def known_extra_args(self) -> frozenset[str]:
        named = [p.name for p in inspect.signature(self.update_fn).parameters.values() if p.kind is not p.VAR_KEYWORD]
        return frozenset(named[3:])

    def _names_taken(self, name: str) -> bool:
        """Whether the function itself takes an extra argument of this name."""
        # What takes any name may pass it on to a function of the user's, which does not.
        return takes(self.update_fn, name, any_name=name != "grad_fn")


_Functions.__name__ = "GradientTransformation"  # in reprs and errors; pickle goes by the qualified name


def as_transformation(who: str, tx: Any) -> GradientTransformation:
    """`tx` itself, or a value made of its `init` and `update` (another library's transformation)."""
    if isinstance(tx, GradientTransformation):
        return tx
    init, update = getattr(tx, "init", None), getattr(tx, "update", None)
    if isinstance(tx, type) or not (callable(init) and callable(update)):
        raise TypeError(
            f"{who}: expected gradient transformations, got {checks.shown(tx)} of type {type(tx).__name__}. "
            "Give values such as gx.clip(1.0), gx.adam(1e-3), or any object with `init` and `update`."
        )
    return GradientTransformation(init, update)


class identity(GradientTransformation):
    """Returns the updates as they are.

    >>> import gradtx as gx
    >>> gx.identity().update(3.0, gx.EmptyState())
    (3.0, EmptyState())
    """

    def init(self, params: Params) -> EmptyState:
        del params
        return EmptyState()

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        self._check_fits(state, Owner(type(self).__name__, UNKNOWN, ""))
        return updates, state

    def _check_fits(self, state: State, owner: Owner) -> None:
        check_class(owner, state, EmptyState)

    def largest(self, incoming: float, most: float) -> float:
        del most
        return incoming


class stateless(GradientTransformation):
    """A transformation from one function `f(updates, params) -> updates` of whole trees.

    The function is static, as in `GradientTransformation(init_fn, update_fn)`.

    >>> import jax, gradtx as gx
    >>> flip = gx.stateless(lambda updates, params: jax.tree.map(lambda g: -g, updates))
    >>> flip.update({"w": 3.0}, flip.init({"w": 0.0}))
    ({'w': -3.0}, EmptyState())
    """

    foreign = True

    f: Any = static(check=function)

    def init(self, params: Params) -> EmptyState:
        del params
        return EmptyState()

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        self._check_state(updates, state, params)
        return self.f(updates, params), state

    def _check_fits(self, state: State, owner: Owner) -> None:
        check_class(owner, state, EmptyState)


def _add(p: Any, u: Any) -> Array:
    if not (isinstance(p, Array) and isinstance(u, Array)):
        p, u = jnp.asarray(p), jnp.asarray(u)
    if p.dtype == u.dtype and leaf.accumulator_dtype(p.dtype) == p.dtype:
        return lax.add(p, u)
    return leaf.narrow(leaf.widen(p) + leaf.widen(u), p.dtype)


def apply_updates(params: Any, updates: Any) -> Any:
    """`params + updates`, leaf by leaf, in the parameters' dtypes (added in float32 or wider).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.apply_updates({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([0.5, -0.5])})
    {'w': Array([1.5, 1.5], dtype=float32)}

    Raises:
      ValueError: the trees, or the shapes of two corresponding leaves, differ.
    """
    leaves, treedef = jax.tree.flatten(params)
    steps, steps_treedef = jax.tree.flatten(updates)
    if steps_treedef != treedef:
        raise checks.tree_mismatch("apply_updates", "updates", updates, "params", params)
    checks.same_shapes("apply_updates", "updates", updates, steps, "params", leaves)
    checks.floating("apply_updates", "params", params, leaves)
    return treedef.unflatten([_add(p, u) for p, u in zip(leaves, steps, strict=True)])


def hyperparameters(tx: GradientTransformation, state: Any = None) -> dict[str, Any]:
    """Every hyperparameter of `tx` by its dotted name.

    A constant is given as it was given. A schedule is given as the schedule, or, with `state`, as
    the number that the next update will use.

    >>> import gradtx as gx, jax.numpy as jnp
    >>> tx = gx.chain(gx.clip(1.0), gx.sgd(gx.linear_schedule(1.0, 0.0, 4), momentum=0.9))
    >>> for name, value in gx.hyperparameters(tx, tx.init(jnp.zeros(3))).items():
    ...     print(name, value)
    clip.max_delta 1.0
    trace.decay 0.9
    trace.dampening 0.0
    scale_by_learning_rate.learning_rate 1.0
    """
    return dict(tx._hyperparameters(state))
