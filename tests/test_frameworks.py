"""All wrappers work in flax nnx, flax linen and equinox, and their states consist of standard containers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import gradtx as gx
from gradtx import select
from tests.cases import close

X, Y = jnp.linspace(-1, 1, 8, dtype="float32").reshape(4, 2), jnp.linspace(0, 1, 4, dtype="float32").reshape(4, 1)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(2, 3, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, 1, rngs=rngs)])

    def __call__(self, x):
        return self.layers[0](jnp.tanh(self.hidden(x)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1, name="head")(jnp.tanh(linen.Dense(3, name="hidden")(x)))


def equinox_model():
    return eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0), dtype="float32")


def nnx_params():
    return nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)


def linen_params():
    return Linen().init(jax.random.key(0), X)["params"]


def equinox_params():
    return eqx.filter(equinox_model(), eqx.is_inexact_array)


RULES = [(select.ndim(min=2), "matrices"), (select.everything(), "rest")]

# Every wrapper, around AdamW.
WRAPPERS = {
    "accumulate": lambda tx: gx.accumulate(tx, 2),
    "accumulate_1": lambda tx: gx.accumulate(tx, 1),
    "skip_not_finite": lambda tx: gx.accumulate(tx, 2, should_skip_update_fn=gx.skip_not_finite),
    "weighted": lambda tx: gx.accumulate(tx, 2, weight="tokens"),
    "apply_if_finite": gx.apply_if_finite,
    "skip_spikes": gx.skip_spikes,
    "dynamic_loss_scale": lambda tx: gx.dynamic_loss_scale(tx, 1.0),
    "conditionally_transform": lambda tx: gx.conditionally_transform(tx, lambda step: step >= 0),
    "conditionally_mask": lambda tx: gx.conditionally_mask(tx, lambda step: step >= 0),
    "ema_params": gx.ema_params,
    "polyak_average": gx.polyak_average,
    "swa": lambda tx: gx.swa(tx, 1),
    "lookahead": lambda tx: gx.lookahead(tx, 2, 0.5),
    "lookahead_reset": lambda tx: gx.lookahead(tx, 2, 0.5, reset_state=True),
    "schedule_free": lambda tx: gx.schedule_free(tx, 0.01),
    "sam": lambda tx: gx.sam(tx, gx.chain(gx.normalize(), gx.sgd(0.05))),
    "mechanize": lambda tx: gx.mechanize(tx, s_init=0.1),
    "cautious": gx.cautious,
    "flatten": gx.flatten,
    "split_real_and_imaginary": gx.split_real_and_imaginary,
    "with_metrics": lambda tx: gx.with_metrics(tx, groups={"matrices": select.ndim(min=2)}),
    "masked": lambda tx: gx.masked(tx, select.ndim(min=2), rest="zero"),
    "partition": lambda tx: gx.partition({"matrices": tx, "rest": gx.sgd(0.1)}, RULES),
    "selective_transform": lambda tx: gx.selective_transform(tx, freeze_mask=select.ndim(max=1)),
    "freeze": lambda tx: gx.chain(tx, gx.freeze(select.ndim(max=1))),
    "layerwise_lr_decay": lambda tx: gx.layerwise_lr_decay(tx, lambda path: path.count("/"), 0.5),
    "inject_hyperparams": lambda tx: gx.inject_hyperparams(gx.adamw)(0.01),
    "monitor": lambda tx: gx.chain(gx.monitor({"norm": gx.tree.norm}), tx),
    "snapshot": lambda tx: gx.chain(tx, gx.snapshot("norm", gx.tree.norm)),
    "muon": lambda tx: gx.muon(0.01),
    "two_deep": lambda tx: gx.apply_if_finite(gx.accumulate(WRAPPERS["masked"](gx.ema_params(tx)), 2)),
}


def wrapper(name):
    return WRAPPERS[name](gx.adamw(0.01))


def standard(node, params):
    """Raises unless a state consists of dicts, lists, tuples, NamedTuples, arrays, and trees like the parameters."""
    if jax.tree.structure(node) == params:
        node = jax.tree.leaves(node)
    if isinstance(node, dict):
        assert all(isinstance(key, str) for key in node)
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        assert type(node) in (list, tuple) or hasattr(node, "_fields"), type(node)
        for x in node:
            standard(x, params)
    else:
        assert isinstance(node, jax.Array), type(node)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("make", [nnx_params, linen_params, equinox_params], ids=lambda make: make.__name__)
def test_states_hold_only_standard_containers(make):
    """Before the first step, and (checked by shapes and dtypes) after it."""
    params = make()
    ones = jax.tree.map(jnp.ones_like, params)
    for name in WRAPPERS:
        tx = wrapper(name)
        state = tx.init(params)
        standard(state, jax.tree.structure(params))
        extra = {"tokens": 3} if name == "weighted" else {}
        updates, after = jax.eval_shape(
            lambda g, s, p, tx=tx, extra=extra: tx.update(g, s, p, **extra), ones, state, params
        )
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        assert jax.tree.structure(after) == jax.tree.structure(state), name
        kinds = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s) for s in (after, state)]
        assert kinds[0] == kinds[1], name


def mse(out):
    return jnp.mean((out - Y) ** 2)


QUICK = [
    "accumulate",
    "apply_if_finite",
    "lookahead_reset",
    "sam",
    "with_metrics",
    "mechanize",
    "partition",
    "two_deep",
    "muon",
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=() if x in QUICK else pytest.mark.heavy) for x in WRAPPERS if x != "weighted"],
)
def test_nnx_optimizer(name):
    """nnx calls `init` with a State of Params, and `update` with plain arrays."""
    model = Nnx(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, wrapper(name), wrt=nnx.Param)
    before = nnx.as_pure(nnx.state(model, nnx.Param))
    kinds = jax.tree.map(lambda x: (x.shape, x.dtype), nnx.as_pure(nnx.state(optimizer)))
    for _ in range(2):
        optimizer.update(model, nnx.grad(lambda model: mse(model(X)))(model))
    after = nnx.as_pure(nnx.state(model, nnx.Param))
    assert not np.array_equal(before["hidden"]["kernel"], after["hidden"]["kernel"])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), nnx.as_pure(nnx.state(optimizer))) == kinds


def test_nnx_optimizer_jitted_with_extra_arguments():
    model = Nnx(nnx.Rngs(0))
    tx = gx.with_metrics(gx.accumulate(gx.adamw(0.05), 2, weight="tokens"))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: mse(model(X)))(model)
        optimizer.update(model, grads, tokens=4, value=loss)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    metrics = gx.metrics(nnx.as_pure(optimizer.opt_state))
    assert float(metrics["gradient_step"]) == 20
    assert float(metrics["learning_rate"]) == pytest.approx(0.05)
    # Also with nnx variables around the arrays.
    assert gx.metrics(optimizer.opt_state).keys() == metrics.keys()


def test_nnx_groups_by_path():
    """A leaf can be frozen by the path that a user of nnx knows, without the Param."""
    model = Nnx(nnx.Rngs(0))
    bias, kernel = (np.array(x[...]) for x in (model.hidden.bias, model.hidden.kernel))
    optimizer = nnx.Optimizer(
        model, gx.selective_transform(gx.adam(0.1), freeze_mask=select.path("**/bias")), wrt=nnx.Param
    )
    optimizer.update(model, nnx.grad(lambda model: mse(model(X)))(model))
    np.testing.assert_array_equal(bias, model.hidden.bias[...])
    assert not np.array_equal(kernel, model.hidden.kernel[...])


@pytest.mark.parametrize("name", ["two_deep", "partition", "with_metrics", "muon", "lookahead"])
def test_linen_train_state(name):
    model = Linen()
    state = TrainState.create(apply_fn=model.apply, params=linen_params(), tx=wrapper(name))

    @jax.jit
    def step(state):
        loss, grads = jax.value_and_grad(lambda params: mse(state.apply_fn({"params": params}, X)))(state.params)
        return state.apply_gradients(grads=grads), loss

    state, first = step(state)
    for _ in range(30):
        state, loss = step(state)
    assert loss < first
    assert int(state.step) == 31


@pytest.mark.parametrize("name", ["two_deep", "partition", "with_metrics", "sam", "schedule_free"])
def test_equinox_module(name):
    model, tx = equinox_model(), wrapper(name)
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        loss, grads = eqx.filter_value_and_grad(lambda model: mse(jax.vmap(model)(X)))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    model, state, first = step(model, state)
    for _ in range(30):
        model, state, loss = step(model, state)
    assert loss < first


def test_equinox_module_with_value_and_step():
    """The parameters may be a callable module whose other fields are None."""
    params, static = eqx.partition(equinox_model(), eqx.is_inexact_array)
    tx = gx.with_metrics(gx.masked(gx.adam(0.05), select.path("layers/*/weight")), groups={"b": select.path("**/bias")})
    step = jax.jit(gx.value_and_step(lambda params, x: mse(jax.vmap(eqx.combine(params, static))(x)), tx))
    state = tx.init(params)
    _, state, value = step(params, state, X)
    assert np.isfinite(float(value))
    assert set(gx.metrics(state)) >= {"update_ratio/b", "grad_norm", "learning_rate"}


def test_the_same_numbers_in_every_framework():
    """A masked AdamW gives the same results in an nnx Optimizer and on plain dicts."""
    model = Nnx(nnx.Rngs(0))
    tx = gx.masked(gx.adamw(0.1), select.ndim(min=2), rest=gx.sgd(0.1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    params = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    grads = nnx.grad(lambda model: mse(model(X)))(model)
    plain = nnx.to_pure_dict(nnx.state(grads, nnx.Param))
    updates, _ = tx.update(plain, tx.init(params), params)
    optimizer.update(model, grads)
    close(nnx.to_pure_dict(nnx.state(model, nnx.Param)), optax.apply_updates(params, updates), rtol=1e-6)
