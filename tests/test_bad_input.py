"""Law 11: bad input raises ValueError or TypeError before any work, and the message names what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.cases import SCHEDULES, TRANSFORMATIONS, draw, extra_args

PARAMS = {"w": jnp.ones((2, 3)), "b": [jnp.ones(3)]}

CONSTRUCTIONS = [
    ("adam(-1)", r"learning_rate must be in \[0, inf\), got -1"),
    ("adam(float('nan'))", r"learning_rate must be in \[0, inf\), got nan"),
    ("adam(float('inf'))", "learning_rate must be in .* got inf"),
    ("adam(None)", "learning_rate must be a number, an array or a schedule .* got None"),
    ("adam('0.1')", "learning_rate must be .* got '0.1' of type str"),
    ("adam(True)", "learning_rate must be .* got True of type bool"),
    ("adam([0.1])", "learning_rate must be .* of type list"),
    ("adam(1j)", "learning_rate must be .* of type complex"),
    ("adam(np.array(['a']))", "learning_rate must be"),
    ("adam(np.array([True]))", "learning_rate must be"),
    ("adam(np.float32(-1))", "learning_rate must be in"),
    ("adam(gx.scale)", "learning_rate must be"),
    ("adam(0.1, b1=1.0)", r"b1 must be in \[0, 1\), got 1.0"),
    ("adam(0.1, b1=1.5)", r"b1 must be in \[0, 1\), got 1.5"),
    ("adam(0.1, b1=-0.1)", r"b1 must be in \[0, 1\), got -0.1"),
    ("adam(0.1, b2=1)", r"b2 must be in \[0, 1\), got 1"),
    ("adam(0.1, eps=-1)", r"eps must be in \[0, inf\), got -1"),
    ("adam(0.1, mu_dtype='int32')", "mu_dtype must be a floating dtype"),
    ("adam(0.1, mu_dtype='float31')", "mu_dtype must be a floating dtype"),
    ("adam(0.1, nesterov=1)", "nesterov must be True or False, got 1"),
    ("adamw(0.1, weight_decay=-1)", r"weight_decay must be in \[0, inf\), got -1"),
    ("adamw(0.1, mask={'w': 1, 'b': True})", r"mask must be .* at \['w'\] it is 1"),
    ("adamw(0.1, mask='w')", "mask must be a selector, not the text 'w'. Write gx.select.path"),
    ("adamw(0.1, mask=1)", "mask must be a selector, a function of the parameters, or a tree"),
    ("sgd(0.1, momentum=2)", r"sgd: momentum must be in \[0, 1\], got 2"),
    ("sgd(0.1, 0.9, 0.9)", "nesterov must be True or False"),
    ("rmsprop(0.1, momentum=2)", r"rmsprop: momentum must be in \[0, 1\]"),
    ("rmsprop(0.1, decay=1.0)", r"decay must be in \[0, 1\)"),
    ("adadelta(None)", "learning_rate must be"),
    ("adadelta(rho=1.0)", r"rho must be in \[0, 1\)"),
    ("adadelta(weight_decay=-1)", "weight_decay must be in"),
    ("adagrad(0.1, initial_accumulator_value=-0.1)", "initial_accumulator_value must be in"),
    ("yogi(0.1, nu_floor=-1)", "nu_floor must be in"),
    ("clip(-1)", r"clip: max_delta must be in \[0, inf\], got -1"),
    ("clip(float('nan'))", "max_delta must be in"),
    ("clip_by_global_norm(-1)", "max_norm must be in"),
    ("clip_by_block_rms(-1)", "threshold must be in"),
    ("trace(1.1)", r"decay must be in \[0, 1\]"),
    ("trace(0.9, dampening=2)", r"dampening must be in \[0, 1\]"),
    ("ema(1.0)", r"decay must be in \[0, 1\)"),
    ("scale(float('inf'))", "step_size must be in"),
    ("scale_by_schedule(0.1)", "step_size_fn must be a schedule"),
    ("stateless(3)", "f must be a function"),
    ("GradientTransformation(3, 4)", "init_fn must be a function, got 3"),
    ("function_schedule(3)", "fn must be a function, got 3"),
    ("chain(3)", "chain: expected gradient transformations, got 3 of type int"),
    ("chain([gx.clip(1.0)])", "chain: got one list. Pass the transformations as arguments of their own"),
    ("chain(gx.adam)", "chain: expected gradient transformations"),
    ("chain(gx.scale)", "chain: expected gradient transformations"),
    ("named_chain(gx.clip(1.0))", "expected pairs"),
    ("named_chain(('a', gx.clip(1.0)), ('a', gx.clip(2.0)))", "names must differ, got a, a"),
    ("named_chain(('a', 3))", "expected gradient transformations"),
    ("lion(0.1, b1=1.1)", r"b1 must be in \[0, 1\]"),
    ("scale_by_lion(mode='soft')", "mode must be one of 'hard', 'smooth', 'refined', got 'soft'"),
    ("polyak_sgd(variant='spx')", r"variant must be one of 'sps', 'sps\+'"),
    ("polyak_sgd(max_learning_rate=0)", r"max_learning_rate must be in \(0, inf\]"),
    ("dog(init_step='distance')", "init_step must be a pair"),
    ("dog(init_step=('far', 1.0))", "init_step must be one of 'heuristic'"),
    ("prodigy(betas=0.9)", "prodigy: betas must be a pair"),
    ("prodigy(estim_lr0=0)", r"estim_lr0 must be in \(0, inf\)"),
    ("prodigy(betas=(0.9, gx.constant_schedule(0.9)))", "beta3 must be given"),
    ("dadapt_adamw(betas=(0.9,))", "dadapt_adamw: betas must be a pair"),
    ("momo(beta=1.0)", r"beta must be in \[0, 1\)"),
    ("apply_every(0)", "k must be an integer of at least 1, got 0"),
    ("apply_every(2.0)", "k must be an integer of at least 1, got 2.0"),
    ("add_noise(0.1, 0.5, key=0.5)", "key must be an integer of at least 0"),
    ("noisy_sgd(0.1, eta=-1)", r"eta must be in \[0, inf\)"),
    ("adaptive_grad_clip(0.1, axis='all')", "axis must be None, an integer or a tuple"),
    ("adopt(0.1, clip_value_fn=3)", "clip_value_fn must be a function"),
    ("adafactor(momentum=2)", r"adafactor: momentum must be in \[0, 1\)"),
    ("signum(0.1, beta=1.0)", r"signum: beta must be in \[0, 1\)"),
    ("sm3(0.1, momentum=2)", r"sm3: momentum must be in \[0, 1\]"),
    ("lars(0.1, momentum=2)", r"lars: momentum must be in \[0, 1\]"),
    ("lamb(0.1, mask={'w': 'yes'})", r"mask must be .* at \['w'\] it is 'yes'"),
    ("galore(0.1, rank=1.5)", "rank must be an integer of at least 1"),
    ("galore(0.1, base_optimizer=3)", "expected gradient transformations, got 3"),
    ("muon(0.1, muon_weight_dimension_numbers={'w': (0, 1)})", "muon_weight_dimension_numbers|numbers must be None"),
    ("partition({'a': 3}, 'a')", "partition: expected gradient transformations, got 3"),
    ("partition([gx.scale(1.0)], 'a')", "transforms must be a dict"),
    (
        "partition({'a': gx.scale(1.0)}, {'w': 'b'}).init({'w': np.ones(2)})",
        r"leaf at \['w'\] has the label 'b'.*are: 'a'",
    ),
    ("partition({'a': gx.scale(1.0)}, {'w': 'a'}).init({'v': np.ones(2)})", r"param_labels says nothing of \['v'\]"),
    (
        "partition({'a': gx.scale(1.0)}, 'a').init({'x/y': np.ones(2), 'x': {'y': np.ones(2)}})",
        "two leaves have the path x/y",
    ),
    ("rprop(0.1).init({'w': np.ones(2, complex)})", r"at \['w'\] params has dtype complex128.*two real leaves"),
    ("per_example_global_norm_clip({'w': np.ones((2, 3)), 'b': np.ones(3)}, 1.0)", "the examples along its first axis"),
    ("per_example_layer_norm_clip({'w': np.float64(1.0)}, 1.0)", "the examples along its first axis"),
    ("differentially_private_aggregate(-1.0, 0.0)", "l2_norm_clip must be in"),
    ("linear_schedule(1.0, 0.0, 0)", r"transition_steps must be in \(0, inf\), got 0"),
    ("linear_schedule(1.0, 0.0, 10, -1)", r"transition_begin must be in \[0, inf\), got -1"),
    ("linear_schedule(None, 0.0, 10)", "init_value must be a number or an array"),
    ("linear_schedule(gx.constant_schedule(1.0), 0.0, 10)", "init_value must be a number or an array"),
    ("polynomial_schedule(1.0, 0.0, -1, 10)", r"power must be in \[0, inf\)"),
    ("exponential_decay(1.0, 10, 0.0)", r"decay_rate must be in \(0, inf\)"),
    ("exponential_decay(1.0, -10, 0.5)", "transition_steps must be in"),
    ("exponential_decay(1.0, 10, 0.5, staircase=3)", "staircase must be True or False"),
    ("cosine_decay_schedule(1.0, 0)", "decay_steps must be in"),
    ("warmup_cosine_decay_schedule(0.0, 1.0, 10, 10)", r"decay_steps must be in \(10, inf\), got 10"),
    ("piecewise_constant_schedule(1.0, {10: -0.1})", "the factor of boundaries_and_scales at step 10 must be in"),
    ("piecewise_constant_schedule(1.0, {-10: 0.1})", "a boundary of boundaries_and_scales must be in"),
    ("piecewise_constant_schedule(1.0, {1.5: 0.1})", "steps must be Python or NumPy integers"),
    ("piecewise_constant_schedule(1.0, [1, 2])", "boundaries_and_scales must be a dict"),
    ("piecewise_constant_schedule(1.0, ((1, 0.1), (1, 0.2)))", "names a step twice"),
    ("piecewise_interpolate_schedule('cubic', 1.0)", "interpolate_type must be one of 'linear', 'cosine', got 'cubic'"),
    ("piecewise_interpolate_schedule('linear', 1.0, {10: -0.1})", "the factor of boundaries_and_scales at step 10"),
    ("warmup_constant_schedule(0.0, 1.0, -1)", r"warmup_steps must be in \[0, inf\), got -1"),
    ("warmup_exponential_decay_schedule(0.0, 1.0, -1, 10, 0.5)", "warmup_steps must be in"),
    ("warmup_exponential_decay_schedule(0.0, 1.0, 5, 0, 0.5)", "transition_steps must be in"),
    ("linear_onecycle_schedule(0, 1.0)", "transition_steps must be in"),
    ("linear_onecycle_schedule(100, 1.0, 0.5, 0.4)", "the phases end at steps 50, 40, 100"),
    ("linear_onecycle_schedule(2, 1.0, 0.3, 0.4)", "the phases end at steps 0, 0, 2"),
    ("linear_onecycle_schedule(100, 1.0, pct_final=1.5)", r"pct_final must be in \[0, 1\]"),
    ("cosine_onecycle_schedule(100, 1.0, 1.0)", "the phases end at steps 100, 100"),
    ("cosine_onecycle_schedule(100, 1.0, div_factor=0.0)", "div_factor must be in"),
    ("sgdr_schedule([])", "cosine_kwargs must be a list of at least one dict"),
    ("sgdr_schedule([3])", "cosine_kwargs must be a list of at least one dict"),
    ("sgdr_schedule([{'peak_value': 1.0}])", "missing"),
    ("exponential_schedule(1.0, -0.1)", r"rate must be in \[0, inf\)"),
    ("inverse_sqrt_schedule(0.0, 1.0, 0)", r"warmup_steps must be in \(0, inf\)"),
    ("optimal_constant_rate(1.0, 0.0, 10)", "lipschitz must be in"),
    ("optimal_constant_rate(1.0, 1.0, 0)", "steps must be in"),
    ("wsd_schedule(0.0, 1.0, 5, 5, 0)", "decay_steps must be in"),
    ("wsd_schedule(0.0, 1.0, 5, -5, 5)", "stable_steps must be in"),
    ("wsd_schedule(0.0, 1.0, 5, 5, 5, decay='root')", "decay must be one of 'linear', 'cosine', '1-sqrt', got 'root'"),
    ("cyclic_schedule(0.0, 1.0, 0)", "steps_up must be in"),
    ("cyclic_schedule(0.0, 1.0, 5, 0)", "steps_down must be in"),
    ("cyclic_schedule(0.0, 1.0, 5, mode='square')", "mode must be one of 'triangular', 'triangular2', 'exp_range'"),
    ("cyclic_schedule(0.0, 1.0, 5, gamma=0.9)", "gamma must be 1 unless mode is 'exp_range', got 0.9"),
    ("cosine_restarts_schedule(1.0, 0)", r"period must be in \[1, inf\)"),
    ("cosine_restarts_schedule(1.0, 10, 0.5)", r"multiplier must be in \[1, inf\)"),
    ("cosine_warmup_restarts_schedule(0.0, 10, 2, 1.0, 10)", r"warmup must be in \[0, 10\), got 10"),
    ("cosine_warmup_restarts_schedule(0.0, 10, 2, 1.0, 12)", r"warmup must be in \[0, 10\), got 12"),
    ("cosine_warmup_restarts_schedule(0.0, 10, 2, 1.0, 5, 1.1)", r"gamma must be in \(0, 1\]"),
    ("step_schedule(1.0, 0)", "step_size must be in"),
    ("step_schedule(1.0, 10, 0.0)", "gamma must be in"),
    ("multistep_schedule(1.0, [])", "milestones must name at least one step"),
    ("multistep_schedule(1.0, [20, 10])", "milestones must increase strictly"),
    ("multistep_schedule(1.0, [10, 10])", "milestones must increase strictly"),
    ("multistep_schedule(1.0, [0])", r"milestones\[0\] must be in \(0, inf\)"),
    ("multistep_schedule(1.0, 10)", "milestones must be a list of steps"),
    ("lambda_schedule(1.0, 0.9)", "factor must be a function, got 0.9"),
    ("multiplicative_schedule(1.0, 0.9)", "factor must be a function, got 0.9"),
    ("multiply_schedules([])", "schedules must be a list of at least one schedule"),
    ("multiply_schedules([1.0])", "schedules must be a list of at least one schedule"),
    ("join_schedules([gx.constant_schedule(1.0)] * 2, [])", "one entry fewer than schedules, got 0 for 2"),
    ("join_schedules([gx.constant_schedule(1.0)] * 3, [5, 4])", "boundaries must increase strictly"),
    ("join_schedules([gx.constant_schedule(1.0)] * 3, [5, 5])", "boundaries must increase strictly"),
    ("join_schedules([gx.constant_schedule(1.0)] * 2, [0])", r"boundaries\[0\] must be in \(0, inf\)"),
    ("join_schedules([], [])", "schedules must be a list of at least one schedule"),
    ("join_schedules([1.0, 2.0], [3])", "schedules must be a list"),
]


@pytest.mark.parametrize(("expression", "message"), CONSTRUCTIONS, ids=[e for e, _ in CONSTRUCTIONS])
def test_construction(expression, message):
    with pytest.raises((ValueError, TypeError), match=message):
        eval("gx." + expression, {"gx": gx, "np": np})


def updated(tx, updates=PARAMS, params=PARAMS, state=None, **extra):
    return tx.update(updates, tx.init(PARAMS) if state is None else state, params, **extra)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: updated(gx.adam(0.1), {"w": PARAMS["w"]}), r"updates has no leaf at \['b'\]\[0\]"),
        (lambda: updated(gx.adam(0.1), {**PARAMS, "c": 1.0}), r"updates has a leaf at \['c'\] where params has none"),
        (lambda: updated(gx.adam(0.1), {**PARAMS, "w": jnp.ones((3, 2))}), r"at \['w'\] updates has shape \(3, 2\)"),
        (lambda: updated(gx.adam(0.1), {**PARAMS, "w": None}), r"updates has no leaf at \['w'\]"),
        (lambda: updated(gx.adam(0.1), {**PARAMS, "b": (PARAMS["b"][0],)}), "containers of other types"),
        (lambda: updated(gx.adam(0.1), {**PARAMS, "w": jnp.ones((2, 3), int)}), r"at \['w'\] updates has dtype int"),
        (lambda: updated(gx.adam(0.1), {**PARAMS, "w": "x"}), r"\['w'\]"),
        (
            lambda: updated(gx.adam(0.1), {"w": PARAMS["w"]}, None),
            r"mu .* a leaf at \['b'\]\[0\] where",
        ),
        (
            lambda: gx.adam(0.1).update(jnp.ones((2, 2)), gx.adam(0.1).init(jnp.ones(2))),
            r"mu in the state of scale_by_adam has shape \(2,\)",
        ),
        (lambda: updated(gx.adamw(0.1), params=None), "add_decayed_weights.update needs `params`, which is missing"),
        (lambda: updated(gx.polyak_sgd()), "scale_by_polyak.update needs `value`, which is missing"),
        (lambda: updated(gx.momo()), "scale_by_momo.update needs `value`"),
        (lambda: updated(gx.prodigy(), params=None), "scale_by_prodigy.update needs `params`"),
        (lambda: updated(gx.muon(0.1), state=()), "partition.update: the state must be a PartitionState"),
        (lambda: updated(gx.galore(0.1), state=((), (), ())), "the state of scale_by_galore must be a GaLoreState"),
        (lambda: updated(gx.adam(0.1), valeu=1.0), "unknown extra argument 'valeu'.*grad, key, value, value_fn"),
        (lambda: updated(gx.scale(0.1), valeu=1.0), "unknown extra argument 'valeu'"),
        (lambda: updated(gx.identity(), valeu=1.0), "unknown extra argument 'valeu'"),
        (lambda: updated(gx.adam(0.1), state=()), "the state must be a tuple of 2 states"),
        (lambda: updated(gx.scale_by_adam(), state=gx.EmptyState()), "the state must be a ScaleByAdamState"),
        (lambda: updated(gx.named_chain(("a", gx.scale(1.0))), state=(1,)), "the state must be a dict with the keys a"),
        (lambda: gx.adam(0.1).init({"n": jnp.ones(2, int)}), r"at \['n'\] params has dtype int"),
        (lambda: gx.adam(0.1).init({"n": "x"}), r"at \['n'\] params has type str"),
        (lambda: gx.apply_updates(PARAMS, {"w": PARAMS["w"]}), r"updates has no leaf at \['b'\]\[0\]"),
        (lambda: gx.apply_updates(jnp.ones(2), jnp.ones((2, 2))), r"updates has shape \(2, 2\) and params has shape"),
        (lambda: gx.apply_updates(jnp.ones(2, int), jnp.ones(2)), "params has dtype int"),
        (lambda: updated(gx.adamw(0.1, mask={"w": True})), r"mask says nothing of \['b'\]\[0\]"),
        (lambda: updated(gx.adamw(0.1, mask=lambda p: p)), r"what mask\(params\) returned must be"),
        (
            lambda: gx.scale_by_galore(2).update(jnp.ones((5, 4)), gx.scale_by_galore(2).init(jnp.ones((3, 4)))),
            r"field projector in the state has shape \(1, 4, 2\) at .*, where shape \(1, 5, 2\) belongs to updates of "
            r"shape \(5, 4\)",
        ),
        (
            lambda: updated(gx.sam(gx.sgd(0.1), gx.sgd(0.1)), *[{**PARAMS, "w": jnp.ones((3, 2))}] * 2),
            r"sam.update: the field cache in the state has shape \(2, 3\) at \['w'\], where shape \(3, 2\) belongs",
        ),
        (
            lambda: updated(gx.skip_spikes(gx.stateless(lambda u, _: {**u, "w": u["w"].T}))),
            r"at \[0\]\['w'\] what was returned has shape \(3, 2\) and what it replaces has shape \(2, 3\)",
        ),
        (
            lambda: gx.adam(0.1).replace(lr=1.0),
            "nothing is named 'lr' here; there are: scale_by_adam",
        ),
        (lambda: gx.adam(0.1).replace(b1=2.0), r"b1 must be in \[0, 1\)"),
        (lambda: gx.chain(gx.trace(0.9), gx.trace(0.5)).replace(decay=0.1), r"ambiguous.*trace\[0\].decay, trace\[1\]"),
    ],
)
def test_use(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", TRANSFORMATIONS, ids=str)
def test_every_transformation_takes_the_standard_extra_arguments(case):
    tx = case.make()

    def calls():
        params = draw(0)
        extra = {"value": 1.0, "grad": params, "value_fn": lambda p: 0.0, "key": jax.random.key(0)}
        needed = extra_args(tx, params, params)
        state = tx.init(params)
        with pytest.raises(TypeError, match="unknown extra argument 'valeu'"):
            tx.update(params, state, params, **needed, valeu=1.0)
        return tx.update(params, state, params, **{**needed, **extra})

    jax.eval_shape(calls)


@pytest.mark.parametrize("case", TRANSFORMATIONS + SCHEDULES, ids=str)
def test_every_number_is_checked(case):
    """Every field for a number rejects NaN, strings and complex numbers."""
    tx = case.make()
    names = [path for path in tx._names() if isinstance(_at(tx, path), (int, float)) and "[" not in path]
    for name in names:
        for bad in (float("nan"), "0.1", 1j):
            with pytest.raises((ValueError, TypeError), match=name.rsplit(".", 1)[-1]):
                tx.replace(**{name: bad})


def _at(tx, path):
    for name in path.split("."):
        tx = tx._parts()[name]
    return tx


def test_an_error_inside_of_a_rule_comes_with_the_leaf():
    tx = gx.chain(gx.clip(1.0), gx.frank_wolfe(gx.oracle_simplex, 2.0, axis=2))
    with pytest.raises(ValueError, match="has no axis 2") as caught:
        updated(tx, {"w": jnp.ones((2, 3)), "b": [jnp.ones(3)]})
    assert caught.value.__notes__[-1:] == ["This is clip + frank_wolfe at the leaf ['w'], float64[2,3]."]


def test_an_axis_that_a_leaf_does_not_have_is_refused_by_init():
    tx = gx.adaptive_grad_clip(0.1, axis=1)
    with pytest.raises(ValueError, match=r"axis=1 does not exist in the leaf at \['b'\]\[0\], which has shape \(3,\)"):
        tx.init(PARAMS)
    w = gx.masked(tx, gx.select.path("w"))
    w.update(PARAMS, w.init(PARAMS), PARAMS)


STATEFUL = gx.chain(gx.trace(0.9), gx.accumulate(gx.chain(gx.trace(0.5), gx.trace(0.1)), 2), gx.scale_by_adam())
INJECTED = gx.inject_hyperparams(gx.adamw)(0.1)


def with_state(change, tx=STATEFUL, params=PARAMS):
    return tx.update(params, change(tx.init(params)), params)


def at(state, i, **changes):
    return (*state[:i], state[i]._replace(**changes), *state[i + 1 :])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: with_state(lambda s: gx.adam(0.1).init(PARAMS), gx.chain(gx.clip(1.0), gx.adam(0.1))),
            r"chain.update: the state of clip must be a CountState, got a ScaleByAdamState",
        ),
        (
            lambda: with_state(lambda s: optax.scale_by_adam().init(PARAMS), gx.scale_by_adam()),
            "a ScaleByAdamState of gradtx.* got the one of optax.*another class of the same name.*by tx.init",
        ),
        (
            lambda: with_state(lambda s: at(s, 1, inner_state=(s[1].inner_state[0], s[0].trace))),
            r"the state of accumulate.trace\[1\] must be a TraceState, got",
        ),
        (
            lambda: with_state(lambda s: at(s, 1, acc_grads={"w": jnp.ones((3, 2)), "b": [jnp.ones(3)]})),
            r"field acc_grads in the state of accumulate has shape \(3, 2\) at \['w'\], where shape \(2, 3\) belongs",
        ),
        (
            lambda: with_state(lambda s: at(s, 2, count=jnp.zeros(3, int))),
            r"field count in the state of scale_by_adam has shape \(3,\), where shape \(\) belongs",
        ),
        (
            lambda: with_state(lambda s: at(s, 2, count=jnp.zeros(()))),
            r"field count in the state of scale_by_adam has dtype float64, where int32 belongs",
        ),
        (
            lambda: with_state(lambda s: at(s, 2, mu=jax.tree.map(lambda x: x.astype(int), PARAMS))),
            r"field mu in the state of scale_by_adam has dtype int64 at \['b'\]\[0\], where a real dtype belongs",
        ),
        (
            lambda: with_state(lambda s: s._replace(mu=PARAMS["w"]), gx.scale_by_adam()),
            r"field mu in the state does not fit params: it has no leaf at \['b'\]\[0\], \['w'\]; it has a leaf",
        ),
        (
            lambda: with_state(
                lambda s: s._replace(hyperparams={k: x for k, x in s.hyperparams.items() if k != "weight_decay"}),
                INJECTED,
            ),
            r"inject_hyperparams.update: the field hyperparams in the state .* has no leaf at \['weight_decay'\]",
        ),
        (
            lambda: with_state(lambda s: s._replace(nu=jax.tree.map(lambda x: x + 0j, s.nu)), gx.scale_by_adam()),
            r"field nu in the state has dtype complex128 at \['b'\]\[0\], where a real dtype belongs",
        ),
        (
            lambda: with_state(lambda s: s._replace(inner_states={}), gx.masked(gx.sgd(0.1), {"w": True, "b": False})),
            r"field inner_states in the state must be a dict with the keys 'masked', 'rest', got the keys \.",
        ),
        (
            lambda: with_state(lambda s: gx.scale_by_lbfgs(3).init(PARAMS), gx.scale_by_lbfgs(2)),
            r"field diff_params_memory in the state has shape \(3, 3\) at \['b'\]\[0\], where shape \(2, 3\) belongs",
        ),
        (
            lambda: with_state(lambda s: gx.scale_by_lbfgs().init({"w": PARAMS["w"]}), gx.scale_by_lbfgs()),
            r"field params in the state does not fit params: it has no leaf at \['b'\]",
        ),
        (
            lambda: with_state(lambda s: gx.scale_by_amsgrad().init(PARAMS), gx.scale_by_adam()),
            "must be a ScaleByAdamState, got a ScaleByAmsgradState",
        ),
    ],
)
def test_states_that_do_not_fit(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("old", [(1, 4), (8, 1), (1, 1)])
@pytest.mark.parametrize("factored", [True, False])
@pytest.mark.parametrize("smallest", [1, 2, 128])
def test_no_axis_of_a_state_is_broadcast(old, factored, smallest):
    tx = gx.adafactor(0.1, min_dim_size_to_factor=smallest, factored=factored)
    params = jnp.ones((8, 4))
    with pytest.raises(ValueError, match="in the state of scale_by_factored_rms has "):
        tx.update(params, tx.init(jnp.ones(old)), params)


def test_nothing_is_done_before_a_state_is_refused():
    """All states of a chain are checked before its first transformation runs."""
    seen = []
    tx = gx.chain(gx.stateless(lambda u, p: seen.append(u) or u), gx.accumulate(gx.trace(0.9), 2))
    state = tx.init(PARAMS)
    wrong = (state[0], state[1]._replace(mini_step=jnp.zeros(2, int)))
    with pytest.raises(ValueError, match="field mini_step in the state of accumulate"):
        tx.update(PARAMS, wrong, PARAMS)
    assert not seen


@pytest.mark.parametrize(
    ("tx", "names"),
    [
        (gx.accumulate(gx.sgd(0.1), 2, weight="tokens"), "grad, key, tokens, value, value_fn"),
        (gx.sophia(0.1), "grad, hessian_diag, key, outputs_fn, value, value_fn"),
        (gx.chain(gx.clip(1.0), gx.sam(gx.sgd(0.1), gx.sgd(0.1))), "grad, grad_fn, key, value, value_fn"),
        (
            gx.apply_if_finite(gx.GradientTransformation(lambda p: (), lambda u, s, p=None, *, temperature: (u, s))),
            "grad, key, temperature, value, value_fn",
        ),
    ],
    ids=["accumulate", "sophia", "sam", "functions"],
)
def test_an_unknown_extra_argument_is_answered_with_those_that_are_known(tx, names):
    with pytest.raises(TypeError, match=f"known here are {names}\\."):
        updated(tx, valeu=1.0)


def test_messages_say_what_why_and_what_to_do():
    with pytest.raises(ValueError, match="Give a number in that range, a jax array, or a schedule"):
        gx.clip(-1)
    with pytest.raises(TypeError, match="It would be ignored, so it is refused"):
        updated(gx.adam(0.1), valeu=1)
    with pytest.raises(ValueError, match="Nothing is broadcast here: give both the same shape"):
        gx.apply_updates(jnp.ones(2), jnp.ones((2, 2)))
