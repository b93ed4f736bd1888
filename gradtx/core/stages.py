"""What each link did in a recorded step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gradtx.core.chain import chain
from gradtx.core.composite import Composite
from gradtx.core.leafwise import Leafwise
from gradtx.core.partition import partition
from gradtx.core.recording import Call
from gradtx.core.slots import PerLeaf
from gradtx.core.state import declared
from gradtx.core.transformation import GradientTransformation

__all__ = ["Stage", "norm", "stages"]


class Stage(NamedTuple):
    """What one link did to the chosen parameters."""

    link: str
    """The name of the link, preceded by the names of the wrappers and groups that it is in."""
    leaves: tuple[str, ...]
    """The paths of the chosen parameters that go through it."""
    before: float
    """The norm of what went in."""
    after: float
    """The norm of what came out."""
    scaled_by: float | None
    """The one number by which the link multiplied its input; None if it changed the direction, too."""
    numbers: dict[str, float]
    """The hyperparameters that this step used, and what the link reports of itself, such as `clip_factor`."""
    note: str
    """What else there is to say, such as that a mask leaves the parameters out."""
    opaque: bool = False
    """Whether there is more inside, which is not shown."""

    @property
    def factor(self) -> float:
        """`after / before`, the ratio of norms; less than 1 if the stage shrinks the update."""
        return self.after / self.before if self.before else math.nan


def stages(call: Call) -> Iterator[Stage]:
    """Yields a `Stage` for each link that ran in a recorded call, in order.

    The links inside a chain or a group take its place. The effect of a wrapper itself is listed before, after or around
    the links inside it.
    """
    calls = _last_of_each(call.calls)
    if not call.spec.at:
        return  # the chosen parameters are in another group
    if call.after is None:
        note = "ran in compiled code, which cannot be looked into"
        yield Stage(call.spec.name, tuple(call.spec.paths), math.nan, math.nan, None, {}, note, opaque=True)
    elif isinstance(call.spec.tx, chain):
        for inner in calls:
            yield from stages(inner)
    elif not calls:
        yield _stage(call, call.spec.name, call.before, call.after, call.numbers, _note(call))
    elif isinstance(call.spec.tx, partition) or len(calls) > 1:
        for inner in calls:
            yield from stages(inner)
        if not isinstance(call.spec.tx, partition):
            whole = _stage(call, f"{call.spec.name} (in all)", call.before, call.after, call.numbers, _note(call))
            yield whole._replace(scaled_by=None)  # it says again what the stages before it say
    else:
        yield from _around(call, calls[0])


def _around(call: Call, inner: Call) -> Iterator[Stage]:
    """Yields what a wrapper does to the gradient, the stages inside it, and what it does to the update."""
    name, numbers = call.spec.name, call.numbers
    if len(inner.spec.at) < len(call.spec.at):  # the wrapper leaves other parameters alone
        yield from stages(inner)
        return
    if inner.before is not None and not _same(call.before or [], inner.before):
        yield _stage(call, f"{name} (in)", call.before, inner.before, numbers, _note(call))
        numbers = {}
    yield from stages(inner)
    if inner.after is not None and not _same(inner.after, call.after):
        yield _stage(call, f"{name} (out)", inner.after, call.after, numbers, "" if not numbers else _note(call))


def _last_of_each(calls: Sequence[Call]) -> list[Call]:
    """Returns the last call of each inner transformation; prefers calls outside of compiled code."""
    found: dict[int, Call] = {}
    for call in calls:
        if not (call.traced and id(call.spec) in found):
            found.pop(id(call.spec), None)
            found[id(call.spec)] = call
    return list(found.values())


def _stage(call: Call, name: str, before: Any, after: Any, numbers: dict[str, float], note: str) -> Stage:
    opaque = bool(call.spec.opaque)
    scaled_by = None if opaque or _has_memory(call.spec.tx) else _scaled_by(before, after)
    return Stage(name, tuple(call.spec.paths), norm(before), norm(after), scaled_by, numbers, note, opaque)


def _note(call: Call) -> str:
    spec = call.spec
    said: list[str] = []
    if spec.masked:
        some = "" if len(spec.masked) == len(spec.at) else f"{len(spec.masked)} of {len(spec.at)} "
        said.append(f"a mask leaves out {some}parameters" if some else "a mask leaves the parameters out")
    if isinstance(spec.tx, Composite) and not spec.opaque and spec.tx.movers() and not call.calls:
        said.append("what is inside took no step")
    elif len(call.calls) > len(_last_of_each(call.calls)):
        said.append(f"what is inside was called {len(call.calls)} times; the last call is shown")
    return "; ".join([*said, *filter(None, [spec.opaque])])


def _has_memory(tx: GradientTransformation) -> bool:
    """Whether it keeps arrays per parameter, so that its update is a new direction even where it looks parallel."""
    if not isinstance(tx, Leafwise) or tx.State is None:
        return False
    return any(isinstance(slot, PerLeaf) for slot in declared(tx.State).values())


# --- arithmetic in double precision, on the chosen leaves alone


def _wide(x: Any) -> np.ndarray:
    found = np.asarray(x)
    return found.astype(np.complex128 if np.iscomplexobj(found) else np.float64).ravel()


def _size(x: np.ndarray) -> float:
    """Computes the norm, also for entries that are too small or too large to be squared."""
    most = float(np.abs(x).max(initial=0.0))
    return most * float(np.linalg.norm(x / most)) if 0 < most < math.inf else most


def norm(leaves: Sequence[Any]) -> float:
    return math.hypot(*(_size(_wide(x)) for x in leaves))


def _same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two lists of arrays are equal but for rounding."""
    return len(a) == len(b) and all(
        x is y or _close(_wide(x), _wide(y), _tolerance([x, y])) for x, y in zip(a, b, strict=True)
    )


def _close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return _size(a - b) <= tolerance * _size(b) or np.array_equal(a, b, equal_nan=True)


def _tolerance(leaves: Sequence[Any]) -> float:
    return 8 * max(float(jnp.finfo(jnp.result_type(x)).eps) for x in leaves)


def _scaled_by(before: Sequence[Any], after: Sequence[Any]) -> float | None:
    """Returns the number c with after = c * before up to rounding; None if there is no such number."""
    if not before:
        return None
    x, y = (np.concatenate([_wide(leaf) for leaf in leaves]) for leaves in (before, after))
    size = _size(x)
    if not 0 < size < math.inf:
        return None
    c = float(np.vdot(x / size, y).real) / size
    return c if _close(c * x, y, _tolerance([*before, *after])) else None
