"""Law 15: a step has no branch where a selection, or a sum, will do."""

import jax

from gradtx.testing.calls import update
from gradtx.testing.data import draw
from gradtx.testing.subject import Subject, law

__all__ = []


@law(15, "no branch", unless="branch", quick=True)
def a_step_does_not_branch(subject: Subject) -> None:
    """The program of a step has no conditional, unless skipping work is what the method is for.

    A conditional keeps copies of what its branches read, and on an accelerator the host waits for its condition in the
    middle of the step.
    """
    params = jax.eval_shape(lambda: draw(0, "float32"))
    state = jax.eval_shape(subject.tx.init, params)
    step = jax.jit(lambda grads, state, params: update(subject.tx, grads, state, params))
    text = step.lower(params, state, params).as_text()
    assert "stablehlo.case" not in text, "the step branches"
    assert "stablehlo.if" not in text, "the step branches"
