"""Law 15: outside of jit, too, a step is compiled once."""

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
"""A list for each `programs()` that is open: the names of the programs since then."""


def _listen(event: str, duration_secs: float, **about: str | int) -> None:
    del duration_secs
    if event == _LOWERED:
        for names in _counts:
            names.append(str(about.get("fun_name", "a program")))


def _is_heard() -> bool:
    """Whether a program that is compiled now is counted: others may have cleared JAX's listeners."""
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
"""So many steps in a row are to compile nothing, which holds the second window of an accumulation of two."""
_STEPS = 16


@law(15, "eager steps", unless="eager")
def the_third_eager_step_compiles_nothing(subject: Subject) -> None:
    """Outside of jit the third step compiles nothing, and steps with other numbers stop compiling.

    A closure that is made anew at every step is a new function for `lax.cond`, `lax.while_loop` and `lax.scan`, and so
    a new program. The functions of the parameters that a step gets, such as `value_fn`, are the same here at all steps.

    A number is traced from its second value on, and what lies inside of an accumulation, or of two, sees its second
    value late. So four steps in a row are to compile nothing among the first sixteen.
    """
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            for t, names in zip(range(3), _compiled(lambda t: subject.tx, dtype), strict=False):
                assert t < 2 or not names, f"a further step in {dtype} compiles {_first(names)}"
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
    raise AssertionError(f"steps with new numbers in {dtype} do not stop compiling: one compiles {_first(last)}")


def _compiled(tx_of: Callable[[int], Transformation], dtype: str) -> Iterator[list[str]]:
    """Steps without end, with `tx_of(t)` at step `t`: yields the names of the programs that each one compiles."""
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
