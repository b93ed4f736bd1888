"""Moving averages with a scheduled decay: the bias correction uses the product of the actual decay rates."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.core.leafwise import Leafwise
from gradtx.testing.calls import update
from tests.libraries import GRADTX

FALLING, RISING = "linear_schedule(0.95, 0.5, 30)", "linear_schedule(0.9, 0.999, 200)"


def make(expression):
    return eval(expression, vars(gx))


def run(tx, params, grads, steps):
    state, step = tx.init(params), jax.jit(lambda g, state, p: update(tx, g, state, p))
    found = []
    for t in range(steps):
        updates, state = step(grads(t), state, params)
        found.append(updates)
    return found, state


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("adam(0.1, b1={}, b2={})", -0.1),
        ("adamw(0.1, b1={}, b2={}, weight_decay=0.0)", -0.1),
        ("adam(0.1, b2={1})", -0.1),
        ("amsgrad(0.1, b1={}, b2={}, correct_after_max=True)", -0.1),
        ("adamax(0.1, b1={})", -0.1),
        ("adan(0.1, b1={0}, b2={0}, b3={1})", -0.1),
        ("laprop(0.1, b1={}, b2={})", -0.1),
        ("scale_by_adam_atan2(b1={}, b2={}, a=1.0)", np.pi / 4),
        ("lamb(0.1, b1={}, b2={})", -0.1),
        ("stable_adamw(0.1, b1={}, b2={}, weight_decay=0.0)", -0.1),
        ("ademamix(0.1, b1={}, b2={}, alpha=0.0)", -0.1),
        ("rmsprop(0.1, decay={1}, bias_correction=True)", -0.1),
        ("schedule_free(rmsprop(0.1, decay={1}, bias_correction=True), 0.1, b1=1.0)", -0.1),
        ("ema({1})", 1.0),
        ("ema({0})", 1.0),
        ("scale_by_adahessian(b1={}, b2={})", 1 / 1.5),
        ("scale_by_sophia(b1={}, clip_threshold=float('inf'), eps=2.0)", 0.5),
        ("inject_hyperparams(adam)(0.1, b1={}, b2={})", -0.1),
        ("accumulate(adam(0.1, b1={}, b2={}), 1)", -0.1),
        ("partition({{'all': adam(0.1, b1={}, b2={})}}, 'all')", -0.1),
    ],
)
def test_a_constant_gradient_gives_the_same_update_at_every_step(expression, first):
    """With bias correction, the average of equal numbers is this number, whatever the decay rates are."""
    tx, one = make(expression.format(FALLING, RISING)), jnp.ones(1)
    found, _ = run(tx, one, lambda t: one, 250)
    if "schedule_free" in expression:
        found = found[:1]
    np.testing.assert_allclose(np.ravel(found), first, rtol=1e-3)


def test_an_average_of_ones_is_one_for_muon_too():
    tx = gx.scale_by_muon(beta=gx.linear_schedule(0.9, 0.5, 20), nesterov=False)
    g = jax.random.normal(jax.random.key(0), (4, 3))
    found, _ = run(tx, g, lambda t: g, 25)
    np.testing.assert_allclose(found, [found[0]] * 25, rtol=1e-5)
    # With a different bias-correction divisor, the momentum would not equal the gradient.
    adaptive, _ = run(tx.replace(adaptive=True), g, lambda t: g, 25)
    np.testing.assert_allclose(adaptive, [adaptive[0]] * 25, rtol=1e-4)


RULES = [
    name
    for name in sorted(gx.__all__)
    if inspect.isclass(getattr(gx, name)) and issubclass(getattr(gx, name), Leafwise) and getattr(gx, name).corrected
]


SETTINGS = {
    "scale_by_adamuon": {"sign_momentum": False},
    "scale_by_rms": {"bias_correction": True},
    "scale_by_stddev": {"bias_correction": True},
    "scale_by_sophia": {"clip_threshold": float("inf")},
}


def test_the_list_of_rules_that_correct_is_complete():
    names = {name.removeprefix("scale_by_") for name in RULES}
    assert names >= {"adam", "yogi", "belief", "acprop", "adan", "radam", "nadam", "muon", "ema", "rms", "stddev"}
    assert names >= {"momo_adam", "prodigy", "dadapt_adamw", "sophia", "adahessian", "amsgrad", "laprop", "adamax"}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", RULES)
def test_weights_are_one_minus_the_product_of_the_decays(name):
    cls = getattr(gx, name)
    tx = GRADTX.make(GRADTX.generated(name)).replace(**SETTINGS.get(name, {}))
    plain = tx.init(jnp.ones((2, 2)))
    assert plain.weights == {}
    values = jnp.asarray([0.9, 0.6, 0.8, 0.99])
    tx = tx.replace(**dict.fromkeys(cls.corrected, lambda count: values[count]))
    params, rng = jnp.ones((2, 2)), np.random.default_rng(0)
    grads = jnp.asarray(rng.normal(size=(4, 2, 2)))
    _, state = run(tx, params, lambda t: grads[t], 3)
    assert set(state.weights) == set(cls.corrected)
    first = 1 if name == "scale_by_soap" else 0  # the first step of which only finds the bases
    np.testing.assert_allclose(list(state.weights.values()), 1 - np.prod(values[first:3]), rtol=1e-6)
    # The update is corrected by them, and not by the step count.
    expected = update(tx, grads[3], state, params)[0]
    for decay in cls.corrected:
        other = state._replace(weights={**state.weights, decay: state.weights[decay] * 0.5})
        assert not np.allclose(update(tx, grads[3], other, params)[0], expected, rtol=1e-9, atol=0), decay


def corrected(moments, b, weight, new):
    return moments * b + new * (1 - b), weight * b + (1 - b)


def belief(g, s, b1, b2):
    s["m"], s["wm"] = corrected(s["m"], b1, s["wm"], g)
    s["v"], s["wv"] = corrected(s["v"], b2, s["wv"], (g - s["m"]) ** 2)
    s["v"] = s["v"] + 1e-4
    return s["m"] / s["wm"] / np.sqrt(s["v"] / s["wv"])


def yogi(g, s, b1, b2):
    s["m"], s["wm"] = corrected(s["m"], b1, s["wm"], g)
    s["v"], s["wv"] = s["v"] - (1 - b2) * np.sign(s["v"] - g**2) * g**2, corrected(0, b2, s["wv"], 0)[1]
    return s["m"] / s["wm"] / np.sqrt(s["v"] / s["wv"])


def acprop(g, s, b1, b2):
    u = g / np.sqrt(s["v"] / s["wv"] + 1e-4 / (1 - b2)) if s["wv"] else g
    s["v"], s["wv"] = corrected(s["v"], b2, s["wv"], (g - s["m"]) ** 2)
    s["m"], s["wm"] = corrected(s["m"], b1, s["wm"], g)
    return u


def nesterov(g, s, b1, b2):
    s["m"], s["wm"] = corrected(s["m"], b1, s["wm"], g)
    s["v"], s["wv"] = corrected(s["v"], b2, s["wv"], g**2)
    ahead = s["wm"] * b1 + (1 - b1)
    return (s["m"] * b1 / ahead + g * (1 - b1) / s["wm"]) / np.sqrt(s["v"] / s["wv"])


@pytest.mark.parametrize(
    ("expression", "formula"),
    [
        ("scale_by_belief({}, {}, eps=0.0, eps_root=1e-4)", belief),
        ("scale_by_yogi({}, {}, eps=0.0, initial_accumulator_value=0.0)", yogi),
        ("scale_by_acprop({}, {}, eps=0.0, eps_root=1e-4)", acprop),
        ("scale_by_adam({}, {}, eps=0.0, nesterov=True)", nesterov),
    ],
)
def test_formulas_of_scheduled_decays(expression, formula):
    tx, rng = make(expression.format(FALLING, RISING)), np.random.default_rng(1)
    grads, s = rng.normal(size=(20, 3)), {"m": 0.0, "v": 0.0, "wm": 0.0, "wv": 0.0}
    found, _ = run(tx, jnp.zeros(3), lambda t: jnp.asarray(grads[t]), 20)
    b1, b2 = make(FALLING)(np.arange(20)), make(RISING)(np.arange(20))
    expected = [formula(g, s, float(x), float(y)) for g, x, y in zip(grads, b1, b2, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_numbers_replaced_before_each_step_are_taken_out_where_the_state_has_weights():
    """A state that was made with a schedule keeps the product, even if the decay rate is a number later."""
    tx, params = gx.adam(0.1, b2=gx.constant_schedule(0.9)), jnp.ones(1)
    state = tx.init(params)
    for b2 in np.linspace(0.9, 0.999, 100):
        updates, state = tx.replace(b2=float(b2)).update(jnp.ones(1), state, params)
    np.testing.assert_allclose(updates, -0.1, rtol=1e-5)


def test_a_state_for_constant_decays_has_no_place_for_them():
    for tx in (gx.adam(0.1), gx.adam(0.1, b2=jnp.asarray(0.9))):
        assert [x.shape for x in jax.tree.leaves(tx.init(jnp.ones(3)))] == [(), (3,), (3,), ()]
    assert gx.ema(gx.constant_schedule(0.9), debias=False).init(jnp.ones(3)).weights == ()


def test_a_rule_that_corrects_must_declare_the_weights():
    with pytest.raises(TypeError, match=r"CountState must have a field `weights: Any = average_weights\(\)`"):

        class rule(gx.rules.Elementwise, corrected=("b",)):
            b: gx.rules.Hyper = gx.rules.hyper(default=0.9)

    with pytest.raises(TypeError, match="corrected names 'b', but it has no hyperparameter of that name"):

        class other(gx.rules.Elementwise, corrected=("b",)):
            pass
