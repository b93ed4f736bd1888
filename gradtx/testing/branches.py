"""Law 15: a step uses no conditional if a `where` or a sum gives the same result."""

import jax

from gradtx.testing.calls import update
from gradtx.testing.data import draw
from gradtx.testing.subject import Subject, law

__all__ = []


@law(15, "no branch", unless="branch", quick=True)
def a_step_does_not_branch(subject: Subject) -> None:
    """The compiled step has no conditional (`lax.cond`), unless the method's purpose is to skip work.

    A conditional keeps copies of the arrays that its branches read, and on an accelerator the step waits until the host
    has read the condition.
    """
    params = jax.eval_shape(lambda: draw(0, "float32"))
    state = jax.eval_shape(subject.tx.init, params)
    step = jax.jit(lambda grads, state, params: update(subject.tx, grads, state, params))
    text = step.lower(params, state, params).as_text()
    assert "stablehlo.case" not in text, "the compiled step has a conditional"
    assert "stablehlo.if" not in text, "the step branches"
