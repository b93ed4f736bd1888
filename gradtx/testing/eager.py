"""Law 15: even outside of jit, a step is compiled only once."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import jax

from gradtx.core.transformation import GradientTransformation
from gradtx.testing.calls import extra_args
from gradtx.testing.data import draw
from gradtx.testing.hyperparameters import numbers
from gradtx.testing.subject import NotApplicableError, Subject, law
from gradtx.types import Transformation

__all__ = ["programs"]

_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_counts: list[list[str]] = []
"""A list for each open `programs()` context: the names of the programs compiled since the context began."""


def _listen(event: str, duration_secs: float, **about: str | int) -> None:
    del duration_secs
    if event == _LOWERED:
        for names in _counts:
            names.append(str(about.get("fun_name", "a program")))


def _is_heard() -> bool:
    """Whether compilations are counted right now; other code may have cleared JAX's listeners."""
    names: list[str] = []
    _counts.append(names)
    jax.jit(lambda: 0)()
    _counts.pop()
    return bool(names)


@contextmanager
def programs() -> Generator[list[str]]:
    """Yields the names of the programs that JAX compiles inside the context."""
    if not _is_heard():
        jax.monitoring.register_event_duration_secs_listener(_listen)
    names: list[str] = []
    _counts.append(names)
    try:
        yield names
    finally:
        _counts[:] = [other for other in _counts if other is not names]


_ROW = 4
"""Number of steps in a row that must compile nothing. It covers a whole cycle of a nested accumulation of two."""
_STEPS = 16


@law(15, "eager steps", unless="eager")
def the_third_eager_step_compiles_nothing(subject: Subject) -> None:
    """Outside of jit, the third step compiles nothing, and steps with changing hyperparameters stop compiling.

    If a step creates a new closure for `lax.cond`, `lax.while_loop` or `lax.scan`, JAX compiles a new program at every
    step. The functions that `update` gets, such as `value_fn`, are the same objects at all steps here.

    A hyperparameter is traced once it changes, and a transformation inside one or two accumulations sees the change
    only after some steps. So the law asks that four steps in a row, within the first sixteen, compile nothing.
    """
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            for t, names in zip(range(3), _compiled(lambda t: subject.tx, dtype), strict=False):
                assert t < 2 or not names, f"in {dtype}, step {t} (counted from 0) compiles again: {_first(names)}"
            if subject.is_value:
                try:
                    known = numbers(subject.tx)
                except NotApplicableError:
                    continue
                _comes_to_rest(lambda t, known=known: _scaled(subject.tx, known, 1 - 0.004 * t), dtype)


def _comes_to_rest(tx_of: Callable[[int], Transformation], dtype: str) -> None:
    """Asserts that `_ROW` steps in a row compile nothing, with `tx_of(t)` at step `t`."""
    quiet = 0
    last: list[str] = []
    for _, names in zip(range(_STEPS), _compiled(tx_of, dtype), strict=False):
        quiet, last = (0, names) if names else (quiet + 1, last)
        if quiet == _ROW:
            return
    raise AssertionError(f"in {dtype}, steps with changing hyperparameters keep compiling: {_first(last)}")


def _compiled(tx_of: Callable[[int], Transformation], dtype: str) -> Iterator[list[str]]:
    """Takes steps forever, with `tx_of(t)` at step `t`; yields the names of the programs that each step compiles."""
    params, grads = draw(0, dtype), draw(1, dtype, scale=0.3)
    extra, state = extra_args(tx_of(0), grads, params), tx_of(0).init(params)
    for t in count():
        tx = tx_of(t)
        with programs() as names:
            _, state = tx.update(grads, state, params, **extra)
        yield names


def _scaled(tx: GradientTransformation, known: Mapping[str, Any], factor: float) -> GradientTransformation:
    return tx.replace(**{name: x * factor for name, x in known.items()})


def _first(names: list[str]) -> str:
    return f"{len(names)} programs, the first is {names[0]}"
