"""Gradient transformations: frozen pytree values with the pure functions `init` and `update`."""

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
"""Extra arguments that every transformation accepts, and ignores unless it uses them."""

_SINGLE = {"value": checks.scalar, "key": checks.random_key}
"""The checks of the standard extra arguments that are a single number or key."""


class GradientTransformation(Value):
    """Turns gradients into updates: the pair of pure functions `init` and `update`, as one value.

        state = tx.init(params)
        updates, state = tx.update(grads, state, params)
        params = gx.apply_updates(params, updates)

    Every optimizer and every link of a chain is one. It is frozen and a JAX pytree: print it, compare it, pass it
    to a jitted function as an argument, or change a number with `tx.replace(learning_rate=0.01)`.

    Called as a constructor, it makes a transformation from two functions, as optax does. The functions are static:
    two such transformations are equal only if they hold the same functions. Every transformation can be unpacked
    into its functions by `init, update = tx`.

    Args:
      *args, **kwargs: `init_fn`, a function `(params) -> state`, and `update_fn`, a function
        `(updates, state, params=None) -> (updates, state)`, which may take extra arguments by keyword.

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
    """Whether it consists of functions from elsewhere, which get updates in the gradients' own dtypes."""

    takes_any: ClassVar[bool] = False
    """Whether `update` takes every extra argument, and ignores the ones that no inner transformation reads."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "init" in vars(cls):
            cls.init = takes_shapes(cls.init)  # pyright: ignore[reportAttributeAccessIssue]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        del args, kwargs
        made: Any = _Functions if cls is GradientTransformation else cls
        return object.__new__(made)

    def __init__(self, init_fn: Callable[..., Any], update_fn: Callable[..., Any]) -> None:
        """Makes a transformation from two functions."""
        raise NotImplementedError  # `__new__` has chosen a subclass, whose `__init__` runs instead

    def init(self, params: Params) -> State:
        """Returns the state before the first step.

        Args:
          params: The parameters, a tree of arrays; or their shapes as `jax.ShapeDtypeStruct`. With shapes, the
            parts of the state that depend on the parameters' values, such as copies of them, are shapes, too.
        """
        raise NotImplementedError

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        """Transforms gradients, or the updates of the link before, and returns the updates and the state of the next
        step.

        Args:
          updates: The gradients, a tree like the parameters.
          state: The state that `init` or the last `update` returned.
          params: The parameters. Needed by transformations that look at them, such as weight decay.
          **extra: Extra arguments: `value` (the loss), `grad`, `value_fn` (the loss as a function of the
            parameters) and `key` are accepted everywhere and ignored by transformations that do not use them. Other
            names raise a TypeError unless the transformation uses them.
        """
        raise NotImplementedError

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.update))

    def accepts(self, name: str) -> bool:
        """Whether `update` takes an extra argument of this name."""
        return name in STANDARD_EXTRA_ARGS or name in self.extra_args

    def accepted(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the extra arguments that this transformation accepts."""
        return {name: value for name, value in extra.items() if self.accepts(name)}

    def largest(self, incoming: float, most: float) -> float:
        """Returns an upper bound on the entries of the updates for gradients of at most `incoming`; infinity if none
        is known.

        `most` is the largest number of the dtype; parameters and state are assumed finite. The bound shows before a
        step is computed that it will be finite. A learning rate that is not a number yet counts as 1e15.
        """
        del incoming, most
        return math.inf

    @property
    def reshapes(self) -> bool:
        """Whether the updates may be a different tree from the input, which cannot be known for a user's function."""
        return self.foreign

    def known_extra_args(self) -> frozenset[str]:
        """Returns the names of the extra arguments that `update` and inner transformations take beyond the standard
        ones.
        """
        return self.extra_args

    def _check_extra(self, extra: Mapping[str, Any]) -> None:
        """Raises for extra arguments that nothing reads (most likely misspelled), and for more than one value or
        key.
        """
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

    def _check_state(self, updates: Updates, state: State, params: Params) -> None:
        """Raises unless the updates are like the parameters, and the state was made for them, including inner
        states.
        """
        who = type(self).__name__
        if params is None:
            self._check_fits(state, Owner(who, updates, "updates"))
        else:
            if not self.reshapes:
                checks.same_tree(who, "updates", updates, "params", params)
            self._check_fits(state, Owner(who, params, "params"))

    def _check_fits(self, state: State, owner: Owner) -> None:
        """Raises unless the state is one that `init` makes for `owner.like`; a user's functions cannot be checked."""

    # --- what solvers need from a transformation that keeps the parameters in a set

    def nearest(self, params: Params) -> Any:
        """Returns the nearest parameters in the set that this transformation keeps to; `params` itself if there is
        no set.
        """
        return params

    def reduced_gradient(self, params: Params, grad: Any) -> Any:
        """Returns the part of a gradient that the set leaves, x - P(x - g): zero where no descent stays in the set."""
        del params
        return grad

    def _hyperparameters(self, state: State) -> Iterator[tuple[str, Any]]:
        """Yields the dynamic fields; with a state, schedules as the numbers that the next update will use."""
        for name in self._dynamic:
            value = getattr(self, name)
            yield name, value(state.count) if state is not None and isinstance(value, Schedule) else value


def takes(fn: Callable[..., Any], name: str, *, any_name: bool = True) -> bool:
    """Whether a user's function takes an argument of this name; with `any_name`, `**kwargs` count, too."""
    parameters = inspect.signature(fn).parameters
    return name in parameters or (any_name and any(p.kind is p.VAR_KEYWORD for p in parameters.values()))


class _Functions(GradientTransformation):
    """A transformation that consists of two functions."""

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
        # A function with `**kwargs` may pass them on to a user's function that does not take `grad_fn`.
        return takes(self.update_fn, name, any_name=name != "grad_fn")


_Functions.__name__ = "GradientTransformation"  # for reprs and errors; pickle uses the qualified name


def as_transformation(who: str, tx: Any) -> GradientTransformation:
    """Returns `tx`, or a value made from its `init` and `update` if it is another library's transformation."""
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
    """Returns the updates unchanged, and has no state.

    Use it as a placeholder, for example in a group of `partition` or for a clipping that is switched off.

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
    """Makes a transformation without state from one function of whole trees.

    Use it for a quick experiment, such as another way to clip.

    Args:
      f: A function `(updates, params) -> updates`. It is static: another function retraces.

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


def apply_updates(params: Params, updates: Updates) -> Params:
    """Adds updates to parameters, leaf by leaf, and keeps the parameters' dtypes.

    The last line of a training step. The sum is computed in float32 or wider and rounded once.

    Args:
      params: The parameters, a tree of floating-point arrays.
      updates: The updates, a tree of the same structure and shapes.

    Returns:
      The new parameters, a tree like `params`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.apply_updates({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([0.5, -0.5])})
    {'w': Array([1.5, 1.5], dtype=float32)}

    Raises:
      TypeError: a parameter is not a floating-point array.
      ValueError: the trees, or the shapes of two corresponding leaves, differ.
    """
    leaves, treedef = jax.tree.flatten(params)
    steps, steps_treedef = jax.tree.flatten(updates)
    if steps_treedef != treedef:
        raise checks.tree_mismatch("apply_updates", "updates", updates, "params", params)
    checks.same_shapes("apply_updates", "updates", updates, steps, "params", leaves)
    checks.floating("apply_updates", "params", params, leaves)
    return treedef.unflatten([_add(p, u) for p, u in zip(leaves, steps, strict=True)])


def hyperparameters(tx: GradientTransformation, state: State = None) -> dict[str, Any]:
    """Lists every hyperparameter of a transformation by its dotted name.

    Use it for logging. To change a number, write `tx.replace(name=value)` with a name from this list, or with its
    last part if that is unique.

    Args:
      tx: The transformation.
      state: The state of `tx`. With it, each schedule is listed as the number that the next update will use;
        without it (default), as the schedule itself.

    Returns:
      A dict from name to number, array or schedule.

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
