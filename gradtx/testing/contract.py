"""Checks your own transformation against the laws of gradtx with `check`."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import jax

from gradtx import checks
from gradtx.core.chain import needs
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.mask import lookup_by_path
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import Value
from gradtx.select import Selector
from gradtx.testing.calls import SUPPLIED
from gradtx.testing.data import SHAPES
from gradtx.testing.report import Report
from gradtx.testing.subject import LAWS, Law, Subject, judge

__all__ = ["EXCEPTIONS", "check", "parts"]

EXCEPTIONS = {
    "by hand": "law 2, schedules by hand: the hyperparameters are kept in the state, or cannot be schedules",
    "own steps": "law 2, schedules by hand, is relaxed: an inner transformation counts its own steps",
    "like gradients": "law 4, updates like gradients: updates are in float32, so that parameters become exact",
    "rounding": "law 4, float32 inside: something is computed in the dtype of the parameters",
    "finite": "law 5: finite gradients may give infinite updates or states",
    "reverse": "law 6: there is no reverse-mode derivative, for example because of a while loop",
    "derivatives": "law 6, difference quotients: derivatives are finite, but do not equal difference quotients",
    "scope": "law 9: the result depends on more entries or leaves than the base class says",
    "trees": "law 10, odd trees: the transformation is made for one tree",
    "rotation": "law 10, complex leaves: rotated gradients do not give rotated updates",
    "branch": "law 15, no branch: the purpose of the conditional is to skip work",
    "eager": "law 15, eager steps: outside of jit every step recompiles its loops",
    "complex": "law 10, complex leaves, is replaced: complex leaves must raise an error that names them",
}
"""Maps each name that `unless` accepts to the law that the exception changes, and to a typical reason."""


def check(
    tx: GradientTransformation,
    *,
    laws: int | str | Iterable[int | str] | None = None,
    unless: Mapping[str, str] | None = None,
) -> Report:
    """Checks whether your own transformation keeps the laws that all transformations of gradtx keep.

    Use it in the tests of a transformation that you write. A law is a property that every transformation should have,
    such as "the state keeps its shapes and dtypes". `check` runs the transformation on small trees, law by law:
    equality, repr and hash (law 1), hyperparameters as data (2), stable state (3), float32 arithmetic (4), finite
    results (5), derivatives (6), buffers of its own (7), jit, vmap and meshes (8), scope (9), unusual trees and complex
    leaves (10), errors for bad calls (11), declared state (13), quantized state (14), no conditionals and no
    recompiling (15). If the transformation raises an error inside a law, the law is broken. A full check takes between
    a few seconds and a minute, most of it compilation.

    The laws run on the CPU in float64, and rank promotion and warnings raise errors, whatever your configuration of JAX
    is; the configuration is restored afterwards. The laws about meshes need 8 CPU devices: set the environment variable
    `XLA_FLAGS=--xla_force_host_platform_device_count=8` before JAX starts.

    The laws call `update` with `params`, and with `value`, `value_fn`, `grad`, `grad_fn`, `hessian_diag`, `tokens` and
    `max_logits` if `tx` needs them. Pass masks in `tx` as selectors or functions, because the laws use trees of their
    own.

    Args:
      tx: The transformation, with numbers or schedules as hyperparameters.
      laws: The laws to check, as numbers or names, such as `[3, "own buffers"]`. None (default) for all.
      unless: Laws that the transformation cannot keep: a dict from the name of an exception to the reason, which the
        report repeats. `gx.testing.EXCEPTIONS` lists the names. None by default.

    Returns:
      A report, which prints as a table. `report.raise_if_broken()` raises an error that explains each broken law.

    >>> import gradtx as gx
    >>> report = gx.testing.check(gx.adam(0.1), laws=[1, 3, 9])
    >>> print(report)
    chain(scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0), scale_by_learning_rate(learning_rate=0.1))
    law  name          outcome         why
    1    value         kept
    1    traced value  kept
    3    stable state  kept
    9    elementwise   kept
    9    layerwise     does not apply  tx has a different scope, or does not state one
    9    treewide      does not apply  tx has a different scope, or does not state one
    >>> report.passed
    True

    Raises:
      TypeError: `tx` is not a gradtx transformation.
      ValueError: a law or an exception does not exist, an exception has no reason, `tx` needs an extra argument that
        the laws do not supply, or `tx` contains a mask for a different tree.
    """
    _is_transformation(tx)
    _can_be_called(tx)
    chosen, subject = _chosen(laws), _subject(tx, _exceptions(unless))
    with _as_the_tests():
        return Report(_text(tx), tuple(judge(subject, chosen)))


def _subject(tx: GradientTransformation, unless: Mapping[str, str]) -> Subject:
    return Subject(
        make=lambda: tx,
        expression=re.sub(
            r"jnp\.asarray\([^()]*\)", "array", _text(tx)
        ),  # so that the dtype in an array's repr does not count as a dtype argument
        name=type(tx).__name__,
        unless=dict(unless) | _by_paths(tx, unless),
        names=dict(_names(tx)),
    )


def _by_paths(tx: GradientTransformation, unless: Mapping[str, str]) -> dict[str, str]:
    """Returns an exception from law 9 if `tx` contains a selector, because the law changes the paths of leaves."""
    fields = [getattr(part, f.name) for part in parts(tx) for f in dataclasses.fields(part)]
    selects = any(isinstance(x, Selector) for x in fields)
    return {"scope": "a selector says which leaves"} if selects and "scope" not in unless else {}


@contextlib.contextmanager
def _as_the_tests() -> Generator[None]:
    """Sets the JAX configuration in which the laws run."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.disable_jit(False))
        stack.enter_context(jax.debug_nans(False))
        stack.enter_context(jax.debug_infs(False))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
        for kind in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)  # these warnings are about a library or the machine, not about `tx`
        yield


def _is_transformation(tx: Any) -> None:
    if isinstance(tx, GradientTransformation):
        return
    advice = "Give a value, such as gx.adam(1e-3) or an instance of your class."
    if isinstance(tx, type) and issubclass(tx, GradientTransformation):
        advice = f"Make one first: check({tx.__name__}(...))."
    elif callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None)):
        advice = "Make it a gradtx value first: check(gx.GradientTransformation(tx.init, tx.update))."
    raise TypeError(
        f"check: tx must be a gradtx transformation, got {checks.shown(tx)} of type {type(tx).__name__}. {advice}"
    )


def _chosen(laws: Any) -> list[Law]:
    """Returns the laws about transformations with the given numbers and names; all such laws for None."""
    listed = sorted((law for law in LAWS if law.about == "transformation"), key=lambda law: law.number)
    if laws is None:
        return listed
    asked = [laws] if isinstance(laws, (int, str)) else list(laws)
    if not asked:
        raise ValueError("check: laws is empty, so nothing would be judged. Give numbers or names, or None for all.")
    for item in asked:
        if not any(item in (law.number, law.name) for law in listed):
            known = ", ".join(f"{law.number} {law.name!r}" for law in listed)
            raise ValueError(
                f"check: there is no law {item!r} of transformations. Give numbers or names from this list: {known}."
            )
    return [law for law in listed if law.number in asked or law.name in asked]


def _exceptions(unless: Any) -> dict[str, str]:
    found = dict(unless or {})
    for name, reason in found.items():
        if name not in EXCEPTIONS:
            known = "; ".join(f"{key!r} ({text})" for key, text in EXCEPTIONS.items())
            raise ValueError(f"check: unless has no exception {name!r}. Give names from this list: {known}.")
        if not (isinstance(reason, str) and reason.strip()):
            raise ValueError(
                f"check: unless[{name!r}] must say why the law cannot be kept, got {reason!r}. Give the reason as text."
            )
    return found


def _can_be_called(tx: GradientTransformation) -> None:
    """Raises if the laws cannot call `tx`: they lack an extra argument, or a mask is made for a different tree."""
    unknown = sorted(needs(tx) - set(SUPPLIED))
    if unknown:
        raise ValueError(
            f"check: tx needs the extra argument {unknown[0]!r}, which the laws cannot supply; they know "
            f"{', '.join(SUPPLIED)}. Use one of these names, or check the transformation inside a wrapper that "
            "computes the argument."
        )
    trees = jax.tree.map(lambda shape: 0, SHAPES, is_leaf=lambda x: isinstance(x, tuple))
    for part in parts(tx):
        if isinstance(part, lookup_by_path):
            continue
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if isinstance(value, FrozenTree) and not _is_prefix(value.tree, trees):
                raise ValueError(
                    f"check: {type(part).__name__}.{field.name} is made for one tree, {checks.shown(value)}, and the "
                    f"laws run on trees like {SHAPES}. Give a selector such as gx.select.ndim(min=2), or a function "
                    "of the parameters."
                )


def _is_prefix(prefix: Any, tree: Any) -> bool:
    try:
        jax.tree.map(lambda mask, rest: None, prefix, tree)
    except ValueError:
        return False
    return True


def _text(tx: Any) -> str:
    try:
        return repr(tx)
    except Exception:  # law 1 reports this error
        return f"{type(tx).__name__}(...)"


def parts(x: Any) -> Iterator[Value]:
    """Yields `x` and all transformations, schedules and selectors nested in it."""
    if isinstance(x, Value):
        yield x
        x = [getattr(x, field.name) for field in dataclasses.fields(x)]
    if isinstance(x, (tuple, list, dict)):
        for item in x.values() if isinstance(x, dict) else x:
            yield from parts(item)


def _names(tx: Value) -> Iterator[tuple[str, Any]]:
    """Yields the user's own classes and functions in a transformation, each with its name in the repr."""
    for part in parts(tx):
        if not type(part).__module__.startswith("gradtx."):
            yield type(part).__name__, type(part)
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if inspect.isfunction(value) and not value.__module__.startswith("gradtx."):
                name = value.__name__ if value.__name__.isidentifier() else f"function_{id(value)}"
                yield name, value
