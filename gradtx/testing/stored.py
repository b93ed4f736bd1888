"""Law 14: in a storage format a method keeps its promises, within the format's own rounding."""

from typing import Any

import jax

from gradtx.core.describe import describe
from gradtx.core.packed import is_packed
from gradtx.core.transformation import GradientTransformation
from gradtx.storage.stored import stored
from gradtx.testing.calls import extra_args
from gradtx.testing.data import close, draw, finite, stack
from gradtx.testing.subject import NotApplicableError, Subject, law
from gradtx.types import State, Transformation, Updates


def storable(tx: GradientTransformation) -> None:
    """Raises unless the state has an array per parameter that a format can hold."""
    state = jax.eval_shape(tx.init, draw(0, "float32"))
    if any(map(is_packed, jax.tree.leaves(state, is_leaf=is_packed))):
        raise NotApplicableError("it is stored already")
    dtypes = {row.dtype for row in describe(tx, draw(0, "float32")).rows if row.kind == "per parameter"}
    if "float32" not in dtypes:
        raise NotApplicableError("its state has no float32 array per parameter")
    if dtypes & {"bfloat16", "float16"}:
        raise NotApplicableError("a part of its state is in 16 bits, which a format would store with more digits")


@law(14, "stored", of_values=True)
def storing_changes_nothing_but_digits(subject: Subject) -> None:
    """In a format that loses nothing the updates are the same; in 8 bits they stay finite, and the state its shape."""
    storable(subject.tx)
    params, grads = draw(0, "float32"), stack([draw(i + 1, "float32", scale=0.3) for i in range(3)])

    def steps(tx: Transformation) -> Any:
        def step(state: State, g: Updates) -> tuple[State, Any]:
            updates, state = tx.update(g, state, params, **extra_args(subject.tx, g, params))
            return state, (updates, state)

        return jax.jit(lambda grads: jax.lax.scan(step, tx.init(params), grads)[1])(grads)

    expected, plain = steps(subject.tx)
    found, _ = steps(stored(subject.tx, "bf16+16", min_size=0))
    close(found, expected, rtol=1e-4, atol=1e-6, about="other updates with a stored state")
    small, states = steps(stored(subject.tx, "int8", min_size=0))  # a scan, which carries the state
    assert finite(small), "updates with a state of 8 bits are not finite"
    # The state of a line search may hold infinities.
    assert finite(states) or not finite(plain), "a state of 8 bits is not finite"
