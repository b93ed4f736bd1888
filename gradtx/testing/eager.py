"""Law 15: outside of jit, too, a step is compiled once."""

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


def _is_heard() -> bool:
    """Whether a program that is compiled now is counted: others may have cleared JAX's listeners."""
    names: list[str] = []
    _counts.append(names)
    jax.jit(lambda: 0)()
    _counts.pop()
    return bool(names)


@contextmanager
def programs() -> Iterator[list[str]]:
    """Yields the names of the programs that JAX compiles inside the context."""
    if not _is_heard():
        jax.monitoring.register_event_duration_secs_listener(_listen)
    names: list[str] = []
    _counts.append(names)
    try:
        yield names
    finally:
        _counts[:] = [other for other in _counts if other is not names]


@law(15, "eager steps", unless="eager")
def the_third_eager_step_compiles_nothing(subject):
    """Outside of jit the third step compiles nothing, and with other numbers at every step the fifth compiles nothing.

    A closure that is made anew at every step is a new function for `lax.cond`, `lax.while_loop` and `lax.scan`, and so
    a new program. The functions of the parameters that a step gets, such as `value_fn`, are the same here at all steps.

    A number is traced from its second value on. The inner transformation of a wrapper may step at every second step
    alone, and sees its second value at the fourth step then.
    """
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            _asked(lambda t: subject.tx, dtype, steps=3, quiet=2, about="a further step")
            if subject.is_value:
                try:
                    known = numbers(subject.tx)
                except NotApplicableError:
                    continue
                factors = [1 - 0.01 * t for t in range(1, 7)]
                txs = [subject.tx.replace(**{name: x * factor for name, x in known.items()}) for factor in factors]
                _asked(txs.__getitem__, dtype, steps=6, quiet=4, about="a further step with new numbers")


def _asked(tx_of, dtype, steps, quiet, about):
    """Asserts that from step `quiet` on nothing is compiled, with `tx_of(t)` at step `t`."""
    params, grads = draw(0, dtype), draw(1, dtype, scale=0.3)
    extra, state = extra_args(tx_of(0), grads, params), tx_of(0).init(params)
    for t in range(steps):
        tx = tx_of(t)
        with programs() as names:
            _, state = tx.update(grads, state, params, **extra)
        assert t < quiet or not names, f"{about} in {dtype} compiles {len(names)} programs, the first is {names[0]}"
