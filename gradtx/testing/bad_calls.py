"""Law 11: every tree, state or extra argument that does not fit is refused, with a message that names it.

Each call must raise ValueError or TypeError before anything is computed. So the calls are made with abstract values:
one that comes to computing is traced, and counts as accepted.
"""

import jax
import jax.numpy as jnp

from gradtx.core.chain import needs
from gradtx.testing.calls import extra_args
from gradtx.testing.data import draw
from gradtx.testing.subject import NotApplicableError, law

ERRORS = (ValueError, TypeError)


def refused(call, named):
    """What is wrong with how a call fails; None where its error names what it should."""
    try:
        call()
    except ERRORS as error:
        return None if named in str(error) else f"the message does not name {named}: {str(error)[:200]}"
    except Exception as error:
        return f"{type(error).__name__} in place of ValueError or TypeError"
    return "accepted"


def bad_uses(tx):
    """What is wrong, the call, and what the message must contain."""
    shapes = jax.eval_shape(lambda: draw(0, "float32"))
    others = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape[1:]), x.dtype), shapes)

    def zeros(tree):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)

    params = zeros(shapes)
    state = tx.init(params)
    extra = extra_args(tx, params, params)

    def use(updates=params, state=state, params=params, **more):
        return tx.update(updates, state, params, **{**extra, **more})

    yield "a missing leaf", lambda: use({"w": params["w"]}), "deep"
    yield "a leaf too many", lambda: use({**params, "more": params["w"]}), "['more']"
    yield "another shape", lambda: use(zeros(others)), "at ['"
    yield "integers", lambda: use({**params, "w": jnp.zeros((8, 2), int)}), "['w']"
    yield "a string", lambda: use({**params, "w": "x"}), "['w']"
    yield "parameters of another shape", lambda: use(params=zeros(others)), "at ['"
    yield "a number for a state", lambda: use(state=3.5), "state"
    yield "the state of no transformation", lambda: use(state={"nothing": 1}), "state"
    yield "an unknown extra argument", lambda: use(valeu=1.0), "valeu"
    if "value" in needs(tx):
        yield "two values", lambda: use(value=jnp.ones(2)), "value"
        yield "a string for a value", lambda: use(value="x"), "value"
    yield "integer parameters", lambda: tx.init({**params, "w": jnp.zeros((8, 2), int)}), "['w']"
    yield "a string for a parameter", lambda: tx.init({**params, "w": "x"}), "['w']"


@law(11, "bad trees", quick=True)
def bad_trees_are_refused(subject):
    """Every tree, state or extra argument that does not fit raises an error that names it or its path."""
    if subject.reads_no_trees:
        raise NotApplicableError(subject.reads_no_trees)
    findings = []

    def inside():
        for what, call, named in bad_uses(subject.tx):
            if what not in subject.accepted:
                findings.append((f"{subject.name}: {what}", refused(call, named)))
        return ()

    jax.eval_shape(inside)
    return findings
