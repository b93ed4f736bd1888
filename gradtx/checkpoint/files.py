"""Saves and restores with orbax."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from gradtx import checks
from gradtx.checkpoint import leaves
from gradtx.checkpoint.written import check_same, written
from gradtx.core.transformation import as_transformation
from gradtx.sharding import state_shardings
from gradtx.types import Params, State

__all__ = ["Checkpoint", "restore", "save"]

_FORMAT = 1
_ITEMS = ("params", "state", "more")


class Checkpoint(NamedTuple):
    """What `restore` returns."""

    step: int
    """The step that was passed to `save`."""
    params: Any
    """The parameters."""
    state: Any
    """The state of the optimizer."""
    more: Any
    """The restored `more`, if `more` was passed to `restore`; otherwise None."""


def save(manager: Any, step: int, tx: Any, params: Params, state: State, more: Any = None) -> bool:
    """Saves parameters, the state of an optimizer, and what transformation it belongs to.

    Call it between two steps. With a manager it returns as soon as the arrays are copied to the host, so the next step
    may donate them; the files are written in the background. A checkpoint counts only when it is complete: a process
    that is killed while it saves loses that checkpoint, and no other. With several processes all of them call `save`.

    Args:
      manager: An `orbax.checkpoint.CheckpointManager`. Its options say how many checkpoints are kept, and how often
        one is saved. Or a folder: then `save` returns when the checkpoint is written.
      step: The number of steps taken, by which the checkpoint is found again. Not negative.
      tx: The transformation. Its fields are written into the checkpoint, and compared when it is restored.
      params: The parameters, a tree of arrays.
      state: The state of `tx`.
      more: Anything else that a resumed run needs, a tree of arrays, random keys and numbers: the key of the data, the
        epoch, an average of the loss.

    Returns:
      Whether a checkpoint was saved. With a manager that saves every so many steps, it is not saved at others.

    >>> import tempfile, jax.numpy as jnp, gradtx as gx
    >>> tx, params = gx.adam(0.1), {"w": jnp.ones(3)}
    >>> state, folder = tx.init(params), tempfile.mkdtemp()
    >>> gx.checkpoint.save(folder, 100, tx, params, state, more={"epoch": 3})
    True

    Raises:
      ImportError: Orbax is not installed.
      TypeError: `tx` is no transformation, or a leaf is no array or number.
      ValueError: `step` is negative.
    """
    tx = as_transformation("checkpoint.save", tx)
    step = checks.integer("checkpoint.save", "step", step, ge=0)
    if hasattr(manager, "should_save") and not manager.should_save(step):
        return False
    parts = {name: leaves.named(tree) for name, tree in zip(_ITEMS, (params, state, more), strict=True)}
    for name, found in parts.items():
        _check_arrays("checkpoint.save", name, found)
    about = {
        "format": _FORMAT,
        "transformation": written(tx),
        "repr": repr(tx),
        "layout": {name: leaves.layout(found) for name, found in parts.items()},
    }
    args = _orbax().args
    items = {name: args.PyTreeSave(kept) for name, found in parts.items() if (kept := leaves.stored(found))}
    with _opened(manager) as opened:
        return opened.save(step, args=args.Composite(about=args.JsonSave(about), **items))


def restore(
    manager: Any,
    tx: Any,
    params: Params,
    state: State = None,
    more: Any = None,
    *,
    shardings: Any = None,
    step: int | None = None,
    changed: Iterable[str] = (),
    convert: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Checkpoint:
    """Restores what `save` saved, bit for bit, onto any devices.

    `params`, `state` and `more` say what is wanted: trees like those that were saved, of arrays or of shapes
    (`jax.ShapeDtypeStruct`). Each array is restored with the sharding of its counterpart in these trees, so the run may
    continue on other devices than before.

    Args:
      manager: The `orbax.checkpoint.CheckpointManager`, or the folder.
      tx: The transformation. It must be the one that the checkpoint was saved with.
      params: The parameters before the first step, or their shapes.
      state: The state before the first step, or its shapes; by default what `tx.init(params)` would return.
      more: A tree like the `more` that was saved; its values are replaced. None (default) does not restore it.
      shardings: The shardings of the restored state, as returned by `gx.sharding.state_shardings`, possibly with a
        different `zero_axis` from the saved run. By default the shardings of `state`, or of what `tx.init(params)`
        would return.
      step: Which checkpoint; the latest by default.
      changed: The names of hyperparameters and other fields that may differ from the checkpoint, as in
        `("learning_rate",)`: the run continues with the values of `tx`. Write a name as in the result of
        `gx.hyperparameters`, or only the part of the name after the last dot.
      convert: A function for states of an older layout, `convert(arrays) -> arrays`. It gets the saved state as a dict
        from name to array, such as `arrays["0/mu/dense/kernel"]`, and returns one with the names that `tx` has now.

    Returns a `Checkpoint`, with `step`, `params`, `state` and `more`.

    >>> import tempfile, jax.numpy as jnp, gradtx as gx
    >>> tx, params, folder = gx.adam(0.1), {"w": jnp.ones(3)}, tempfile.mkdtemp()
    >>> saved = gx.checkpoint.save(folder, 100, tx, params, tx.init(params))
    >>> gx.checkpoint.restore(folder, tx, {"w": jnp.zeros(3)}).params
    {'w': Array([1., 1., 1.], dtype=float32)}
    >>> gx.checkpoint.restore(folder, gx.adam(0.1, b1=0.8), params)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: checkpoint.restore: the checkpoint belongs to another transformation: scale_by_adam.b1 is 0.9 ...

    Raises:
      ImportError: Orbax is not installed.
      ValueError: There is no checkpoint; it belongs to another transformation; or arrays are missing, left over, or of
        another shape or dtype. The error names the first of them.
    """
    who = "checkpoint.restore"
    tx = as_transformation(who, tx)
    state = _wanted(tx, params, state, shardings)
    with _opened(manager, create=False) as opened:
        step = _step(who, opened, step)
        about = _about(who, opened, step)
        check_same(who, about["transformation"], tx, changed)
        read = partial(_read, who, opened, step, about["layout"])
        kept = None if more is None else read("more", more)
        return Checkpoint(step, read("params", params), read("state", state, convert), kept)


def _wanted(tx: Any, params: Params, state: State, shardings: Any) -> Any:
    """Returns the state before the first step, or its shapes, with the shardings of the state to be restored."""
    places = [getattr(x, "sharding", None) for x in jax.tree.leaves(params)]
    if state is None:
        state = jax.eval_shape(tx.init, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params))
        if shardings is None and places and all(isinstance(x, NamedSharding) for x in places):
            shardings = state_shardings(tx, params)
    if shardings is None:
        return state
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), state, shardings)


def _read(who: str, opened: Any, step: int, layouts: Any, name: str, tree: Any, convert: Any = None) -> Any:
    """Restores the tree of one item: 'params', 'state' or 'more'."""
    saved, like = layouts[name], leaves.named(tree)
    _check_arrays(who, name, like)
    problem = None if convert else leaves.difference(saved, like)
    if problem is not None:
        raise ValueError(f"{who}: {name} is not as it was saved: {problem}. {_ADVICE[name]}")
    arrays = _arrays(opened, step, name, leaves.like_saved(saved, like))
    if convert is not None:
        arrays = dict(convert(dict(arrays)))
        problem = leaves.difference(leaves.layout(arrays), leaves.data_of(like))
        if problem is not None:
            raise ValueError(f"{who}: convert must return the arrays that the state has now, but {problem}.")
    placed = [leaves.placed(arrays.get(key), saved.get(key), x) for key, x in like.items()]
    return jax.tree.structure(tree).unflatten(placed)


def _arrays(opened: Any, step: int, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Reads the arrays of one item: as JAX arrays if they have a sharding, otherwise as NumPy arrays."""
    if not asked:
        return {}
    orbax = _orbax()
    how = {
        key: orbax.RestoreArgs(restore_type=np.ndarray)
        if x.sharding is None
        else orbax.ArrayRestoreArgs(sharding=x.sharding, global_shape=x.shape, dtype=x.dtype)
        for key, x in asked.items()
    }
    wanted = orbax.args.PyTreeRestore(item=asked, restore_args=how)
    return opened.restore(step, args=orbax.args.Composite(**{name: wanted}))[name]


_ADVICE = {
    "params": "Give params the tree, shapes and dtypes that were saved.",
    "more": "Give more the tree, shapes and dtypes that were saved.",
    "state": "For a state of an older layout give convert=, a function from the saved arrays by name to the new ones.",
}


def _check_arrays(who: str, name: str, found: dict[str, Any]) -> None:
    for path, x in found.items():
        if checks.dtype(x) is None or isinstance(x, complex):
            raise TypeError(
                f"{who}: {name} has {checks.shown(x)} at {path}. A checkpoint holds arrays, random keys and real "
                "numbers; leave other things out."
            )


def _step(who: str, opened: Any, step: int | None) -> int:
    steps = sorted(opened.all_steps())
    if not steps or (step is not None and step not in steps):
        there = ", ".join(map(str, steps)) or "none"
        what = "no complete checkpoint" if step is None else f"no complete checkpoint of step {step}"
        raise ValueError(f"{who}: there is {what} in {opened.directory}; the steps there are: {there}.")
    return steps[-1] if step is None else step


def _about(who: str, opened: Any, step: int) -> Any:
    args = _orbax().args
    try:
        about = opened.restore(step, args=args.Composite(about=args.JsonRestore()))["about"]
    except (FileNotFoundError, KeyError) as error:
        raise ValueError(
            f"{who}: the checkpoint of step {step} was not saved by gradtx.checkpoint.save. Restore it with orbax."
        ) from error
    if about["format"] > _FORMAT:
        raise ValueError(
            f"{who}: a newer gradtx saved the checkpoint of step {step}. Install that version, or a later."
        )
    return about


def _orbax() -> Any:
    try:
        import orbax.checkpoint as orbax
    except ImportError as error:
        raise ImportError("gradtx.checkpoint needs orbax: pip install 'gradtx[checkpoint]'.") from error
    return orbax


@contextlib.contextmanager
def _opened(manager: Any, *, create: bool = True) -> Generator[Any]:
    """Yields the manager, or makes one for a folder and closes it when everything is written."""
    if not isinstance(manager, (str, os.PathLike)):
        yield manager
        return
    folder = os.fspath(manager)
    folder = folder if "://" in folder else os.path.abspath(folder)
    if not create and "://" not in folder and not os.path.isdir(folder):
        raise ValueError(f"checkpoint.restore: there is no folder {folder}. Give the one that save wrote to.")
    orbax = _orbax()
    opened = orbax.CheckpointManager(folder, options=orbax.CheckpointManagerOptions(create=create))
    try:
        yield opened
    finally:
        opened.close()
