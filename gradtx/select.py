"""Selectors: values that pick leaves of a tree by path, shape or dtype.

    select.path("**/bias", "*/scale") & ~select.ndim(min=2)

A selector is a function from a tree to a tree of booleans, so it can be used wherever a mask is accepted. The path
of a leaf is the string of its keys, such as `dense/kernel`: keys of dicts, indices of lists, and fields of
dataclasses, named tuples and modules. Selectors are frozen and compare by value, and their repr is the code that
makes them.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx import checks
from gradtx.frozen import Frozen, fields

__all__ = ["Selector", "dtype", "everything", "first", "maybe", "ndim", "path", "regex", "shape"]

Leaves = Sequence[tuple[str, Any]]


class Selector(Frozen):
    """Base class of selectors, which pick leaves of a tree. Combine them with `&`, `|` and `~`.

    Raises:
      ValueError: when it is called on a tree with leaves: it picks none of them, or a path or regex in it matches
        no leaf, most likely because it is misspelled. Write `maybe(selector)` to allow that.
    """

    def __call__(self, tree: Any) -> Any:
        """Returns a tree with a boolean for every leaf: whether it is picked."""
        leaves = _leaves(tree)
        found = self._picks(leaves, strict=True)
        if leaves and not any(found) and not isinstance(self, maybe):
            raise _nothing(self, leaves)
        return jax.tree.unflatten(jax.tree.structure(tree), found)

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        """Returns for each leaf whether it is picked; `strict` raises if a path or regex matches nothing."""
        raise NotImplementedError

    def __and__(self, other: Selector) -> Selector:
        return _Combined("&", self, other) if isinstance(other, Selector) else NotImplemented

    def __or__(self, other: Selector) -> Selector:
        return _Combined("|", self, other) if isinstance(other, Selector) else NotImplemented

    def __invert__(self) -> Selector:
        return _Not(self)

    def __bool__(self) -> bool:
        raise TypeError(f"{self} is neither true nor false: combine selectors by &, | and ~, not by and, or and not.")

    def __repr__(self) -> str:
        return f"select.{type(self).__name__}({', '.join(self._arguments())})"

    def _arguments(self) -> list[str]:
        given = ((f.name, getattr(self, f.name), f.default) for f in fields(self))
        return [f"{name}={value!r}" for name, value, default in given if value != default]


def _leaves(tree: Any) -> Leaves:
    """Returns the leaves of a tree with their paths."""
    return list(zip(checks.paths(tree), jax.tree.leaves(tree), strict=True))


def _nothing(selector: Selector, leaves: Leaves) -> ValueError:
    shown = [f"{path or '(the tree itself)'} ({checks.shown(x)})" for path, x in leaves[:20]]
    more = f", and {len(leaves) - 20} more" if len(leaves) > 20 else ""
    return ValueError(
        f"{selector} matches no leaf. The leaves are: {', '.join(shown)}{more}. "
        f"Pick one of these, or write select.maybe({selector}) if it may match nothing."
    )


class _Combined(Selector):
    symbol: str
    a: Selector
    b: Selector

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        combine = {"&": operator.and_, "|": operator.or_}[self.symbol]
        return list(map(combine, self.a._picks(leaves, strict), self.b._picks(leaves, strict)))

    def __repr__(self) -> str:
        return f"({self.a!r} {self.symbol} {self.b!r})"


class _Not(Selector):
    a: Selector

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        return [not x for x in self.a._picks(leaves, strict)]

    def __repr__(self) -> str:
        return f"~{self.a!r}"


class maybe(Selector):
    """Picks what `selector` picks, and allows it to pick nothing.

    Without it, a selector that matches no leaf raises an error, because it is most likely misspelled.

    Args:
      selector: The selector that may match nothing.

    >>> from gradtx import select
    >>> select.maybe(select.path("**/bias"))({"w": 1.0})
    {'w': False}
    """

    selector: Selector

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        return self.selector._picks(leaves, strict=False)

    def _arguments(self) -> list[str]:
        return [repr(self.selector)]


class everything(Selector):
    """Picks every leaf.

    Useful as the last rule in `first` and in `partition`.

    >>> from gradtx import select
    >>> select.everything()({"w": 1.0})
    {'w': True}
    """

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        return [True] * len(leaves)


class _ByPath(Selector):
    """Picks leaves by their paths alone."""

    def _fits(self, path: str) -> bool:
        raise NotImplementedError

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        found = [self._fits(path) for path, _ in leaves]
        if strict and leaves and not any(found):
            raise _nothing(self, leaves)
        return found


class path(_ByPath):
    """Picks the leaves whose paths match one of the patterns.

    Args:
      *patterns: Glob patterns over paths such as `dense/kernel`, case-sensitive. `*` matches any characters within
        one key, `?` a single character, `[ab]` one of the characters in brackets, and `**` any number of keys,
        including none.

    >>> from gradtx import select
    >>> select.path("**/bias", "norm/*")({"dense": {"bias": 1.0, "kernel": 1.0}, "norm": {"scale": 1.0}})
    {'dense': {'bias': True, 'kernel': False}, 'norm': {'scale': True}}
    """

    patterns: tuple[str, ...]

    def __init__(self, *patterns: str) -> None:
        if not patterns or not all(isinstance(x, str) for x in patterns):
            raise TypeError(f"select.path: give one or more patterns such as '**/bias', got {checks.shown(patterns)}.")
        object.__setattr__(self, "patterns", patterns)

    def _fits(self, path: str) -> bool:
        keys = path.split("/") if path else []
        return any(_glob(pattern.split("/"), keys) for pattern in self.patterns)

    def _arguments(self) -> list[str]:
        return [repr(pattern) for pattern in self.patterns]


def _glob(pattern: Sequence[str], keys: Sequence[str]) -> bool:
    if not pattern:
        return not keys
    if pattern[0] == "**":
        return _glob(pattern[1:], keys) or (bool(keys) and _glob(pattern, keys[1:]))
    return bool(keys) and fnmatch.fnmatchcase(keys[0], pattern[0]) and _glob(pattern[1:], keys[1:])


class regex(_ByPath):
    """Picks the leaves whose paths contain a match of a regular expression.

    Args:
      pattern: The regular expression, searched for anywhere in the path (`re.search`).

    >>> from gradtx import select
    >>> select.regex(r"layer_[01]/")({"layer_0": {"w": 1.0}, "layer_7": {"w": 1.0}})
    {'layer_0': {'w': True}, 'layer_7': {'w': False}}
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"select.regex: {checks.shown(self.pattern)} is not a regular expression: {error}."
            ) from None

    def _fits(self, path: str) -> bool:
        return re.search(self.pattern, path) is not None

    def _arguments(self) -> list[str]:
        return [repr(self.pattern)]


class ndim(Selector):
    """Picks the leaves with a number of axes in a range.

    `select.ndim(min=2)` picks matrices and kernels, and leaves out biases and norm scales.

    Args:
      min: The smallest number of axes. 0 by default.
      max: The largest number of axes. None (default) for no limit.

    >>> from gradtx import select
    >>> import jax.numpy as jnp
    >>> select.ndim(min=2)({"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
    {'bias': False, 'kernel': True}
    """

    min: int = 0
    max: int | None = None

    def __post_init__(self) -> None:
        checks.integer("select.ndim", "min", self.min, ge=0)
        if self.max is not None:
            checks.integer("select.ndim", "max", self.max, ge=self.min)

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        return [self.min <= len(np.shape(x)) <= (np.inf if self.max is None else self.max) for _, x in leaves]


class shape(Selector):
    """Picks the leaves whose shape passes a test.

    Args:
      test: A function from a shape (a tuple of integers) to True or False.

    >>> from gradtx import select
    >>> import jax.numpy as jnp
    >>> select.shape(lambda shape: 3 in shape)({"a": jnp.ones((3, 2)), "b": jnp.ones(2)})
    {'a': True, 'b': False}
    """

    test: Callable[[tuple[int, ...]], bool]

    def __post_init__(self) -> None:
        if not callable(self.test):
            raise TypeError(f"select.shape: test must be a function of a shape, got {checks.shown(self.test)}.")

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        return [bool(self.test(tuple(np.shape(x)))) for _, x in leaves]

    def _arguments(self) -> list[str]:
        return [repr(self.test)]


class dtype(Selector):
    """Picks the leaves with one of the given dtypes.

    Args:
      *dtypes: Dtypes such as 'bfloat16' or `jnp.float32`, or kinds of dtypes such as 'floating' or
        `jnp.complexfloating`.

    >>> from gradtx import select
    >>> import jax.numpy as jnp
    >>> select.dtype("bfloat16", jnp.complexfloating)({"a": jnp.ones(2, "bfloat16"), "b": jnp.ones(2)})
    {'a': True, 'b': False}
    """

    dtypes: tuple[str, ...]

    def __init__(self, *dtypes: Any) -> None:
        if not dtypes:
            raise TypeError("select.dtype: give one or more dtypes such as 'bfloat16' or jnp.floating.")
        object.__setattr__(self, "dtypes", tuple(map(_dtype_name, dtypes)))

    def _picks(self, leaves: Leaves, strict: bool) -> list[bool]:
        kinds = [getattr(jnp, name) for name in self.dtypes]
        return [any(jnp.issubdtype(jnp.result_type(x), kind) for kind in kinds) for _, x in leaves]

    def _arguments(self) -> list[str]:
        return [repr(name) for name in self.dtypes]


def _dtype_name(x: Any) -> str:
    if isinstance(x, type) and issubclass(x, np.generic) and x.__name__ in dir(jnp):
        return x.__name__
    if isinstance(x, str) and isinstance(getattr(jnp, x, None), type):
        return x
    try:
        return jnp.dtype(x).name
    except TypeError:
        raise TypeError(f"select.dtype: {checks.shown(x)} is not a dtype such as 'bfloat16' or jnp.floating.") from None


_UNLABELLED = object()


class first(Frozen):
    """Labels leaves by rules: each leaf gets the label of the first rule whose selector picks it.

    Use it as `param_labels` of `partition`. Here a selector may pick nothing. But each leaf must be picked by some
    rule, and in `partition` each label must get a leaf.

    Args:
      *rules: Pairs `(selector, label)`, in order of priority. End with `(select.everything(), label)` for all other
        leaves.

    Returns:
      A function from a tree to a tree of labels.

    >>> from gradtx import select
    >>> select.first((select.path("**/bias"), "still"), (select.everything(), "trained"))({"bias": 1.0, "w": 1.0})
    {'bias': 'still', 'w': 'trained'}

    Raises:
      TypeError: a rule is not a pair of a selector and a label.
      ValueError: when it is called: no rule picks a leaf.
    """

    rules: tuple[tuple[Selector, Any], ...]

    def __init__(self, *rules: tuple[Selector, Any]) -> None:
        for rule in rules:
            if not is_rule(rule):
                raise TypeError(
                    f"select.first: a rule is a pair (selector, label), as in (select.path('**/bias'), 'bias'); got "
                    f"{checks.shown(rule)}."
                )
        object.__setattr__(self, "rules", tuple(map(tuple, rules)))

    def __call__(self, tree: Any, groups: Sequence[Any] = ()) -> Any:
        """Returns the tree with a label for every leaf; each of `groups`, if given, must get a leaf."""
        leaves = _leaves(tree)
        found: list[Any] = [_UNLABELLED] * len(leaves)
        for selector, label in reversed(self.rules):
            picked = selector._picks(leaves, strict=False)
            found = [label if yes else x for yes, x in zip(picked, found, strict=True)]
        problems = {
            "no rule matches": [path for (path, _), label in zip(leaves, found, strict=True) if label is _UNLABELLED],
            "no leaf is left for": [label for label in groups if leaves and label not in found],
            "there is no transformation for": [label for _, label in self.rules if groups and label not in groups],
        }
        wrong = [f"{what} {', '.join(map(str, names))}" for what, names in problems.items() if names]
        if wrong:
            raise ValueError(
                f"{self}: {'; '.join(wrong)}. The first rule that matches a leaf wins; end with (select.everything(), "
                f"label) for all others. The leaves are: {', '.join(path for path, _ in leaves[:20])}."
            )
        return jax.tree.unflatten(jax.tree.structure(tree), found)

    def __repr__(self) -> str:
        return f"select.first({', '.join(map(repr, self.rules))})"


def is_rule(x: Any) -> bool:
    """Whether `x` is a pair of a selector and a label; a label may be any hashable object."""
    return isinstance(x, (tuple, list)) and len(x) == 2 and isinstance(x[0], Selector) and isinstance(x[1], Hashable)
