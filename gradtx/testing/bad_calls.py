"""Law 11: every tree, state or extra argument that does not match raises an error that names it.

Each call must raise ValueError or TypeError before anything is computed. So the calls are made with abstract values: if
a call reaches the computation, it is traced and counts as accepted.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.chain import needs
from gradtx.core.describe import Place, map_state
from gradtx.core.shared import named_tuple
from gradtx.core.slots import Slot, child_state
from gradtx.testing.calls import extra_args
from gradtx.testing.data import draw
from gradtx.testing.subject import Finding, NotApplicableError, Subject, law
from gradtx.types import Params, State, Transformation, Updates

ERRORS = (ValueError, TypeError)


def refused(call: Callable[[], Any], named: str) -> str | None:
    """Returns what is wrong with the error of a call; None if the error is right and contains `named`."""
    try:
        call()
    except ERRORS as error:
        return None if named in str(error) else f"the message does not name {named}: {str(error)[:200]}"
    except Exception as error:
        return f"{type(error).__name__} in place of ValueError or TypeError"
    return "accepted"


def bad_uses(tx: Transformation) -> Iterator[tuple[str, Callable[[], Any], str]]:
    """Yields bad calls: what is wrong with the call, the call, and a text that the error message must contain."""
    shapes = jax.eval_shape(lambda: draw(0, "float32"))
    others = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape[1:]), x.dtype), shapes)

    def zeros(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)

    params = zeros(shapes)
    state = tx.init(params)
    extra = extra_args(tx, params, params)

    def use(updates: Updates = params, state: State = state, params: Params = params, **more: Any) -> Any:
        return tx.update(updates, state, params, **{**extra, **more})

    yield "a missing leaf", lambda: use({"w": params["w"]}), "deep"
    yield "an additional leaf", lambda: use({**params, "more": params["w"]}), "['more']"
    yield "a wrong shape", lambda: use(zeros(others)), "at ['"
    yield "integers", lambda: use({**params, "w": jnp.zeros((8, 2), int)}), "['w']"
    yield "a string", lambda: use({**params, "w": "x"}), "['w']"
    yield "parameters of a wrong shape", lambda: use(params=zeros(others)), "at ['"
    yield "a number as the state", lambda: use(state=3.5), "state"
    yield "a dict that is no state", lambda: use(state={"nothing": 1}), "state"
    yield "an unknown extra argument", lambda: use(valeu=1.0), "valeu"
    for what, tree in (("other parameters", zeros(others)), ("fewer parameters", {"w": params["w"]})):
        with contextlib.suppress(*ERRORS):  # a transformation whose mask is made for one tree cannot init another tree
            other = tx.init(tree)
            if not same_outline(other, state):
                yield f"the state of {what}", lambda other=other: use(state=other), "state"
    if "value" in needs(tx):
        yield "two numbers as the value", lambda: use(value=jnp.ones(2)), "value"
        yield "a string as the value", lambda: use(value="x"), "value"
    yield "integer parameters", lambda: tx.init({**params, "w": jnp.zeros((8, 2), int)}), "['w']"
    yield "a string as a parameter", lambda: tx.init({**params, "w": "x"}), "['w']"


def same_outline(a: State, b: State) -> bool:
    """Whether two states have the same structure and shapes."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    return [x.shape for x in jax.tree.leaves(a)] == [x.shape for x in jax.tree.leaves(b)]


def with_one_wrong_array(tx: Transformation, state: State, params: Params) -> Iterator[tuple[str, State, str]]:
    """Yields what is wrong, the state with one array replaced by a wrong shape or a string, and the array's field."""
    places: list[Place] = []
    map_state(lambda place, x: places.append(place) or x, tx, state, params)
    for i, place in enumerate(places):
        if place.slot is not None:
            for what, wrong in (("a wrong shape", lambda x: jnp.zeros((*x.shape, 2), x.dtype)), ("a string", str)):
                items = iter(range(len(places)))

                def one(
                    place: Place, x: Any, i: int = i, wrong: Callable[[Any], Any] = wrong, items: Iterator[int] = items
                ) -> Any:
                    return jax.tree.map(wrong, x) if next(items) == i else x

                field = place.field.partition("/")[0]
                yield f"{what} in {place.link}.{field}", map_state(one, tx, state, params), field


def is_declared(state: State) -> bool:
    """Whether `x` is a nonempty state whose fields are declared by slots."""
    slots = getattr(state, "_field_defaults", {})
    return bool(slots) and all(isinstance(slot, Slot) for slot in slots.values())


def with_one_wrong_part(state: State) -> Iterator[tuple[str, State, str]]:
    """Yields what is wrong, a state that is wrong in one place, and a text that the error message must contain.

    The wrong place holds a different class of the same name, a number, or an incomplete container.
    """
    if type(state) is tuple:
        yield "an additional element", (*state, ()), "state"
        for i, part in enumerate(state):
            for what, new, named in with_one_wrong_part(part):
                yield f"{what} in state {i} of the chain", (*state[:i], new, *state[i + 1 :]), named
    elif is_declared(state):
        name = type(state).__name__
        yield f"a different class {name}", named_tuple(name, state._fields)(*state), name
        yield f"a number in place of {name}", 3.5, name
        for field, slot in state._field_defaults.items():
            for what, new, named in wrong_fields(field, slot, getattr(state, field)):
                yield f"{what} in {name}.{field}", state._replace(**{field: new}), named


def wrong_fields(field: str, slot: Slot, value: Any) -> Iterator[tuple[str, Any, str]]:
    """Yields what is wrong, a bad value for `field`, and a text that the error message must contain."""
    if isinstance(slot, child_state) and slot.of is not None:
        yield from with_one_wrong_part(value)
        return
    if not (isinstance(value, tuple) and value == ()):
        yield "nothing", (), field
    yield "something else", ({"nothing": 1},), field
    parts = value if isinstance(value, dict) else {}
    for key in parts:
        yield f"no {key}", {k: x for k, x in parts.items() if k != key}, field


@law(11, "bad states", quick=True, of_values=True)
def bad_states_are_refused(subject: Subject) -> list[Finding]:
    """A state with one array, field or class that `init` does not make raises an error that names the field.

    The law replaces every array of every nested state in turn, and checks that nothing is computed before the error.
    """
    if subject.reads_no_trees:
        raise NotApplicableError(subject.reads_no_trees)
    tx = subject.tx
    findings: list[Finding] = []

    def inside() -> tuple[()]:
        params = jax.tree.map(jnp.zeros_like, draw(0, "float32"))
        state, extra = tx.init(params), extra_args(tx, params, params)
        for what, wrong, named in (*with_one_wrong_array(tx, state, params), *with_one_wrong_part(state)):
            problem = refused(lambda wrong=wrong: tx.update(params, wrong, params, **extra), named)
            findings.append((f"{subject.name}: {what}", problem))
        return ()

    jax.eval_shape(inside)
    return findings or [("", None)]


@law(11, "bad trees", quick=True)
def bad_trees_are_refused(subject: Subject) -> list[Finding]:
    """Every tree, state or extra argument that does not match raises an error that names it or its path."""
    if subject.reads_no_trees:
        raise NotApplicableError(subject.reads_no_trees)
    findings: list[Finding] = []

    def inside() -> tuple[()]:
        for what, call, named in bad_uses(subject.tx):
            if what not in subject.accepted:
                findings.append((f"{subject.name}: {what}", refused(call, named)))
        return ()

    jax.eval_shape(inside)
    return findings
