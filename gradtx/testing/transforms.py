"""Law 8: jit equals eager, and vmap equals a loop; `mesh.py` holds the laws about 8 devices."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from gradtx.testing.calls import trajectory, update
from gradtx.testing.data import at, close, draw, stack
from gradtx.testing.subject import Subject, law
from gradtx.types import Params, State, Transformation, Updates


def one_by_one(tx: Transformation, params: Params, grads: Iterable[Updates]) -> list[tuple[Updates, State]]:
    """Returns the updates and states of steps at fixed parameters, with one call of `update` for each gradient."""
    state = tx.init(params)
    seen: list[tuple[Updates, State]] = []
    for g in grads:
        updates, state = update(tx, g, state, params)
        seen.append((updates, state))
    return seen


@law(8, "eager")
def eager_equals_jit(subject: Subject) -> None:
    """Steps outside of jit give the same results as the compiled loop, up to rounding."""
    eager = one_by_one(subject.tx, subject.params, [at(subject.grads, t) for t in range(3)])
    close(stack(eager), subject.expected, rtol=1e-12, atol=1e-15, about="results outside of jit differ")


@law(8, "vmap")
def vmap_equals_a_loop(subject: Subject) -> None:
    """Two runs under `jax.vmap` give the same results as two separate runs, up to rounding."""
    params, grads = stack([subject.params, draw(10)]), stack([subject.grads, jax.tree.map(jnp.negative, subject.grads)])
    batch = jax.jit(jax.vmap(lambda params, grads: trajectory(subject.tx, params, grads)))(params, grads)
    close(at(batch, 0), subject.expected, rtol=1e-12, atol=1e-15, about="results under vmap differ")
    second = subject.run(*at((params, grads), 1))
    close(at(batch, 1), second, rtol=1e-12, atol=1e-15, about="other results under vmap")
