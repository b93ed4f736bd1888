"""Converts fields of optax's and gradtx's states that differ in more than their names.

Such a field is computed from other fields, or has a different scale. Every function here gets a `Match`, removes the
fields that it handles from `match.ours` and `match.theirs`, and records which fields correspond.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.compat.arrays import held_weights
from gradtx.compat.optax.convert_cells import ADVICE, Cell, fields_of, flat, keep, number, values_of
from gradtx.compat.optax.convert_lbfgs import match_memory
from gradtx.compat.optax.convert_links import COUNTS
from gradtx.core.chain import chain
from gradtx.core.composite import Composite
from gradtx.core.hyper import Schedule
from gradtx.optimizers.elementwise.acprop import scale_by_acprop
from gradtx.optimizers.layerwise.adafactor import scale_by_factored_rms
from gradtx.transforms.momentum import ema
from gradtx.transforms.scale import scale_by_learning_rate

__all__ = ["KEPT", "OURS", "SPECIAL", "THEIRS", "rate_before_average", "scale_average"]

# --- fields that are computed from other fields


def _updated(match: Any) -> Any:
    theirs = match.their_link.fields
    return np.asarray(number(theirs["mini_step"]) == 0 and number(theirs["gradient_step"]) > 0)


OURS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("", "weights"): lambda match: held_weights(match.link.tx, match.ours["weights"], match.count()),
    ("MechanicState", "total"): lambda match: jnp.sum(jnp.asarray(match.their_link.fields["s"].value)),
    ("MultiStepsState", "updated"): _updated,
    ("MultiStepsState", "bad_weights"): lambda match: np.asarray(0),
    **{(kind, "skipped"): lambda match: np.asarray(0) for kind in ("MomoState", "MomoAdamState")},
}
"""Maps (class of the state, field) of a field that only gradtx has to a function that computes it from optax's
fields."""

THEIRS: dict[str, Callable[[Any], Any]] = {
    "count_m2": lambda match: np.asarray(match.count()),
    "is_init_step": lambda match: np.asarray(match.count() == 0),
    "is_initial_step": lambda match: np.asarray(match.count() == 0),
}
"""Maps each field that only optax has to a function that computes it from gradtx's fields."""

KEPT = {"ns_coeffs"}
"""Fields of optax that hold constants of the optimizer."""


# --- states that differ in more than names


def _multi_steps(match: Any) -> None:
    ours, theirs = match.ours, match.theirs
    mini_step = number(theirs["mini_step"] if match.notes.into_ours else ours["mini_step"])
    weight = ours.pop("acc_weight")
    if match.notes.into_ours:
        if mini_step and match.link.tx.weight is not None:
            raise match.notes.error(
                f"{match.where('acc_weight')}: the optax state is between two steps, and does not say what its "
                f"{mini_step} micro-batches weigh. Convert it after a step, or leave `weight` out of accumulate."
            )
        match.later(weight, lambda: np.asarray(float(mini_step)), match.where("acc_weight"))
    elif mini_step == 0:  # after a step gradtx keeps scratch data, and optax zeros
        buffer = theirs.pop("acc_grads")
        ours["acc_grads"] = ()
        match.later(buffer, lambda: jax.tree.map(np.zeros_like, values_of(buffer)))


def _hyperparams(match: Any) -> None:
    ours, theirs = match.ours.pop("hyperparams"), dict(match.theirs.pop("hyperparams"))
    _schedule_states(match)
    for name, cell in theirs.items():
        if name in ours:
            target = ours[name] if match.notes.into_ours else cell
            match.notes.pair(match.where(f"hyperparams/{name}"), ours[name], cell, partial(_as_number, target.value))
        elif name in match.link.tx.others.tree:  # in gradtx this argument is static
            cell.keep()
        else:
            raise match.notes.error(
                f"{match.where('hyperparams')}: the optax state has {name}, and gradtx's has "
                f"{', '.join(ours) or 'none'}. {ADVICE}"
            )
    for name, cell in ours.items():
        if name not in theirs:  # an argument that optax's function lacks keeps its initial value
            cell.keep()


def _schedule_states(match: Any) -> None:
    """Matches the states of schedules.

    In optax the state of a plain schedule is its step count; gradtx uses the step count of the transformation instead.
    """
    ours = dict(match.ours.pop("hyperparams_states", ()))
    for name, state in dict(match.theirs.pop("hyperparams_states", ())).items():
        where, cells = f"hyperparams_states/{name}", flat(state)
        if name in ours:
            match.match_named(where, ours.pop(name), state)
        elif all(path.rpartition("/")[2] in COUNTS for path, _ in cells):
            for _, cell in cells:
                if match.notes.into_ours:
                    match.link.clock.read.append(number(cell))
                else:
                    match.link.clock.unset.append((match.where(where), cell, 0))
        else:
            raise match.notes.error(f"{match.where(where)}: gradtx's schedule of {name} has no state. {ADVICE}")
    if ours:
        raise match.notes.error(f"{match.where('hyperparams_states')}: optax's has no {', '.join(ours)}. {ADVICE}")


def _as_number(like: Any, x: Any) -> Any:
    """Casts a hyperparameter to the dtype of the other library's value; the user may have passed an integer."""
    return jnp.asarray(x, jnp.result_type(like))


def _lookahead(match: Any) -> None:
    if "slow" not in match.ours:  # as in optax, the slow weights are in the parameters
        return
    period, since = match.link.tx.sync_period, match.theirs.pop("steps_since_sync", None)
    if since is None:
        raise match.notes.error(f"{match.link.name}: the optax state has no steps_since_sync. {ADVICE}")
    slow = match.ours.pop("slow")
    if not match.notes.into_ours:
        match.later(since, lambda: np.asarray(match.count() % period))
        return
    if match.slow is None:
        raise match.notes.error(
            f"{match.where('slow')}: optax keeps the slow weights in the parameters. Give its LookaheadParams as "
            "params."
        )
    match.later(slow, lambda: match.slow, match.where("slow"))
    _check_place(match, since, period, "steps_since_sync")


def _check_place(match: Any, place: Cell, period: int, name: str) -> None:
    """Raises, when the walk has ended, if the position in a period does not match the step count."""

    def check() -> None:
        count = match.count()
        if count % period != number(place):
            raise match.notes.error(
                f"{match.where(name)}: {number(place)} steps since the last period ended do not fit {count} steps in "
                f"periods of {period}. Give the right count, or the transformation that the state belongs to."
            )

    match.notes.later.append(check)


def _cyclic(period: str) -> Callable[[Any], None]:
    """Returns a function that matches states whose count restarts after every period in optax."""

    def special(match: Any) -> None:
        place, length = match.theirs.pop("count", None), getattr(match.link.tx, period)
        if place is None:
            return
        if match.notes.into_ours:
            _check_place(match, place, length, "count")
        else:
            match.later(place, lambda: np.asarray(match.count() % length))

    return special


def _linesearch(match: Any) -> None:
    """Matches the report of a line search; entries that optax does not have keep their initial values."""
    theirs = dict(flat(match.theirs.pop("info", ())))
    for key, cell in flat(match.ours.pop("info")):
        if key in theirs:
            match.notes.pair(match.where(f"info/{key}"), cell, theirs[key])
        else:
            cell.keep()


def _monitor(match: Any) -> None:
    """Matches measurements; before the first step, optax's state has no measurements."""
    if jax.tree.leaves(match.theirs["measurements"]):
        return
    ours, theirs = match.ours.pop("measurements"), match.theirs.pop("measurements")
    keep(ours)
    if not match.notes.into_ours:
        theirs.update(ours)


def _belief(match: Any) -> None:
    """Converts ACProp's second moment, to which optax adds eps_root * (1 + b2 + b2^2 + ...)."""
    if not isinstance(match.link.tx, scale_by_acprop):
        return

    def one(i: Any, total: Any) -> Any:
        now = match.link.tx.at(i)
        return (now.b2 * total + now.eps_root).astype(total.dtype)

    def shift() -> Any:
        return jax.lax.fori_loop(0, match.count(), one, jnp.zeros((), float))

    if match.notes.into_ours:
        match.changes["nu"] = lambda x: jnp.maximum(x - shift(), 0)
    else:
        match.changes["nu"] = lambda x: x + shift()


SPECIAL: dict[str, Callable[[Any], None]] = {
    "ApplyEveryState": _cyclic("k"),
    "InjectHyperparamsState": _hyperparams,
    "LinesearchState": _linesearch,
    "LookaheadState": _lookahead,
    "MonitorState": _monitor,
    "MultiStepsState": _multi_steps,
    "ScaleByBeliefState": _belief,
    "ReduceLROnPlateauState": _cyclic("accumulation_size"),
    "ScaleByLBFGSState": match_memory,
}


def rate_before_average(tx: Any, theirs: Any) -> Any:
    """Returns the learning rate by which optax's adafactor scales the updates before it averages them.

    None for other chains. gradtx scales the average, so that its state is optax's state divided by the learning rate.
    With a schedule this is exact only while the learning rate is constant.
    """
    links = list(_links(tx))
    where = [i for kind in (scale_by_factored_rms, ema, scale_by_learning_rate) for i in _places(links, kind)]
    parts = list(_parts(theirs))
    there = [i for name in ("v_row", "ema") for i, x in enumerate(parts) if name in fields_of(x)]
    # Both chains clip and multiply by the parameter's scale before the average; optax also multiplies by the rate
    # there.
    if (
        len(where) == 3
        and where == sorted(where)
        and len(there) == 2
        and there[1] - there[0] == where[1] - where[0] + 1
    ):
        return links[where[2]].learning_rate
    return None


def scale_average(match: Any, rate: Any) -> None:
    """Converts the average: optax averages updates that are already scaled by the learning rate."""

    def factor() -> Any:
        now = rate(jnp.asarray(max(match.count() - 1, 0))) if isinstance(rate, Schedule) else rate
        return jnp.where(now == 0, 1, now)

    match.changes["ema"] = (lambda x: x / factor()) if match.notes.into_ours else (lambda x: x * factor())


def _links(tx: Any) -> list[Any]:
    if isinstance(tx, Composite) and tx.State is None and not isinstance(tx, chain):
        (tx,) = tx.children().values()
        return _links(tx)
    return [one for link in tx.links for one in _links(link)] if isinstance(tx, chain) else [tx]


def _places(links: list[Any], kind: type) -> list[int]:
    return [i for i, link in enumerate(links) if isinstance(link, kind)]


def _parts(state: Any) -> list[Any]:
    if isinstance(state, (list, tuple)) and not hasattr(state, "_fields"):
        return [one for part in state for one in _parts(part)]
    return [state]
