"""The drop-in computes the same as optax, and behaves like optax beyond names."""

import enum
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
import gradtx.compat.optax as drop_in
from tests.cases import close

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.array([0.3, -0.2, 0.5])}


def loss(p):
    return jnp.sum(jnp.cosh(p["w"])) + jnp.sum((p["b"] - 1) ** 2 * jnp.array([1.0, 5.0, 0.2]))


def rate(count):
    return 0.05 / (1 + count)


def trained(lib, expression, steps=8):
    """Returns the parameters after some steps of an optimizer."""
    tx = eval(expression, {"optax": lib, "rate": rate, "jax": jax, "jnp": jnp})
    reads_value = any(name in expression for name in ("polyak", "momo", "plateau"))
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, **({"value": value} if reads_value else {}))
        params = lib.apply_updates(params, updates)
    return params


SCHEDULED = (
    "adabelief adadelta adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb lars lion nadam nadamw novograd "
    "optimistic_adam_v2 optimistic_gradient_descent radam rmsprop sgd sign_sgd signum yogi"
)
OTHERS = (
    "polyak_sgd rprop sm3 contrib.acprop contrib.ademamix contrib.adopt contrib.cocob contrib.dadapt_adamw contrib.dog "
    "contrib.dowg contrib.momo contrib.momo_adam contrib.muon contrib.prodigy contrib.simplified_ademamix"
)
MORE = [
    "adadelta()",
    "MultiSteps(optax.adam(0.1), 2, accumulator_dtype='float64')",
    "apply_if_finite(optax.adam(0.1), 3)",
    "chain(optax.clip(0.1), optax.adamw(rate))",
    "chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1))",
    "contrib.mechanize(optax.sgd(0.1))",
    "contrib.sam(optax.sgd(0.1), optax.chain(optax.contrib.normalize(), optax.sgd(0.05)))",
    "contrib.schedule_free(optax.sgd(rate), rate)",
    "contrib.sophia(0.1, hessian_diagonal_fn=optax.stateless(lambda u, p: jax.tree.map(jnp.square, u)))",
    "inject_hyperparams(optax.adamw)(rate)",
    "lbfgs(0.05, linesearch=None)",
    "masked(optax.adam(0.1), {'w': True, 'b': False})",
    "partition({'a': optax.adam(0.1), 'b': optax.sgd(rate)}, {'w': 'a', 'b': 'b'})",
    "sgd(0.1, momentum=0.9, nesterov=True)",
]
EXPRESSIONS = [
    *(f"{name}({rate})" for name in SCHEDULED.split() for rate in ("0.05", "rate")),
    *(f"{name}(0.05)" for name in OTHERS.split()),
    *MORE,
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_parity(expression):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = trained(optax, f"optax.{expression}")
    close(trained(drop_in, f"optax.{expression}"), theirs, rtol=1e-9)


@pytest.mark.parametrize("expression", ["adafactor(0.05)", "adafactor()", "contrib.madgrad(0.05)"])
def test_parity_where_optax_computes_in_float32(expression):
    close(trained(drop_in, f"optax.{expression}"), trained(optax, f"optax.{expression}"), rtol=1e-5)


def test_what_nobody_reads_is_ignored():
    tx = drop_in.chain(drop_in.clip(1.0), drop_in.masked(drop_in.adam(0.1), {"w": True, "b": False}))
    one, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, epoch=3, lengths=object())
    close(one, tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0])
    with pytest.raises(TypeError, match="epoch"):
        tx.inner.update(PARAMS, tx.init(PARAMS), PARAMS, epoch=3)


def test_transformations_of_functions():
    doubled = drop_in.GradientTransformation(lambda p: drop_in.EmptyState(), lambda u, s, p=None: (2 * u, s))
    assert isinstance(doubled, drop_in.GradientTransformation)
    assert not isinstance(doubled, drop_in.GradientTransformationExtraArgs)
    with pytest.raises(TypeError, match="epoch"):
        doubled.update(1.0, (), epoch=3)
    assert drop_in.with_extra_args_support(doubled).update(1.0, (), epoch=3)[0] == 2.0
    init, update = doubled
    assert (doubled[0], doubled[1]) == (init, update)
    assert doubled._replace(update=lambda u, s, p=None: (3 * u, s)).update(1.0, init(1.0))[0] == 3.0
    tx = drop_in.chain(doubled, drop_in.sgd(1.0))
    assert tx.update(jnp.ones(()), tx.init(jnp.ones(())), epoch=3)[0] == -2.0


@pytest.mark.parametrize("empty", [None, (), {}, drop_in.EmptyState()], ids=repr)
@pytest.mark.parametrize(
    "tx",
    [
        drop_in.clip(1.0),
        drop_in.clip_by_global_norm(1.0),
        drop_in.identity(),
        drop_in.scale(2.0),
        drop_in.set_to_zero(),
        drop_in.centralize(),
        drop_in.stateless(lambda u, p: u),
    ],
    ids=lambda tx: type(tx.inner).__name__,
)
def test_without_memory_any_empty_state_will_do(tx, empty):
    updates, state = tx.update(PARAMS, empty)
    assert state is empty
    close(updates, tx.update(PARAMS, tx.init(PARAMS))[0])
    updates, states = drop_in.chain(tx, drop_in.trace(0.9)).update(PARAMS, (empty, drop_in.trace(0.9).init(PARAMS)))
    assert states[0] is empty
    assert int(states[1].count) == 1


def test_with_memory_an_empty_state_is_refused():
    for tx in (drop_in.adam(0.1), drop_in.scale_by_schedule(rate), drop_in.scale(rate)):
        with pytest.raises(TypeError, match="must be a"):
            tx.update(PARAMS, None)


def test_states_are_where_optax_has_them():
    def named(state):
        return {name for name in ("mu", "trace", "z", "estim_lr", "inner_opt_state") if hasattr(state, name)}

    for expression in (
        "adamw(0.1)",
        "sgd(0.1, momentum=0.9)",
        "contrib.prodigy()",
        "contrib.schedule_free_sgd(0.1)",
        "MultiSteps(optax.adam(0.1), 2)",
        "contrib.mechanize(optax.adam(0.1))",
    ):
        states = [eval(f"optax.{expression}", {"optax": lib}).init(PARAMS) for lib in (optax, drop_in)]
        theirs, ours = ([s, *s] if isinstance(s, tuple) else [s] for s in states)
        assert [named(s) for s in ours][: len(theirs)] == [named(s) for s in theirs][: len(ours)], expression


def test_fields_by_position():
    search = drop_in.scale_by_zoom_linesearch(20)
    assert float(search.init(PARAMS)[0]) == 1.0  # its learning rate
    close(drop_in.sgd(0.1, momentum=0.9).init(PARAMS)[0][0], jax.tree.map(jnp.zeros_like, PARAMS))
    assert int(drop_in.tree.get(drop_in.chain(drop_in.clip(1.0), drop_in.adam(0.1)).init(PARAMS), "count")) == 0


def test_states_made_by_hand():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    made = drop_in.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros, nu=zeros)
    rule = drop_in.scale_by_adam()
    close(rule.update(PARAMS, made)[0], rule.update(PARAMS, rule.init(PARAMS))[0])
    trace = drop_in.trace(0.9)
    _, state = trace.update(PARAMS, drop_in.TraceState(trace=zeros))
    assert int(state.count) == 1
    with pytest.raises(TypeError):
        drop_in.ScaleByAdamState(count=0, mu=zeros)


def test_masks_and_labels():
    class Kind(enum.Enum):
        MATRIX = 1
        VECTOR = "v"

    tx = drop_in.partition(
        {Kind.MATRIX: drop_in.adam(0.1), Kind.VECTOR: drop_in.sgd(0.1)}, {"w": Kind.MATRIX, "b": Kind.VECTOR}
    )
    state = jax.jit(tx.init)(PARAMS)
    mu = drop_in.tree.get(state, "mu")
    assert mu["b"] == drop_in.MaskedNode()
    assert mu["w"].shape == (4, 3)
    whole = {"w": True, "b": False}  # of the whole tree, inside of a group
    tx = drop_in.masked(drop_in.add_decayed_weights(1.0, mask={"w": True, "b": True}), whole)
    updates, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    close(updates, {"w": 2 * PARAMS["w"], "b": PARAMS["b"]})
    assert isinstance(state, drop_in.MaskedState)
    assert drop_in.masked(drop_in.trace(0.9), whole).init(PARAMS).inner_state.trace["b"] == drop_in.MaskedNode()


def test_lookahead_is_on_pairs():
    pair = drop_in.LookaheadParams.init_synced(PARAMS)
    theirs = optax.LookaheadParams.init_synced(PARAMS)
    for reset in (False, True):
        ours = drop_in.lookahead(drop_in.sgd(0.1, momentum=0.9), 2, 0.5, reset)
        other = optax.lookahead(optax.sgd(0.1, momentum=0.9), 2, 0.5, reset)
        a, b, s, t = pair, theirs, ours.init(pair), other.init(theirs)
        for _ in range(5):
            updates, s = ours.update(jax.grad(loss)(a.fast), s, a)
            a = drop_in.apply_updates(a, updates)
            updates, t = other.update(jax.grad(loss)(b.fast), t, b)
            b = optax.apply_updates(b, updates)
        close(tuple(a), tuple(b), rtol=1e-12)
    with pytest.raises(TypeError, match="LookaheadParams"):
        ours.update(PARAMS, ours.init(PARAMS), PARAMS)


def test_multi_steps():
    tx = drop_in.MultiSteps(drop_in.sgd(1.0), 2, should_skip_update_fn=drop_in.skip_not_finite)
    assert isinstance(tx, drop_in.MultiSteps)
    assert tx.gradient_transformation() is tx
    state, x = tx.init(jnp.zeros(2)), jnp.ones(2)
    for done in (False, True):
        updates, state = tx.update(x, state)
        assert bool(tx.has_updated(state)) is done
    close(updates, -x)
    skip = functools.partial(drop_in.skip_large_updates, max_squared_norm=1.0)
    assert bool(skip({"w": x}, 0, None)[0])
    assert bool(drop_in.skip_large_updates({"w": x}, 0, None, 1.0)[0])


@pytest.mark.heavy
def test_a_line_search_hands_data_to_the_function():
    tx = drop_in.chain(drop_in.sgd(1.0), drop_in.scale_by_backtracking_linesearch(20))

    def squared(p, x, y):
        return jnp.sum((x @ p["w"] - y) ** 2)

    x, y = jnp.ones((2, 4)), jnp.zeros((2, 3))
    value, grad = jax.value_and_grad(squared)(PARAMS, x, y)
    updates, _ = tx.update(grad, tx.init(PARAMS), PARAMS, value=value, grad=grad, value_fn=squared, x=x, y=y)
    assert squared(drop_in.apply_updates(PARAMS, updates), x, y) < value
    given = {"value": value, "grad": grad, "value_fn": squared, "x": x, "y": y}
    with pytest.raises(TypeError, match="epoch"):
        tx.update(grad, tx.init(PARAMS), PARAMS, **given, epoch=1)


def test_none_stays_none():
    params, updates = {"w": jnp.ones(2), "f": None}, {"w": jnp.ones(2), "f": jnp.ones(2)}
    assert drop_in.apply_updates(params, updates)["f"] is None
    close(drop_in.apply_updates(params, updates)["w"], 2 * jnp.ones(2))
    assert drop_in.incremental_update(params, updates, 0.5)["f"] is None


def test_an_update_function_without_params():
    tx = gx.GradientTransformation(lambda params: (), lambda updates, state, *, scale=1.0: (scale * updates, state))
    assert tx.update(2.0, (), scale=3.0)[0] == 6.0
    assert drop_in.with_extra_args_support(tx).update(2.0, (), epoch=1)[0] == 2.0


def test_rprop_is_late_unless_told_otherwise():
    expected, state = [], optax.rprop(0.1).init(PARAMS)
    for g in (PARAMS, PARAMS, jax.tree.map(jnp.negative, PARAMS)):
        updates, state = optax.rprop(0.1).update(g, state)
        expected.append(updates)
    state = drop_in.rprop(0.1).init(PARAMS)
    for g, like in zip((PARAMS, PARAMS, jax.tree.map(jnp.negative, PARAMS)), expected, strict=True):
        updates, state = drop_in.rprop(0.1).update(g, state)
        close(updates, like)
    prompt = drop_in.rprop(0.1, late=False)
    assert float(jnp.abs(prompt.update(PARAMS, prompt.init(PARAMS))[0]["w"]).sum()) > 0


def test_hyperparameters_and_replacement_see_through():
    tx = drop_in.chain(drop_in.clip(1.0), drop_in.sgd(0.1))
    assert gx.hyperparameters(tx) == gx.hyperparameters(gx.chain(gx.clip(1.0), gx.sgd(0.1)))
    changed = tx.replace(learning_rate=0.5)
    assert gx.hyperparameters(changed)["scale_by_learning_rate.learning_rate"] == 0.5
    assert isinstance(changed, drop_in.GradientTransformationExtraArgs)
    assert eval(repr(tx), {**vars(gx), **vars(drop_in)}) == tx
    several = drop_in.MultiSteps(drop_in.sgd(0.1), 2)
    assert gx.hyperparameters(several) == gx.hyperparameters(gx.accumulate(gx.sgd(0.1), 2))
    assert isinstance(several.replace(learning_rate=0.5), drop_in.MultiSteps)
    free = drop_in.contrib.schedule_free(drop_in.sgd(rate), rate)
    shown = gx.hyperparameters(free, free.init(PARAMS))
    assert float(shown["scale_by_learning_rate.learning_rate"]) == 0.05
    traces = []

    @jax.jit
    def step(tx, state):
        traces.append(1)
        return tx.update(PARAMS, state)[0]

    for lr in (0.1, 0.2, 0.3):
        updates = step(tx.replace(learning_rate=lr), tx.init(PARAMS))
    assert len(traces) == 1
    close(updates["b"], -0.3 * PARAMS["b"])


def test_steps_beyond_int32():
    for x64 in (False, True):
        with jax.enable_x64(x64):
            for count in (2**31 + 5, 3 * 2**31, *([jnp.asarray(3 * 2**31), np.int64(2**40)] if x64 else [])):
                theirs = max(0.0, 1 - float(count) / 2**33)
                assert np.allclose(drop_in.linear_schedule(1.0, 0.0, 2**33)(count), theirs, rtol=1e-6)


def test_the_estimator_of_sophia_is_a_transformation():
    tx = drop_in.contrib.sophia(0.1, update_interval=2)
    state = tx.init(PARAMS)
    for done in (True, False):
        before = state[0].nu
        _, state = jax.jit(functools.partial(tx.update, obj_fn=loss))(PARAMS, state, PARAMS)
        assert (float(jnp.abs(state[0].nu["w"] - before["w"]).max()) > 0) is done
    with pytest.raises(ValueError, match="obj_fn"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)
