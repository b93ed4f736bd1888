"""Law 8: jit equals eager, and vmap equals a loop; `mesh.py` has what it says of 8 devices."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from gradtx.testing.calls import trajectory, update
from gradtx.testing.data import at, close, draw, stack
from gradtx.testing.subject import Subject, law
from gradtx.types import Params, State, Transformation, Updates


def one_by_one(tx: Transformation, params: Params, grads: Iterable[Updates]) -> list[tuple[Updates, State]]:
    """Returns updates and states of a step for each of the gradients, at fixed parameters, with one call of
    `update` each.
    """
    state = tx.init(params)
    seen: list[tuple[Updates, State]] = []
    for g in grads:
        updates, state = update(tx, g, state, params)
        seen.append((updates, state))
    return seen


@law(8, "eager")
def eager_equals_jit(subject: Subject) -> None:
    """Steps outside of jit give what the compiled loop gives, up to rounding."""
    eager = one_by_one(subject.tx, subject.params, [at(subject.grads, t) for t in range(3)])
    close(stack(eager), subject.expected, rtol=1e-12, atol=1e-15, about="other results outside of jit")


@law(8, "vmap")
def vmap_equals_a_loop(subject: Subject) -> None:
    """A batch of two runs gives what the two give by themselves, up to rounding."""
    params, grads = stack([subject.params, draw(10)]), stack([subject.grads, jax.tree.map(jnp.negative, subject.grads)])
    batch = jax.jit(jax.vmap(lambda params, grads: trajectory(subject.tx, params, grads)))(params, grads)
    close(at(batch, 0), subject.expected, rtol=1e-12, atol=1e-15, about="other results under vmap")
    second = subject.run(*at((params, grads), 1))
    close(at(batch, 1), second, rtol=1e-12, atol=1e-15, about="other results under vmap")
