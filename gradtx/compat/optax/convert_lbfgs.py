"""Converts the memory of L-BFGS. optax keeps the pair (s, y) of every step, gradtx only pairs with <s, y> > 0.

Both libraries write into a circular buffer: optax writes the pair of step k (counted from 0) at position k - 1, and
gradtx writes its i-th pair at position i. The weight of a pair is 1 / <s, y>. A pair of weight 0 has no effect, so
pairs that gradtx leaves out get weight 0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["match_memory"]

MEMORIES = ("diff_params_memory", "diff_updates_memory")


def match_memory(match: Any) -> None:
    """Matches the memories; the other fields have the same names."""
    ours = {name: match.ours.pop(name) for name in (*MEMORIES, "weights_memory", "pairs", "identity_scale")}
    theirs = {name: match.theirs.pop(name, ()) for name in (*MEMORIES, "weights_memory")}
    for name, tree in theirs.items():
        if [np.shape(x.value) for x in jax.tree.leaves(tree)] != [
            np.shape(x.value) for x in _in_their_order(match, ours[name])
        ]:
            raise match.notes.error(
                f"{match.where(name)} has other shapes in the optax state. Give memory_size and the parameters of that "
                "run."
            )
    into_ours = match.notes.into_ours
    source = theirs if into_ours else ours
    weights = np.asarray(source["weights_memory"].value)
    # optax's state has only the step count; gradtx's state also has the number of pairs.
    count = int(match.their_link.fields["count"].value if into_ours else match.link.state.count.value)
    size = len(weights)
    if into_ours:
        steps = min(max(count - 1, 0), size)
        places = [(count - 2 - j) % size for j in range(steps)]
        found = [i for i in reversed(places) if weights[i] > 0]  # positions of the pairs, from the oldest to the newest
        taken = dict(enumerate(found))
        match.later(ours["pairs"], lambda: np.asarray(len(found)), match.where("pairs"))
        match.later(ours["identity_scale"], lambda: _scale(theirs, found[-1:]), match.where("identity_scale"))
    else:
        pairs = int(ours["pairs"].value)
        newest_first = [(pairs - 1 - j) % size for j in range(min(pairs, size))]
        taken = {(count - 2 - j) % size: i for j, i in enumerate(newest_first)}
    target = ours if into_ours else theirs
    for name in (*MEMORIES, "weights_memory"):
        cells = jax.tree.leaves(source[name]) if into_ours else _in_their_order(match, source[name])
        goals = _in_their_order(match, target[name]) if into_ours else jax.tree.leaves(target[name])
        for cell, goal in zip(cells, goals, strict=True):
            match.later(goal, lambda cell=cell: _moved(cell.value, taken), match.where(name))


def _in_their_order(match: Any, tree: Any) -> list[Any]:
    """Returns the cells of gradtx's tree in the order of optax's parameters."""
    cells, order = jax.tree.leaves(tree), match.link.seen.order
    return [cells[i] for i in np.argsort(order, kind="stable")] if len(cells) == len(order) else cells


def _moved(memory: Any, taken: dict[int, int]) -> Any:
    """Returns the memory with the entry `taken[i]` moved to i, and zeros elsewhere."""
    memory = jnp.asarray(memory)
    new = jnp.zeros_like(memory)
    goals, sources = np.asarray(list(taken), int), np.asarray(list(taken.values()), int)
    return new.at[goals].set(memory[sources])


def _scale(theirs: dict[str, Any], newest: list[int]) -> Any:
    """Returns <s, y> / <y, y> of the newest pair; 1 if there is no pair."""
    if not newest:
        return np.asarray(1.0)
    (i,) = newest
    leaves = [jnp.asarray(x.value[i]) for x in jax.tree.leaves(theirs["diff_updates_memory"])]
    square = sum(jnp.sum(jnp.abs(y) ** 2) for y in leaves)
    return 1 / (theirs["weights_memory"].value[i] * square)
