"""Converts states in the middle of a run: three steps with one library, then three steps with the other.

Every case of the registry that has a reference in optax is converted from optax to gradtx and back, and so are the
transformations in `MORE`, whose results other tests compare. `NOT_BOTH` lists what optax does not have.
"""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import serialization

import gradtx as gx
from gradtx.compat import optax as drop_in
from gradtx.compat.optax import from_optax, to_optax
from tests.cases import FUNCTIONS, TRANSFORMATIONS, Case, close, extra_args
from tests.libraries import GRADTX, OPTAX, Foreign

PARAMS = {"deep": {"b": jnp.array([0.5, -1.0, 2.0])}, "w": jnp.arange(12.0).reshape(4, 3) / 7 - 0.8}
STEPS = 3
COUNT = {"count": STEPS}

NOT_BOTH = ("ema_params", "ema_of_params", "average_of_params", "polyak_average", "swa", "dynamic_loss_scale")
"""Wrappers and links that optax does not have; their references stand for what they leave as it is."""


OPTAX_NAMES = {"accumulate(": "MultiSteps(", "apply_if_finite(": "apply_if_finite("}
"""Wrappers that change no update here, so that some references leave them out."""


def is_shared(case):
    """Whether optax has the transformations of a case, instead of computing the same updates in a different way."""
    if case.optax is None or any(f"{name}(" in case.expression for name in NOT_BOTH):
        return False
    reference = case.optax or case.expression
    return all(its in reference for ours, its in OPTAX_NAMES.items() if ours in case.expression)


def draw(t):
    rng = np.random.default_rng(t)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), PARAMS)


def run(tx, params, state, start, steps=STEPS, of_both=False):
    """Takes steps on a noisy quadratic; use `of_both` for optax's lookahead, whose parameters are pairs."""
    for t in range(start, start + steps):
        at = params.fast if of_both else params
        grads = jax.tree.map(lambda p, n: 0.5 * p + n, at, draw(t))
        updates, state = tx.update(grads, state, params, **extra_args(tx, grads, at))
        params = jax.tree.map(lambda p, u: p + u, params, updates)
    return params, state


@pytest.fixture(autouse=True)
def _rules_of_optax():
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def count_if_needed(convert, *args):
    """Returns the result of `convert`, and whether it needed the argument `count`."""
    try:
        return convert(*args), {}
    except ValueError as error:
        if "no step count" not in str(error):
            raise
    return convert(*args, **COUNT), COUNT


def check(tx, reference, expression="", steps=STEPS, params=PARAMS, of_both=False, rtol=1e-10):
    """Converts from optax to gradtx and back during a run, and compares with a run of optax."""
    its = Foreign(expression, reference)
    start = optax.LookaheadParams.init_synced(params) if of_both else params
    there, state = run(its, start, its.init(start), 0, steps, of_both)
    ours, told = count_if_needed(from_optax, state, tx, there)
    fresh = tx.init(params)
    assert jax.tree.structure(ours) == jax.tree.structure(fresh)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(ours)] == [(x.shape, x.dtype) for x in jax.tree.leaves(fresh)]

    expected, end = run(its, there, state, steps, of_both=of_both)
    found, ours = run(tx, there.fast if of_both else there, ours, steps)
    scale = {"rtol": rtol, "atol": rtol}
    close(found, expected.fast if of_both else expected, **scale)

    back, _ = count_if_needed(to_optax, ours, tx, found, its)
    close(jax.tree.map(as_numbers, back), jax.tree.map(as_numbers, end), **scale)
    assert [x.dtype for x in jax.tree.leaves(back)] == [x.dtype for x in jax.tree.leaves(end)]

    again = optax.LookaheadParams(found, expected.slow) if of_both else found
    last, _ = run(its, again, back, 2 * steps, of_both=of_both)
    close(last, run(its, expected, end, 2 * steps, of_both=of_both)[0], **scale)
    return told


def as_numbers(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


SHARED = [case for case in TRANSFORMATIONS if is_shared(case)]
SAMPLE = 40


def sampled(cases):
    return [pytest.param(x, id=str(x), marks=[] if i % SAMPLE == 0 else pytest.mark.heavy) for i, x in enumerate(cases)]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("case", sampled(SHARED))
def test_registry(case):
    check(case.make(), case.reference(), case.expression)


def vectors(params):
    """A mask of the leaves with one axis."""
    return jax.tree.map(lambda p: p.ndim == 1, params)


FUNCTIONS["vectors"] = vectors
MORE = [
    "inject_hyperparams(sgd)(0.1, momentum=0.9)",
    "galore(0.1, rank=1, weight_decay=0.1)",
    "scale_by_galore(rank=2, base_optimizer=trace(0.9))",
    "lbfgs(0.1, linesearch=None)",
    "sam(adam(0.1), sgd(0.05))",
    "sam(adam(0.1), sgd(0.05, momentum=0.9), 3, reset_state=False)",
    "selective_transform(adam(0.1), freeze_mask={'deep': True, 'w': False})",
    "inject_hyperparams(adam, hyperparam_dtype='float64')(linear_schedule(0.1, 0.01, 10))",
    "inject_hyperparams(adafactor, 'dtype_momentum')(0.1, decay_rate=0.0)",
    "adafactor(0.1, min_dim_size_to_factor=2, decay_rate=0.0)",
    "adafactor(0.1, min_dim_size_to_factor=2, decay_rate=0.0, momentum=0.5, dtype_momentum='float64')",
    "chain(sgd(0.1), reduce_on_plateau(patience=2, accumulation_size=2))",
    "chain(adam(0.1), apply_every(2))",
    "chain(clip(0.3), lion(0.01), masked(trace(0.5), {'deep': True, 'w': False}))",
    "chain(adamw(0.1), keep_params_nonnegative())",
    "masked(masked(adam(0.1), vectors), {'deep': True, 'w': True})",
    "masked(muon(0.1, eps=1e-8), {'deep': True, 'w': True})",
    "flatten(lion(0.1))",
    "chain(normalize(), trace(0.9))",
    "named_chain(('b', trace(0.5)), ('a', scale_by_adam()), ('c', scale(-0.1)))",
]


@pytest.mark.parametrize("expression", sampled(MORE))
def test_more(expression):
    case = Case(expression)
    check(case.make(), case.reference(), expression)


APART = {
    "rprop": "optax applies every step one update late",
    "scale_by_rprop": "optax applies every step one update late",
    "dpsgd": "its gradients have an axis of examples: see below",
    "differentially_private_aggregate": "its gradients have an axis of examples: see below",
    "identity": "it has no state",
    "chain": "in other cases",
    "lookahead": "see below",
    "sophia": "see below",
    "monitor": "see below",
    "measure_with_ema": "see below",
    "scale_by_backtracking_linesearch": "see below",
    "scale_by_zoom_linesearch": "see below",
    "scale_by_lbfgs": "see lbfgs",
    "scale_by_muon": "see muon",
    "scale_by_shape": "see muon",
}
"""Constructors that both libraries have and that no case above calls, with the reason."""


def test_every_constructor_of_both_is_converted():
    named = " ".join([*map(str, SHARED), *MORE])
    for name in set(GRADTX.constructors()) & set(OPTAX.constructors()):
        is_schedule = name.endswith(("_schedule", "_schedules")) or name == "exponential_decay"
        assert is_schedule or name in APART or any(f"{name}{end}" in named for end in "(,)"), name


@pytest.mark.parametrize("reset_state", [False, True])
@pytest.mark.parametrize("steps", [3, 4])
def test_lookahead(steps, reset_state):
    """In optax the parameters are pairs; in gradtx the slow weights are in the state."""
    arguments = {"sync_period": 2, "slow_step_size": 0.5, "reset_state": reset_state}
    tx = gx.lookahead(gx.adam(0.1), **arguments)
    its = optax.lookahead(optax.adam(0.1), **arguments)
    start = optax.LookaheadParams.init_synced(PARAMS)
    its = Foreign("", its)
    there, state = run(its, start, its.init(start), 0, steps, of_both=True)
    told = {"count": steps} if reset_state else {}
    ours = from_optax(state, tx, there, **told)
    close(ours[-1].slow, there.slow)
    expected, end = run(its, there, state, steps, 4, of_both=True)
    found, ours = run(tx, there.fast, ours, steps, 4)
    close(found, expected.fast, 1e-10, 1e-10)
    back = to_optax(ours, tx, optax.LookaheadParams(found, ours[-1].slow), its)
    close(back, end, 1e-10, 1e-10)
    with pytest.raises(ValueError, match=r"scale_by_lookahead\.slow: optax keeps the slow weights in the parameters"):
        from_optax(state, tx, there.fast, **told)
    if reset_state:
        with pytest.raises(ValueError, match=r"do not fit 8 steps|do not fit 7 steps"):
            from_optax(state, tx, there, count=11 - steps)


def test_a_schedule_that_is_reset_does_not_count_all_steps():
    """In optax, the step count of the schedule restarts when the surrounding state is reset."""
    tx = gx.lookahead(gx.sgd(gx.linear_schedule(1.0, 0.0, 9)), 3, 0.5, reset_state=True)
    its = optax.lookahead(optax.sgd(optax.linear_schedule(1.0, 0.0, 9)), 3, 0.5, reset_state=True)
    start = optax.LookaheadParams.init_synced(PARAMS)
    params, state = run(Foreign("", its), start, its.init(start), 0, 4, of_both=True)
    with pytest.raises(ValueError, match="no step count"):
        from_optax(state, tx, params)
    ours = from_optax(state, tx, params, count=4)
    assert [int(x) for x in (ours[0].count, ours[0].inner_state[-1].count, ours[1].count)] == [4, 1, 4]
    close(to_optax(ours, tx, params, its), state)


def bowl(params):
    return sum(jnp.sum((p - 1) ** 2 * jnp.arange(1.0, p.size + 1).reshape(p.shape)) for p in jax.tree.leaves(params))


@pytest.mark.heavy
def test_sophia():
    """Both libraries draw different random vectors for the diagonal; between two estimates they do the same."""
    tx, its = gx.sophia(0.01, update_interval=10), optax.contrib.sophia(0.01, update_interval=10)

    def steps(tx, params, state, name):
        for _ in range(STEPS):
            extra = {name: bowl}
            updates, state = tx.update(jax.grad(bowl)(params), state, params, **extra)
            params = optax.apply_updates(params, updates)
        return params, state

    there, state = steps(its, PARAMS, its.init(PARAMS), "obj_fn")
    expected, end = steps(its, there, state, "obj_fn")
    found, ours = steps(tx, there, from_optax(state, tx, there), "value_fn")
    close(found, expected, 1e-10)
    close(to_optax(ours, tx, found, its), end, 1e-10)


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("lbfgs(memory_size=2)", marks=pytest.mark.heavy),
        "lbfgs(linesearch=scale_by_backtracking_linesearch(20, store_grad=True))",
        "chain(sgd(0.1), scale_by_backtracking_linesearch(20))",
    ],
)
def test_line_searches(expression):
    """The line searches differ, so a run that switches takes different steps; but the states match."""
    names = {**vars(optax), "scale_by_backtracking_linesearch": optax.scale_by_backtracking_linesearch}
    tx, its = eval(expression, vars(gx)), eval(expression, names)
    value_and_grad = jax.value_and_grad(bowl)

    def step(tx, params, state):
        value, grad = value_and_grad(params)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=bowl)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, its.init(PARAMS)
    for count in range(1, 6):
        params, state = step(its, params, state)
        ours = from_optax(state, tx, params, **({} if "lbfgs" in expression else {"count": count}))
        close(to_optax(ours, tx, params, its), state)
        if count == 3:
            half = params, ours
    start = bowl(half[0])
    for _ in range(5):
        half = step(tx, *half)
    assert bowl(half[0]) < start / 2
    kept = gx.value_and_grad_from_state(bowl)(half[0], state=ours) if "store" in expression else None
    assert kept is None or np.isfinite(kept[0])


@pytest.mark.heavy
def test_pairs_without_positive_curvature_are_left_out():
    """optax keeps such pairs, gradtx does not: the remaining pairs move together, from the oldest to the newest."""
    tx, its = gx.scale_by_lbfgs(3), optax.scale_by_lbfgs(3)
    params, state = jnp.zeros(2), its.init(jnp.zeros(2))
    slopes = iter([1.0, 2.0, -3.0, 4.0, 5.0])  # the third pair has <s, y> < 0
    points = [jnp.zeros(2)]
    for slope in slopes:
        _, state = its.update(params * slope + 1, state, params)
        params = params + jnp.array([1.0, -0.5])
        points.append(params)
    ours = from_optax(state, tx, params)
    weights = np.asarray(state.weights_memory)
    assert (weights <= 0).sum() == 1
    assert int(ours.pairs) == 2
    kept = [i for i in ((3 - j) % 3 for j in (2, 1, 0)) if weights[i] > 0]
    np.testing.assert_allclose(ours.weights_memory[:2], weights[kept])
    y = np.asarray(state.diff_updates_memory)[kept[-1]]
    np.testing.assert_allclose(ours.identity_scale, 1 / (weights[kept[-1]] * (y @ y)))
    back = to_optax(ours, tx, params, its)
    g = params * 6 + 1
    close(its.update(g, back, params)[0], tx.update(g, ours, params)[0], 1e-10)


def test_schedules_with_states():
    def both(base):
        class Total(base):
            """A stateful schedule: the learning rate falls with the total so far."""

            def init(self):
                return {"seen": jnp.zeros(())}

            def update(self, state, **extra):
                del extra
                return {"seen": state["seen"] + 2}

            def __call__(self, state, **extra):
                del extra
                return 0.1 / (1 + state["seen"])

        return Total()

    arguments = {"momentum": 0.9}
    tx = gx.inject_hyperparams(gx.sgd)(both(gx.rules.StatefulSchedule), **arguments)
    its = optax.inject_hyperparams(optax.sgd)(both(optax.schedules.StatefulSchedule), **arguments)
    assert check(tx, its) == {}
    with pytest.raises(ValueError, match=r"hyperparams_states/learning_rate: gradtx's schedule .* has no state"):
        from_optax(its.init(PARAMS), gx.inject_hyperparams(gx.sgd)(0.1, momentum=0.9), PARAMS)
    with pytest.raises(ValueError, match=r"hyperparams_states: optax's has no learning_rate"):
        from_optax(optax.inject_hyperparams(optax.sgd)(0.1, **arguments).init(PARAMS), tx, PARAMS)


@pytest.mark.heavy
def test_gradients_of_examples():
    """Both draw the same noise from the same key."""
    tx, its = gx.dpsgd(0.1, 0.5, 0.3, seed=1, momentum=0.9), optax.contrib.dpsgd(0.1, 0.5, 0.3, 1, momentum=0.9)
    params, state = PARAMS, its.init(PARAMS)

    def step(tx, params, state, t):
        grads = jax.tree.map(lambda p, n: jnp.stack([p + n, p - n, 2 * n]), params, draw(t))
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    for t in range(STEPS):
        params, state = step(its, params, state, t)
    found, ours = params, from_optax(state, tx, params, **COUNT)
    for t in range(STEPS):
        params, state = step(its, params, state, t)
        found, ours = step(tx, found, ours, t)
    close(found, params, 1e-10)
    close(jax.tree.map(as_numbers, to_optax(ours, tx, found, its)), jax.tree.map(as_numbers, state), 1e-10, 1e-12)


def test_monitors():
    measures = {"norm": gx.tree.norm, "mean": gx.measure_with_ema(gx.tree.norm, 0.9)}
    theirs = {"norm": optax.global_norm, "mean": optax.measure_with_ema(optax.global_norm, 0.9)}
    tx, its = gx.chain(gx.monitor(measures), gx.adam(0.1)), optax.chain(optax.monitor(theirs), optax.adam(0.1))
    assert isinstance(from_optax(its.init(PARAMS), tx, PARAMS)[0], type(tx.init(PARAMS)[0]))
    check(tx, its)


# --- states that come from a checkpoint


def restored(state, tuples=list):
    """Returns a state as a checkpoint without classes restores it: dicts by field, lists or dicts for tuples, NumPy
    arrays."""
    if hasattr(state, "_fields"):
        return {name: restored(getattr(state, name), tuples) for name in state._fields}
    if isinstance(state, dict):
        return {name: restored(x, tuples) for name, x in state.items()}
    if isinstance(state, (tuple, list)):
        parts = [restored(x, tuples) for x in state]
        return parts if tuples is list or isinstance(state, list) else {str(i): x for i, x in enumerate(parts)}
    return None if state is None else np.asarray(state)


@pytest.mark.parametrize("tuples", [list, dict])
@pytest.mark.parametrize(
    "expression",
    [
        "chain(clip_by_global_norm(1.0), adamw(linear_schedule(0.1, 0.01, 30), mask={'deep': False, 'w': True}))",
        "partition({'a': adam(0.1), 'b': sgd(0.5, momentum=0.9)}, {'deep': 'b', 'w': 'a'})",
        "named_chain(('clip', clip(0.5)), ('trace', trace(0.9)), ('adam', adam(0.1)))",
        "inject_hyperparams(adamw)(0.1)",
        "apply_if_finite(muon(0.1, eps=1e-8), 3)",
        "schedule_free(sgd(0.1, momentum=0.5), 0.1)",
    ],
)
def test_restored_states(expression, tuples):
    case = Case(expression)
    tx, its = case.make(), optax.with_extra_args_support(case.reference())
    params, state = run(its, PARAMS, its.init(PARAMS), 0)
    expected, _ = count_if_needed(from_optax, state, tx, params)
    found, _ = count_if_needed(from_optax, restored(state, tuples), tx, params)
    close(found, expected)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "expression", ["inject_hyperparams(adam)(0.1)", "masked(adam(0.1), {'deep': True, 'w': False})"]
)
def test_checkpoints_of_flax_and_orbax(expression, tmp_path):
    case = Case(expression)
    tx, its = case.make(), case.reference()
    params, state = run(optax.with_extra_args_support(its), PARAMS, its.init(PARAMS), 0)
    expected = from_optax(state, tx, params)
    bytes_of_flax = serialization.msgpack_serialize(serialization.to_state_dict(jax.tree.map(np.asarray, state)))
    close(from_optax(serialization.msgpack_restore(bytes_of_flax), tx, params), expected)
    checkpoints = orbax.checkpoint.StandardCheckpointer()
    checkpoints.save(tmp_path / "state", state)
    checkpoints.wait_until_finished()
    close(from_optax(checkpoints.restore(tmp_path / "state"), tx, params), expected)


@pytest.mark.heavy
def test_groups_are_found_in_any_order():
    """In gradtx a group is a dict sorted by paths as strings: deep/10 comes before deep/2."""
    params = {"deep": [jnp.full((i + 1,), float(i)) for i in range(12)], "w": jnp.ones(2)}
    labels = {"deep": ["a", "b"] * 6, "w": "a"}
    tx = gx.partition({"a": gx.adam(0.1), "b": gx.trace(0.5)}, labels)
    its = optax.partition({"a": optax.adam(0.1), "b": optax.trace(0.5)}, labels)
    state = its.init(params)
    _, state = its.update(params, state, params)
    for given in (state, restored(state)):
        ours = from_optax(given, tx, params)
        found = ours.inner_states["a"][0].mu
        close({name: x.size for name, x in found.items()}, {f"deep/{i}": i + 1 for i in range(0, 12, 2)} | {"w": 2})
        close(found["deep/10"], jnp.full(11, 1.0))
    close(to_optax(ours, tx, params, its), state)
    flat = gx.partition({"a": gx.flatten(gx.adam(0.1)), "b": gx.trace(0.5)}, labels)
    theirs = optax.partition({"a": optax.flatten(optax.adam(0.1)), "b": optax.trace(0.5)}, labels)
    with pytest.raises(ValueError, match=r"flatten rearranges a group"):
        from_optax(theirs.init(params), flat, params)


def test_links_of_users_are_on_both_sides():
    class Total(NamedTuple):
        seen: jax.Array
        total: dict

    def init(params):
        return Total(jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        return updates, Total(state.seen + 1, jax.tree.map(jnp.add, state.total, updates))

    own = optax.GradientTransformation(init, update)
    its = optax.chain(own, optax.adam(0.1), optax.scale_by_schedule(lambda count: 1 / (count + 1)))
    links = gx.chain(own, optax.adam(0.1), optax.scale_by_schedule(lambda count: 1 / (count + 1)))
    for tx in (gx.chain(own, gx.adam(0.1), gx.scale(lambda count: 1 / (count + 1))), links):
        check(tx, its)
    with pytest.raises(ValueError, match=r"the state of a transformation made of functions must be the same"):
        from_optax(optax.trace(0.9).init(PARAMS), own, PARAMS)


# --- what does not fit


ADAM = optax.adam(0.1)


def shaped(params):
    return ADAM.update(params, ADAM.init(params), params)[1]


@pytest.mark.parametrize(
    ("state", "tx", "message"),
    [
        (
            lambda: shaped({"w": jnp.ones(3)}),
            gx.adam(0.1),
            r"scale_by_adam\.mu of w has the shape \(3,\)",
        ),
        (lambda: shaped({"w": jnp.ones(2)}), gx.sgd(0.1, momentum=0.9), r"trace \(TraceState\).* ScaleByAdamState"),
        (lambda: shaped({"w": jnp.ones(2)}), gx.sgd(0.1), r"have a state: none\. .* ScaleByAdamState"),
        (lambda: shaped({"w": jnp.ones(2)}), gx.amsgrad(0.1), r"ScaleByAmsgradState.* ScaleByAdamState"),
        (lambda: restored(shaped({"w": jnp.ones(2)})), gx.amsgrad(0.1), r"scale_by_amsgrad\.nu_max has no partner"),
        (
            lambda: [{"count": 3, "mu": {"w": np.ones(2)}}],
            gx.adam(0.1),
            r"\.nu has no partner: .* count, mu",
        ),
        (
            lambda: [{"count": 3, "mu": {"w": np.ones(2)}, "nu": {"w": np.ones(2, bool)}}],
            gx.adam(0.1),
            r"scale_by_adam\.nu of w has the dtype bool, but .* float64",
        ),
        (
            lambda: [{"count": 3, "mu": {"w": np.ones(2)}, "nu": {"w": np.ones(2)}, "t": np.ones(2)}],
            gx.adam(0.1),
            r"scale_by_adam\.t: the restored state of optax has this field",
        ),
        (lambda: {"other": np.ones(2)}, gx.adam(0.1), r"dict with the keys other"),
        (lambda: [np.ones(2)], gx.adam(0.1), r"float64\[2\] instead of the state of a transformation"),
        (
            lambda: optax.trace(0.9).init({"w": jnp.ones(2)}),
            gx.trace(0.9),
            r"transformation has no step count",
        ),
        (
            lambda: (*shaped({"w": jnp.ones(2)}), optax.ScaleByScheduleState(jnp.asarray(5))),
            gx.adam(0.1),
            r"has several counts, 1, 5",
        ),
        (
            lambda: optax.inject_hyperparams(optax.sgd)(0.1).init({"w": jnp.ones(2)}),
            gx.inject_hyperparams(gx.scale)(0.1),
            r"hyperparams: the optax state has learning_rate",
        ),
    ],
)
def test_what_does_not_fit(state, tx, message):
    with pytest.raises(ValueError, match=rf"^from_optax: .*({message})"):
        from_optax(state(), tx, {"w": jnp.ones(2)})


def test_another_number_of_parameters():
    with pytest.raises(ValueError, match=r"scale_by_adam\.mu has 2 arrays in the optax state, but there are 1 param"):
        from_optax(shaped({"w": jnp.ones(2), "v": jnp.ones(2)}), gx.adam(0.1), {"w": jnp.ones(2)})


def test_a_factored_moment_is_no_full_one():
    full, factored = optax.scale_by_factored_rms(factored=False), optax.scale_by_factored_rms(min_dim_size_to_factor=2)
    params = {"w": jnp.ones((3, 2))}
    tx = gx.scale_by_factored_rms(min_dim_size_to_factor=2)
    with pytest.raises(ValueError, match=r"scale_by_factored_rms\.v(_row)? of w"):
        from_optax(full.init(params), tx, params)
    assert from_optax(factored.init(params), tx, params).v["w"] is None


def test_labels():
    tx = gx.partition({"a": gx.adam(0.1), "c": gx.adam(0.1)}, {"deep": "c", "w": "a"})
    state = optax.partition({"a": ADAM, "b": ADAM}, {"deep": "b", "w": "a"}).init(PARAMS)
    with pytest.raises(ValueError, match=r"^from_optax: partition has the labels a, c, and the optax state a, b\."):
        from_optax(state, tx, PARAMS)


def test_counts():
    """`count` must not contradict the state; if step counts disagree, it sets the step counts that are missing."""
    params = {"w": jnp.ones(2)}
    state, tx = shaped(params), gx.adamw(0.1)
    assert [int(link.count) for link in from_optax(state, tx, params)] == [1, 1, 1]
    assert [int(link.count) for link in from_optax(state, tx, params, count=1)] == [1, 1, 1]
    with pytest.raises(ValueError, match="count=2, but the state of the transformation has counted 1 steps"):
        from_optax(state, tx, params, count=2)
    both = (*state, optax.ScaleByScheduleState(jnp.asarray(5)))
    assert [int(link.count) for link in from_optax(both, tx, params, count=5)] == [1, 5, 5]
    with pytest.raises(ValueError, match="count must be an integer of at least 0"):
        from_optax(state, tx, params, count=-1)


def test_decays_by_schedule_bring_the_weights_of_their_averages():
    b1 = gx.linear_schedule(0.9, 0.5, 10)
    tx = gx.scale_by_adam(b1=b1)
    state = optax.ScaleByAdamState(jnp.asarray(3), {"w": jnp.ones(2)}, {"w": jnp.ones(2)})
    found = from_optax(state, tx, {"w": jnp.ones(2)}).weights
    np.testing.assert_allclose(found["b1"], 1 - np.prod([b1(i) for i in range(3)]), rtol=1e-6)


def test_the_new_state_shares_no_array():
    params = {"w": jnp.ones(2)}
    state, tx = shaped(params), gx.adam(0.1)
    ours = from_optax(state, tx, params)
    jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(ours)
    close(state[0].mu, {"w": jnp.full(2, 0.1)})
    assert from_optax(restored(state), tx, params)[0].mu["w"].dtype == jnp.float64


def test_places_on_a_mesh_are_kept():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    where = jax.NamedSharding(mesh, jax.P("d"))
    params = {"w": jax.device_put(jnp.ones(16), where)}
    host = {"w": np.ones(16)}
    tx = gx.adam(0.1)
    ours = from_optax(restored(shaped(host)), tx, params)
    assert ours[0].mu["w"].sharding.is_equivalent_to(where, 1)


# --- the drop-in, whose states are optax's in structure


def named(expression):
    """Returns the drop-in's transformation for an expression in optax's names."""
    modules = (drop_in.contrib, drop_in)
    names = {name: getattr(module, name) for module in modules for name in dir(module) if not name.startswith("_")}
    return eval(expression, {**names, **FUNCTIONS})


DROPPED = [
    "chain(clip_by_global_norm(1.0), masked(adamw(0.1, mask=vectors), {'deep': True, 'w': False}))",
    "MultiSteps(adam(0.1), 2, accumulator_dtype='float64')",
    "multi_transform({'a': adam(0.1), 'b': sgd(0.5, momentum=0.9)}, {'deep': 'b', 'w': 'a'})",
    "inject_hyperparams(adam)(0.1)",
    "schedule_free(adam(0.1), 0.1)",
    "mechanize(sgd(0.1, momentum=0.9), s_init=1.0)",
    "sam(adam(0.1), sgd(0.05))",
    "adafactor(0.1, min_dim_size_to_factor=2, decay_rate=0.0, momentum=0.5, dtype_momentum='float64')",
    "muon(0.1)",
    "reduce_on_plateau(patience=2)",
    "rprop(0.1)",
]


@pytest.mark.parametrize("expression", sampled(DROPPED))
def test_drop_in(expression):
    check(named(expression), Case("", optax=expression).reference(), expression)


@pytest.mark.parametrize("reset_state", [False, True])
def test_lookahead_of_pairs(reset_state):
    arguments = {"sync_period": 2, "slow_step_size": 0.5, "reset_state": reset_state}
    tx, its = (
        drop_in.lookahead(drop_in.adam(0.1), **arguments),
        Foreign("", optax.lookahead(optax.adam(0.1), **arguments)),
    )
    there = optax.LookaheadParams.init_synced(PARAMS)
    there, state = run(its, there, its.init(there), 0, of_both=True)
    ours, pair = from_optax(state, tx, there), drop_in.LookaheadParams(*there)
    expected, end = run(its, there, state, STEPS, 4, of_both=True)
    found, ours = run(Foreign("", tx), pair, ours, STEPS, 4, of_both=True)
    close(tuple(found), tuple(expected), 1e-10, 1e-10)
    close(to_optax(ours, tx, found, its), end, 1e-10, 1e-10)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_dtypes(dtype):
    """Arrays that optax keeps in the dtype of the parameters are float32 or wider in gradtx."""
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    its, tx = optax.adam(0.1), gx.adam(0.1)
    _, state = its.update(params, its.init(params), params)
    ours = from_optax(state, tx, params)
    assert {x.dtype for x in jax.tree.leaves(ours[0].mu)} == {jnp.dtype("float32")}
    close(to_optax(ours, tx, params, its), state)
