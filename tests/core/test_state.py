"""States and their declarations: slots by name, descriptions, stacks of matrices, extra arguments."""

import collections
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx import rules
from tests.cases import close, draw

PARAMS = {"kernel": jnp.ones((6, 4)), "bias": jnp.zeros(4)}
SHAPES = jax.eval_shape(lambda: PARAMS)


# --- declarations


class Undeclared(NamedTuple):
    count: jax.Array = rules.counter()
    mu: Any = None


class Uncounted(NamedTuple):
    mu: jax.Array = rules.per_param()


def test_every_field_is_declared():
    with pytest.raises(TypeError, match=r"Undeclared\.mu: a field of a state is declared by a slot"):

        class undeclared(rules.Elementwise, state=Undeclared):
            pass

    with pytest.raises(TypeError, match=r"uncounted: Uncounted must have a field `count.*so that schedules work"):

        class uncounted(rules.Elementwise, state=Uncounted):
            pass


def test_a_slot_is_not_the_value_of_an_argument():
    """A state class called without a field raises an error; the field's declaration is not used as its value."""
    state = gx.scale_by_adam().init(PARAMS)
    with pytest.raises(TypeError, match="mu"):
        type(state)(count=state.count)


class Kinds(NamedTuple):
    count: jax.Array = rules.counter()
    like: jax.Array = rules.per_param(start=rules.PARAM)
    narrow: jax.Array = rules.per_param(dtype="kept_in", start="level")
    rows: jax.Array = rules.reduced(over=(-1,), start="first_row")
    norm: jax.Array = rules.reduced(signed=False)
    axes: Any = rules.reduced(over="each_axis", keepdims=True)
    memory: jax.Array = rules.stack(length="steps")
    whole: jax.Array = rules.factor(start=2.0)
    absent: Any = rules.per_param(when="kept")
    total: jax.Array = rules.per_tree(start="level")


class scale_by_kinds(rules.Layerwise, state=Kinds):
    """Leaves the updates unchanged, and has a slot of each kind."""

    level: rules.Hyper = rules.hyper(default=0.5)
    steps: int = rules.integer(default=3)
    kept_in: Any = rules.dtype(default="bfloat16")
    kept: bool = rules.flag(default=False)

    def first_row(self, p):
        return self.level * p.ndim

    def each_axis(self, shape):
        return [tuple(j for j in range(len(shape)) if j != i) for i in range(len(shape))]

    def update_leaf(self, g, slots, p, shared):
        return g, slots._replace(norm=gx.tree.norm(g))


def test_init_follows_from_the_declaration():
    state = scale_by_kinds(gx.linear_schedule(0.25, 1.0, 10)).init(PARAMS)
    close(state.like, PARAMS)
    assert state.narrow["bias"].dtype == jnp.bfloat16
    assert float(state.narrow["bias"][0]) == 0.25  # a schedule, at the first step
    np.testing.assert_array_equal(state.rows["kernel"], np.full(6, 0.5))
    assert state.rows["bias"].shape == state.norm["kernel"].shape == ()
    assert [x.shape for x in state.axes["kernel"]] == [(6, 1), (1, 4)]
    assert state.memory["kernel"].shape == (3, 6, 4)
    np.testing.assert_array_equal(state.whole["bias"], 2 * np.eye(4))
    assert state.absent == ()
    assert state.total.dtype == PARAMS["bias"].dtype


def test_a_field_that_belongs_to_another_parameter_is_named():
    tx = scale_by_kinds()
    state = tx.init(PARAMS)
    other = {"kernel": jnp.ones((6, 5)), "bias": jnp.zeros(4)}
    for field in ("like", "memory", "whole", "axes", "rows"):
        wrong = tx.init(other)._replace(**{x: getattr(state, x) for x in state._fields if x != field})
        if field == "rows":
            wrong = wrong._replace(rows={"kernel": jnp.ones(7), "bias": wrong.rows["bias"]})
        with pytest.raises(ValueError, match=rf"the field {field} in .* has .* at \['kernel'\], where .* belongs"):
            tx.update(PARAMS, wrong)


class tuples(rules.Elementwise, state=Kinds):
    """A broken rule that returns a tuple in place of its slots."""

    level: rules.Hyper = rules.hyper(default=0.5)
    steps: int = rules.integer(default=3)
    kept_in: Any = rules.dtype(default=None)
    kept: bool = rules.flag(default=False)

    def first_row(self, p):
        return 0.0

    def each_axis(self, shape):
        return []

    def update_leaf(self, g, slots, p, shared):
        return g, tuple(slots)


def test_slots_are_returned_by_name():
    with pytest.raises(TypeError, match=r"tuples.update_leaf returned a tuple of 8 for its slots: return `slots` as"):
        tuples().update(PARAMS, tuples().init(PARAMS))


class Momentum(NamedTuple):
    count: jax.Array = rules.counter()
    mu: jax.Array = rules.per_param()
    total: jax.Array = rules.per_tree()


def returning(update_leaf=None, at_step=None):
    """Makes a rule whose hooks return the given objects."""
    hooks = {"update_leaf": lambda self, g, slots, p, shared: update_leaf(g, slots) if update_leaf else (g, slots)}
    if at_step:
        hooks["at_step"] = lambda self, t, numbers: at_step(numbers)
    return type("wrong", (rules.Elementwise,), hooks, state=Momentum)()


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"update_leaf": lambda g, slots: g}, "wrong.update_leaf returned .*: return a pair, the update and the next"),
        (
            {"update_leaf": lambda g, slots: (g, slots._replace(mu=jnp.mean(g)))},
            "slots.mu with the shape \\(\\); it has",
        ),
        ({"update_leaf": lambda g, slots: (g, slots._replace(mu=None))}, "wrong.update_leaf returned slots.mu"),
        (
            {"at_step": lambda numbers: 1.0},
            "wrong.at_step returned .*: return a pair, what leaves share and the next numbers",
        ),
        ({"at_step": lambda numbers: (1.0, 2.0)}, "wrong.at_step returned 2.0 for its numbers: return `numbers`"),
        (
            {"at_step": lambda numbers: (1, numbers._replace(total=jnp.ones(3)))},
            "numbers.total with the shape \\(3,\\)",
        ),
    ],
)
def test_what_a_hook_returns_is_checked(hooks, message):
    with pytest.raises(TypeError, match=message):
        returning(**hooks).update(PARAMS, returning().init(PARAMS))


def declared(**slots):
    """Makes a rule with a state of these slots."""
    fields = {"count": rules.counter(), **slots}
    state = collections.namedtuple("Wrong", list(fields), defaults=list(fields.values()))
    return type("wrong", (rules.Layerwise,), {}, state=state)


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        (lambda: rules.per_param(start="nope"), "Wrong.mu: start names 'nope', but wrong has no hyperparameter"),
        (lambda: rules.per_param(dtype="mu_dtyp"), "Wrong.mu: dtype names 'mu_dtyp'"),
        (lambda: rules.per_param(when="kept"), "Wrong.mu: when names 'kept'"),
        (lambda: rules.reduced(over="axes"), "Wrong.mu: over names 'axes'"),
        (lambda: rules.stack(length="memory"), "Wrong.mu: length names 'memory'"),
        (lambda: rules.per_param(start=None), "per_param: start must be a number, or the name"),
        (lambda: rules.per_tree(start=np.zeros(3)), "per_tree: start must be a number, or the name"),
        (lambda: rules.reduced(start=rules.PARAM), "reduced: start must be a number"),
        (lambda: rules.reduced(over=0), r"reduced: over must be a tuple of axes.*write \(0,\)"),
        (lambda: rules.factor(side="row"), "factor: side must be one of 'all', 'rows'"),
        (lambda: rules.factor(side="rows"), "needs `on_stack` and a field that says how leaves are matrices"),
    ],
)
def test_wrong_declarations_are_refused_when_the_class_is_made(slot, message):
    with pytest.raises((TypeError, ValueError), match=message):
        declared(mu=slot())


def test_wrong_declarations_that_only_parameters_show():
    with pytest.raises(ValueError, match=r"reduced: a parameter of shape \(4,\) has no axis 1"):
        declared(mu=rules.reduced(over=(1,)))().init(PARAMS)
    with pytest.raises(ValueError, match="stack: length must be an integer of at least 1"):
        declared(mu=rules.stack(length=0))().init(PARAMS)
    with pytest.raises(TypeError, match=r"wrong: at \['a'\] params is complex, and state.mu is kept in bfloat16"):
        declared(mu=rules.per_param(dtype="bfloat16"))().init({"a": jnp.ones(2, complex)})


def test_wrong_classes_are_refused():
    with pytest.raises(TypeError, match="`measure` looks at the whole tree: make it a Treewide rule"):
        type("wrong", (rules.Elementwise,), {"measure": lambda self: None})
    with pytest.raises(TypeError, match=r"wrong: needs must be a tuple of names, as in needs=\('params',\)"):
        type("wrong", (rules.Elementwise,), {}, needs="params")
    with pytest.raises(TypeError, match="wrong: there is no class argument 'need'; there are state, needs"):
        type("wrong", (rules.Elementwise,), {}, need=("params",))
    with pytest.raises(TypeError, match="wrong: by_leaf names 'grad'; name it in needs or takes, too"):
        type("wrong", (rules.Elementwise,), {}, by_leaf=("grad",))
    with pytest.raises(TypeError, match="wrong: every names 'interval', but it has no field of that name"):
        type("wrong", (rules.Layerwise,), {}, every="interval")
    with pytest.raises(TypeError, match="wrong: CountState has no place for the state of `inner`"):
        type("wrong", (rules.Wrapper,), {}, state=rules.CountState)
    with pytest.raises(TypeError, match="wrong must define update_leaf"):
        type("wrong", (rules.Elementwise,), {})().update(PARAMS, rules.CountState(jnp.zeros((), jnp.int32)))


def test_what_a_wrapper_returns_is_checked():
    def around(result):
        return type("wrong", (rules.Wrapper,), {"step": lambda self, *args: result})(gx.identity())

    with pytest.raises(TypeError, match=r"wrong\.step returned 3: return the updates and the next state"):
        around(3).update(PARAMS, gx.EmptyState())


# --- descriptions


def test_a_description_lists_every_array():
    found = gx.describe(scale_by_kinds(), SHAPES)
    rows = {(row.field, row.path, row.shape): row for row in found.rows}
    assert rows["like", "kernel", (6, 4)].axes == (0, 1)
    assert rows["rows", "kernel", (6,)].axes == (0,)
    assert rows["axes", "kernel", (1, 4)].axes == (None, 1)
    assert rows["memory", "kernel", (3, 6, 4)].axes == (None, 0, 1)
    assert rows["whole", "bias", (4, 4)].kind == "factor"
    assert rows["total", "", ()].kind == "per tree"
    assert {row.link for row in found.rows} == {"scale_by_kinds"}
    assert found.nbytes == sum(row.nbytes for row in found.rows)


def test_a_description_names_the_links():
    tx = gx.partition({"a": gx.adamw(0.1), "b": gx.sgd(0.1)}, {"kernel": "a", "bias": "b"})
    tx = gx.named_chain(("clip", gx.clip(1.0)), ("rest", gx.apply_if_finite(gx.chain(tx, gx.trace(0.9)))))
    links = {row.link for row in gx.describe(tx, SHAPES).rows}
    assert "clip.clip" in links
    assert "rest.apply_if_finite" in links
    assert "rest.apply_if_finite.partition.a.scale_by_adam" in links
    assert "rest.apply_if_finite.trace" in links
    paths = {
        row.path for row in gx.describe(tx, SHAPES).rows if row.link.endswith("scale_by_adam") and row.field == "mu"
    }
    assert paths == {"kernel"}


def test_a_description_prints_a_line_for_each_field():
    printed = str(gx.describe(gx.with_metrics(gx.adam(0.1)), SHAPES)).partition("\n\n")[2].splitlines()
    assert printed[0].split() == ["state", "of", "field", "kind", "arrays", "dtype", "bytes"]
    (values,) = [line for line in printed if " values " in line]
    assert values.split()[-2:] != ["float32", "0"]
    assert "bool" in values
    assert len(printed) == 1 + 2 + 3 + 1 + 1
    assert printed[-1].split()[0] == "total"


def test_what_has_no_shape_cannot_be_described():
    with pytest.raises(TypeError, match=r"describe: at \['a'\] params has 'x', which has no shape and dtype"):
        gx.describe(gx.adam(0.1), {"a": "x"})
    with pytest.raises(TypeError, match=r"describe: expected gradient transformations"):
        gx.describe(gx.adam, SHAPES)
    with pytest.raises(TypeError, match=r"map_state: f must be a function"):
        gx.map_state(3, gx.adam(0.1), (), SHAPES)


def test_another_librarys_state_is_listed_too():
    found = gx.describe(gx.chain(optax.adam(0.1)), SHAPES)
    assert found.nbytes == gx.tree.nbytes(jax.eval_shape(optax.adam(0.1).init, SHAPES))
    assert {row.kind for row in found.rows} == {"foreign"}


def test_factors_of_matrices_follow_their_axis():
    tx = scale_by_whitening()
    shapes = {"w": jax.ShapeDtypeStruct((5, 3, 4), "float32")}
    (row,) = [row for row in gx.describe(tx, shapes).rows if row.field == "left"]
    assert (row.shape, row.axes) == ((1, 15, 15), (None, None, None))  # rows of two axes follow neither
    (row,) = [
        row for row in gx.describe(tx, {"w": jax.ShapeDtypeStruct((5, 3), "float32")}).rows if row.field == "left"
    ]
    assert (row.shape, row.axes) == ((1, 5, 5), (None, 0, None))


def test_a_fresh_slot_lies_where_its_parameter_lies():
    mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = jax.sharding.PartitionSpec("rows", "columns")
    params = {"w": jax.device_put(jnp.ones((8, 6)), jax.sharding.NamedSharding(mesh, spec))}
    for tx in (
        gx.scale_by_adam(),
        gx.scale_by_lbfgs(3),
        gx.scale_by_factored_rms(min_dim_size_to_factor=2),
        gx.scale_by_sm3(),
    ):
        state, places = tx.init(params), []
        gx.map_state(lambda place, x, places=places: places.append((place, x)) or x, tx, state, params)
        for place, x in places:
            if place.path:
                expected = [None if axis is None else spec[axis] for axis in place.axes]
                assert list(x.sharding.spec) + [None] * (x.ndim - len(x.sharding.spec)) == expected, place


# --- stacks


class WhiteningState(NamedTuple):
    count: jax.Array = rules.counter()
    left: jax.Array = rules.factor(side="rows", start=1e-3)
    root: jax.Array = rules.factor(side="rows", start=1.0)


class scale_by_whitening(rules.Layerwise, state=WhiteningState, every="interval"):
    """(sum g g^T)^(-1/2) g, with the root taken anew every `interval` steps: one-sided Shampoo."""

    interval: int = rules.integer(default=1, ge=1)
    weight_dimension_numbers: Any = rules.matrix_axes()

    def to_stack(self, g, slots, p, shared):
        return 2 * g, slots

    def renew_stack(self, x, slots, shared):
        w, v = jnp.linalg.eigh(slots.left + x @ jnp.swapaxes(x, -1, -2))
        return slots._replace(root=(v / jnp.sqrt(w)[:, None, :]) @ jnp.swapaxes(v, -1, -2))

    def on_stack(self, x, slots, shared):
        return slots.root @ x, slots._replace(left=slots.left + x @ jnp.swapaxes(x, -1, -2))

    def update_leaf(self, g, slots, p, shared, *, before):
        return g + 0 * before, slots


@pytest.mark.parametrize("interval", [1, 2])
def test_a_rule_on_stacks_equals_a_loop_over_matrices(interval):
    tx = gx.chain(gx.scale(0.5), scale_by_whitening(interval), gx.scale(-1.0))
    rng = np.random.default_rng(0)
    params = {"a": jnp.zeros((3, 4)), "b": jnp.zeros((3, 4)), "c": jnp.zeros((2, 5)), "v": jnp.zeros(3)}
    state, update = tx.init(params), jax.jit(tx.update)
    left = {name: 1e-3 * np.eye(x.shape[0] if x.ndim == 2 else 1) for name, x in params.items()}
    root = {name: np.eye(len(x)) for name, x in left.items()}
    for t in range(4):
        grads = {name: jnp.asarray(rng.normal(size=x.shape)) for name, x in params.items()}
        updates, state = update(grads, state)
        for name, g in grads.items():
            g = np.asarray(g, np.float64).reshape(len(left[name]), -1)
            new = left[name] + g @ g.T
            if t % interval == 0:
                w, v = np.linalg.eigh(new)
                root[name] = v / np.sqrt(w) @ v.T
            left[name] = new
            np.testing.assert_allclose(-updates[name].reshape(g.shape), root[name] @ g, rtol=1e-4, atol=1e-5)


def test_matrices_of_one_shape_are_one_stack():
    """All matrices of a shape are multiplied in a single batched product, however many leaves the tree has."""
    tx, params = gx.scale_by_muon(), {str(i): jnp.ones((4, 4)) for i in range(6)}
    text = jax.jit(tx.update).lower(params, tx.init(params)).as_text()
    products = text.count("dot_general")
    one = {"0": jnp.ones((4, 4))}
    assert products == jax.jit(tx.update).lower(one, tx.init(one)).as_text().count("dot_general")


def test_a_rule_on_stacks_says_how_leaves_are_matrices():
    with pytest.raises(TypeError, match=r"needs `on_stack` and a field that says how leaves are matrices"):

        class unseen(rules.Layerwise):
            def on_stack(self, x, slots, shared):
                return x, slots


# --- passes


def test_recurrences_of_numbers_cost_no_pass():
    """A chain of rules that never look at the whole tree runs each leaf through one function."""
    links = [gx.scale_by_nadam(), gx.scale_by_asgd(), gx.scale_by_depth({"kernel": 1, "bias": 0}, 0.5)]
    tx = gx.polyak_average(gx.ema_params(gx.chain(*links, gx.add_noise(0.1, 0.5))))
    state = tx.init(PARAMS)
    jaxpr = jax.make_jaxpr(tx.update)(PARAMS, state, PARAMS)
    calls = [str(eqn.params["name"]) for eqn in jaxpr.eqns if eqn.primitive.name in ("pjit", "jit")]
    ours = {"_begin", "_measure", "_step", "_stack"}  # `_begin` is traced instead
    assert [name for name in calls if name in ours] == ["_step", "_step"]


# --- traps


class masked_out(rules.Elementwise):
    """A rule with a field called `mask` that is an ordinary flag."""

    mask: bool = rules.flag(default=True)

    def update_leaf(self, g, slots, p, shared):
        return (g if self.mask else 2 * g), slots


def test_a_field_that_happens_to_be_called_mask_is_a_field():
    assert float(masked_out(False).update(jnp.ones(()), masked_out().init(jnp.ones(())))[0]) == 2.0


class looping(rules.Elementwise, loops=True):
    """A rule with a loop."""

    def update_leaf(self, g, slots, p, shared):
        return jax.lax.fori_loop(0, 50, lambda i, x: x * 0.5 + g, g), slots


def test_a_loop_stays_a_loop():
    tx = looping()
    text = jax.jit(tx.update).lower(jnp.ones(3), tx.init(jnp.ones(3))).as_text()
    assert "stablehlo.while" in text


def test_a_number_that_changes_at_every_eager_step_is_compiled_twice():
    tx, params = gx.adamw(1e-3, b1=0.87), {"w": jnp.ones(7)}
    state = tx.init(params)
    seen = []

    def count(name, *args, **kwargs):
        if "compile" in name:
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        per_step = []
        for i in range(6):
            before = len(seen)
            _, state = tx.replace(learning_rate=1e-3 * (i + 1)).update(params, state, params)
            per_step.append(len(seen) - before)
    finally:
        jax.monitoring.clear_event_listeners()
    assert per_step[0] > 0  # or it would not be counted
    assert per_step[3:] == [0, 0, 0]


# --- sets


def injected(tx):
    """A transformation that is rebuilt from hyperparameters in its state, with a constraint set inside."""
    return gx.inject_hyperparams(lambda rate: gx.masked(gx.chain(gx.sgd(rate), tx), gx.select.path("x")))(0.1)


@pytest.mark.parametrize(
    ("around", "name"),
    [
        (lambda tx: gx.masked(gx.flatten(tx), gx.select.path("x")), "masked"),
        (lambda tx: gx.partition({"a": tx, "b": gx.sgd(0.1)}, {"x": "a", "y": "b"}), "partition"),
        (injected, "injected"),
        (lambda tx: gx.apply_if_finite(gx.named_chain(("a", gx.masked(tx, gx.select.path("x"))))), "wrapped"),
    ],
)
def test_minimize_begins_in_the_set_whatever_is_around_it(around, name):
    """The initial point is projected onto the set, and the best point so far is in the set."""
    tx = around(gx.chain(gx.sgd(0.1), gx.project(gx.projection_simplex)))
    x0 = {"x": jnp.array([5.0, 5.0]), "y": jnp.array([1.0])}
    assert float(jnp.sum(tx.nearest(x0)["x"])) == pytest.approx(1.0)
    result = gx.minimize(lambda p: jnp.sum((p["x"] - 4.0) ** 2) + jnp.sum(p["y"] ** 2), x0, tx, maxiter=20)
    assert float(jnp.sum(result.params["x"])) == pytest.approx(1.0, abs=1e-5), name


# --- storage


def test_a_stored_state_computes_in_float32():
    tx, params = gx.adam(0.1), draw(0, "float32")
    kept = gx.stored(tx, {"mu": "bfloat16"}, min_size=1)
    state, plain = kept.init(params), tx.init(params)
    assert state[0].mu["w"].parts.dtype == jnp.bfloat16
    assert state[0].nu["w"].dtype == jnp.float32
    for i in range(3):
        updates, state = kept.update(draw(i, "float32"), state, params)
        expected, plain = tx.update(draw(i, "float32"), plain, params)
    close(updates, expected, rtol=2e-2, atol=2e-3)
    assert state[0].mu["w"].parts.dtype == jnp.bfloat16


def test_a_format_for_no_field_is_refused():
    with pytest.raises(ValueError, match=r"stored: formats names 'momentum', but no state inside has a field"):
        gx.stored(gx.adam(0.1), {"momentum": "bfloat16"}).init(PARAMS)
    with pytest.raises(TypeError, match=r"stored: formats must be a format: one of 'bfloat16'"):
        gx.stored(gx.adam(0.1), 3)


# --- other frameworks' trees and maps


def test_map_state_reaches_every_array():
    tx = gx.apply_if_finite(
        gx.partition({"a": gx.adam(0.1), "b": gx.sgd(0.1, momentum=0.9)}, {"kernel": "a", "bias": "b"})
    )
    state, seen = tx.init(PARAMS), []
    same = gx.map_state(lambda place, x: seen.append(place) or x, tx, state, PARAMS)
    assert jax.tree.structure(same) == jax.tree.structure(state)
    assert len(seen) == len(jax.tree.leaves(state))


# --- states of shapes


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_init_of_shapes_makes_arrays_that_update_takes(dtype):
    """optax's `init` accepts shapes as well for most methods; here for every method (law 7 checks all of them)."""
    params = {"w": jnp.ones((4, 3), dtype), "b": jnp.zeros(3, dtype)}
    shapes = jax.eval_shape(lambda: params)
    for tx in (gx.adam(0.1), gx.muon(0.1), gx.accumulate(gx.adafactor(), 2), gx.flatten(gx.adam(0.1)), gx.lbfgs()):
        made, expected = tx.init(shapes), tx.init(params)
        assert jax.tree.structure(made) == jax.tree.structure(expected)
        for x, y in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
            assert (x.shape, x.dtype, x.weak_type) == (y.shape, y.dtype, y.weak_type)
        if tx != gx.lbfgs():
            _, state = tx.update(params, made, params)
            assert jax.tree.structure(state) == jax.tree.structure(made)
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(gx.adam(0.1).init(shapes)) if x.size]
    assert len(buffers) == len(set(buffers))


def test_a_copy_of_shapes_is_a_shape():
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    state = gx.ema_params(gx.adam(0.1), 0.9).init({"w": shape, "v": jnp.ones(2)})
    assert state[1].average["w"] == shape
    np.testing.assert_array_equal(state[1].average["v"], [1.0, 1.0])
    np.testing.assert_array_equal(state[0][0].mu["w"], [0.0, 0.0, 0.0])


def test_shapes_of_what_cannot_be_optimized_are_refused():
    bad = {"w": jax.ShapeDtypeStruct((3,), jnp.int32)}
    with pytest.raises(TypeError, match=r"at \['w'\] params has dtype int32"):
        gx.adam(0.1).init(bad)
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    with pytest.raises(TypeError, match="a shape without values"):
        gx.adam(0.1).update(shape, gx.adam(0.1).init(shape))


class MatrixState(NamedTuple):
    """A state with a slot of every kind for matrices."""

    count: jax.Array = rules.counter()
    entries: jax.Array = rules.per_matrix()
    columns: jax.Array = rules.per_matrix(of="columns", start=2.0, where="is_wide")
    number: jax.Array = rules.per_matrix(of="whole", dtype="int32")
    diagonal: jax.Array = rules.factor(side="rows", start=3.0, diagonal="is_wide")


class of_matrices(rules.Layerwise, state=MatrixState, every="interval", renews="after"):
    """A rule that updates its matrices at the end of every second step."""

    interval: int = 2
    weight_dimension_numbers: Any = rules.matrix_axes()

    def is_wide(self, view):
        return view.fan_in < view.fan_out

    def matrix_view(self, view):
        return view.blocked(None, 4)

    def on_stack(self, x, slots, shared):
        return x + slots.entries, slots._replace(number=slots.number + 1)

    def renew_stack(self, x, slots, shared):
        return slots._replace(entries=x * slots.number[:, None, None])

    def update_leaf(self, g, slots, p, shared, *, before):
        return g, slots


def test_slots_of_matrices_are_made_for_the_blocks_that_a_rule_sees():
    tx, params = of_matrices(), {"tall": jnp.ones((3, 2)), "wide": jnp.ones((2, 7))}
    state = tx.init(params)
    assert state.entries["wide"].shape == (2, 2, 4)
    assert state.columns["tall"] is None
    np.testing.assert_array_equal(state.columns["wide"], np.full((2, 4), 2.0))
    np.testing.assert_array_equal(state.diagonal["wide"], np.full((2, 2), 3.0))
    np.testing.assert_array_equal(state.diagonal["tall"], 3 * np.eye(3)[None])
    seen = []
    for _ in range(4):  # updated after the first and the third step
        updates, state = tx.update(params, state)
        seen.append(float(updates["wide"][1, 6]))
    assert seen == [1, 2, 2, 4]
    assert gx.describe(tx, params).nbytes == gx.tree.nbytes(state)


def test_slots_of_matrices_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="of must be one of 'entries', 'rows', 'columns', 'whole'"):
        rules.per_matrix(of="axes")
    with pytest.raises(ValueError, match="renews must be one of 'before', 'after'"):
        type("late", (rules.Layerwise,), {}, renews="later")
