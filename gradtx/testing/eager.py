"""Law 15: outside of jit, too, a step is compiled once."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from gradtx.testing.calls import extra_args
from gradtx.testing.data import draw
from gradtx.testing.hyperparameters import numbers
from gradtx.testing.subject import NotApplicableError, law

__all__ = ["programs"]

_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_counts: list[list[str]] = []
"""A list for each `programs()` that is open: the names of the programs since then."""


def _listen(event: str, duration_secs: float, **about: str | int) -> None:
    del duration_secs
    if event == _LOWERED:
        for names in _counts:
            names.append(str(about.get("fun_name", "a program")))


@functools.cache
def _register() -> None:
    jax.monitoring.register_event_duration_secs_listener(_listen)


@contextmanager
def programs() -> Iterator[list[str]]:
    """Yields the names of the programs that JAX compiles inside the context."""
    _register()
    names: list[str] = []
    _counts.append(names)
    try:
        yield names
    finally:
        _counts[:] = [other for other in _counts if other is not names]


@law(15, "eager steps", unless="eager")
def the_third_eager_step_compiles_nothing(subject):
    """Outside of jit the third step compiles nothing, also where every step has other numbers than the last.

    A closure that is made anew at every step is a new function for `lax.cond`, `lax.while_loop` and `lax.scan`, and so
    a new program. The functions of the parameters that a step gets, such as `value_fn`, are the same here at all steps.
    """
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            _asked(lambda t: subject.tx, dtype, "a third step")
            if subject.is_value:
                try:
                    known = numbers(subject.tx)
                except NotApplicableError:
                    continue
                other = [{name: x * (1 - 0.01 * t) for name, x in known.items()} for t in (1, 2, 3)]
                _asked(lambda t, other=other: subject.tx.replace(**other[t]), dtype, "a third step with new numbers")


def _asked(tx_of, dtype, about):
    """Asserts that the last of three steps compiles nothing, with `tx_of(t)` at step `t`."""
    params, grads = draw(0, dtype), draw(1, dtype, scale=0.3)
    extra, state = extra_args(tx_of(0), grads, params), tx_of(0).init(params)
    for t in range(3):
        tx = tx_of(t)
        with programs() as names:
            _, state = tx.update(grads, state, params, **extra)
        assert t < 2 or not names, f"{about} in {dtype} compiles {len(names)} programs, the first is {names[0]}"
