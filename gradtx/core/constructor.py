"""Lets errors of functions that make values begin with the name that the user typed.

For example, `lookahead(tx, sync_period=0, ...)` makes a `scale_by_lookahead`, which raises for the 0. The user
never wrote `scale_by_lookahead`, so the message begins with `lookahead`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from gradtx.frozen import wrong_call

__all__ = ["called", "constructor"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_CALLED: ContextVar[str | None] = ContextVar("called", default=None)


def called(value: Any) -> str:
    """Returns the name for errors about a value that is being made: the function that the user called, or the class."""
    return _CALLED.get() or type(value).__name__


def constructor(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes errors about the arguments of `fn`, and of the values that it makes, begin with the name of `fn`."""

    @functools.wraps(fn)
    def make(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if _CALLED.get() is not None:
            return fn(*args, **kwargs)
        token = _CALLED.set(fn.__name__)
        try:
            return fn(*args, **kwargs)
        except TypeError:
            if wrong := wrong_call(fn, args, kwargs):
                raise wrong from None
            raise
        finally:
            _CALLED.reset(token)

    return make
