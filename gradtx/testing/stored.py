"""Law 14: with a state quantized by `gx.stored`, updates differ only by the rounding of the format."""

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
    """Raises `NotApplicableError` unless `gx.stored` can quantize some array of the state."""
    state = jax.eval_shape(tx.init, draw(0, "float32"))
    if any(map(is_packed, jax.tree.leaves(state, is_leaf=is_packed))):
        raise NotApplicableError("the state is already stored in a format")
    dtypes = {row.dtype for row in describe(tx, draw(0, "float32")).rows if row.kind == "per parameter"}
    if "float32" not in dtypes:
        raise NotApplicableError("the state has no float32 array per parameter")
    if dtypes & {"bfloat16", "float16"}:
        raise NotApplicableError("some of the state is in 16 bits, which a format would store more exactly")


@law(14, "stored", of_values=True)
def storing_changes_nothing_but_digits(subject: Subject) -> None:
    """A state stored without loss gives the same updates; a state of 8 bits stays finite and keeps its shapes."""
    storable(subject.tx)
    params, grads = draw(0, "float32"), stack([draw(i + 1, "float32", scale=0.3) for i in range(3)])

    def steps(tx: Transformation) -> Any:
        def step(state: State, g: Updates) -> tuple[State, Any]:
            updates, state = tx.update(g, state, params, **extra_args(subject.tx, g, params))
            return state, (updates, state)

        return jax.jit(lambda grads: jax.lax.scan(step, tx.init(params), grads)[1])(grads)

    expected, plain = steps(subject.tx)
    found, _ = steps(stored(subject.tx, "bf16+16", min_size=0))
    close(found, expected, rtol=1e-4, atol=1e-6, about="updates differ with a stored state")
    small, states = steps(stored(subject.tx, "int8", min_size=0))  # a scan: the state keeps its shapes
    assert finite(small), "updates with a state of 8 bits are not finite"
    # The state of a line search may hold infinities.
    assert finite(states) or not finite(plain), "a state of 8 bits is not finite"
