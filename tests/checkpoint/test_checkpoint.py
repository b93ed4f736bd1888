"""Checkpoints restore every state bit for bit, onto any devices, and only into the transformation it belongs to."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import gradtx as gx
from examples import train_digits
from gradtx.checkpoint.written import check_same
from gradtx.checkpoint.written import written as to_json
from tests.cases import TRANSFORMATIONS, draw, slower

PARAMS = {"w": jnp.linspace(-1, 1, 8).reshape(4, 2), "b": jnp.ones(2), "none": None, "empty": jnp.zeros((0, 3))}
QUICK = [
    gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(gx.cosine_decay_schedule(0.1, 9)), gx.add_noise(0.1, 0.5, 3)),
    gx.stored(gx.adam(0.1), {"mu": "int8", "nu": "uint4"}, min_size=1),
    gx.partition({1: gx.adam(0.1), "rest": gx.sgd(0.1, 0.9)}, {"w": 1, "b": "rest", "none": None, "empty": 1}),
    gx.inject_hyperparams(gx.lamb)(gx.linear_schedule(0.1, 0.0, 9)),
    gx.chain(optax.adam(0.1), gx.scale(0.5)),
]


def random_bits(tree, seed=0):
    """Returns a tree like the given tree with random bits: NaN with payloads, infinities, signed zeros."""
    rng = np.random.default_rng(seed)

    def one(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        if x.dtype == bool:
            return jnp.asarray(rng.integers(0, 2, x.shape, np.uint8).astype(bool))
        raw = rng.integers(0, 256, x.size * np.dtype(x.dtype).itemsize, np.uint8)
        return jnp.asarray(raw.view(x.dtype).reshape(x.shape))

    return jax.tree.map(one, tree)


def bits(tree):
    """Returns the structure of a tree, and the dtype, shape and bytes of each leaf."""
    found = []
    for x in jax.tree.leaves(gx.tree.unwrap_random_key_data(tree)):
        found.append((np.asarray(x).dtype, np.shape(x), np.asarray(x).tobytes()))
    return jax.tree.structure(tree), found


@pytest.mark.parametrize("tx", QUICK, ids=lambda tx: type(tx).__name__)
def test_a_state_comes_back_bit_for_bit(tx, tmp_path):
    state, more = random_bits(tx.init(PARAMS)), {"key": jax.random.key(7), "epoch": 3, "loss": 0.1, "done": True}
    assert gx.checkpoint.save(tmp_path, 5, tx, PARAMS, state, more)
    wanted = {"key": jax.random.key(0), "epoch": 0, "loss": 0.0, "done": False}
    shapes = jax.eval_shape(lambda: PARAMS)
    found = gx.checkpoint.restore(tmp_path, tx, shapes, more=wanted)
    assert found.step == 5
    assert bits(found.params) == bits(PARAMS)
    assert bits(found.state) == bits(state)
    assert bits(found.more) == bits(more)
    assert {name: type(x) for name, x in found.more.items()} == {name: type(x) for name, x in more.items()}
    assert not any(x.committed for x in jax.tree.leaves(found.state))


@pytest.mark.heavy
def test_the_state_of_every_transformation_comes_back_bit_for_bit(tmp_path):
    params = draw(0)
    all_of_them = {str(case): case.make() for case in TRANSFORMATIONS}
    states = {name: random_bits(tx.init(params), i) for i, (name, tx) in enumerate(all_of_them.items())}
    gx.checkpoint.save(tmp_path, 0, gx.identity(), params, gx.EmptyState(), states)
    found = gx.checkpoint.restore(tmp_path, gx.identity(), params, more=jax.eval_shape(lambda: states))
    for name, state in states.items():
        assert bits(found.more[name]) == bits(state), name


def test_every_transformation_is_written_as_what_it_is():
    written = [json.loads(json.dumps(to_json(case.make()))) for case in TRANSFORMATIONS]
    for i, case in enumerate(TRANSFORMATIONS):
        check_same("restore", written[i], case.make(), ())
        with pytest.raises(ValueError, match="another transformation"):
            check_same("restore", written[i - 1], case.make(), ())


def test_the_next_steps_may_donate_what_is_being_saved(tmp_path):
    """A save in the background writes the values that the arrays had when `save` was called."""
    tx, params = gx.adam(0.1), {"w": jnp.ones((512, 512))}
    state = tx.init(params)
    before = bits(state)
    with ocp.CheckpointManager(tmp_path) as manager:
        gx.checkpoint.save(manager, 0, tx, params, state)
        state = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
        del state
        manager.wait_until_finished()
        found = gx.checkpoint.restore(manager, tx, params)
    assert bits(found.state) == before


def mesh(count, shape, names=("data", "model")):
    return Mesh(np.array(jax.devices()[:count]).reshape(shape), names)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "tx", [gx.adam(0.1), gx.stored(gx.chain(gx.adafactor(0.1, min_dim_size_to_factor=2)), "int8", min_size=1)]
)
def test_a_run_goes_on_with_other_devices_and_another_zero_axis(tx, tmp_path):
    """From 8 to 4 to 2 devices; each save starts from the restored state."""
    params = {"w": jnp.arange(128.0).reshape(8, 16), "b": jnp.ones(16)}
    first = random_bits(jax.eval_shape(tx.init, params))
    before, state = None, first
    for step, (count, shape, zero) in enumerate(
        [(8, (4, 2), "data"), (4, (4, 1), None), (2, (1, 2), "model"), (1, (1, 1), None)]
    ):
        where = NamedSharding(mesh(count, shape), PartitionSpec(None if zero == "model" else "model"))
        wanted = jax.tree.map(lambda x, at=where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), params)
        shardings = gx.sharding.state_shardings(tx, wanted, zero_axis=zero)
        if before is None:
            placed, state = jax.device_put(params, where), jax.device_put(state, shardings)
        else:
            found = gx.checkpoint.restore(tmp_path, tx, wanted, shardings=shardings if zero else None)
            placed, state = found.params, found.state
        assert bits(placed) == bits(params)
        assert bits(state) == bits(first)
        for x, at in zip(jax.tree.leaves((placed, state)), [where] * 2 + jax.tree.leaves(shardings), strict=True):
            assert x.sharding == at
        before = gx.checkpoint.save(tmp_path, step, tx, placed, state)


# --- what it belongs to

ADAMW = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.1, mask=gx.select.ndim(min=2)))
OTHERS = {
    r"scale_by_adam\.b1 is 0.9 in the checkpoint, and 0.8 here.*changed=\('b1',\)": ADAMW.replace(b1=0.8),
    r"scale_by_adam\.nesterov is False": ADAMW.replace(nesterov=True),
    r"learning_rate is 0.1 in the checkpoint, and cosine": ADAMW.replace(
        learning_rate=gx.cosine_decay_schedule(0.1, 5)
    ),
    r"add_decayed_weights\.mask": gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.1)),
    r"the transformation is a chain of clip_by_global_norm, scale_by_adam, .* one of clip, ": gx.chain(
        gx.clip(1.0), gx.adamw(0.1, mask=gx.select.ndim(min=2))
    ),
    r"a chain of clip_by_global_norm, .* one of scale_by_adam, ": gx.chain(*ADAMW.links[::-1]),
    r"the transformation is chain\(.* and stored": gx.stored(ADAMW, "int8"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    gx.checkpoint.save(folder, 5, ADAMW, PARAMS, ADAMW.init(PARAMS), more=[1.0])
    return folder


@pytest.mark.parametrize("message", OTHERS)
def test_another_transformation_is_refused_by_the_first_field_that_differs(message, folder):
    with pytest.raises(ValueError, match=message):
        gx.checkpoint.restore(folder, OTHERS[message], PARAMS)


def test_what_is_named_may_have_changed(folder):
    tx = ADAMW.replace(learning_rate=gx.cosine_decay_schedule(0.1, 5), b1=0.8)
    for changed in (["learning_rate", "b1"], ["scale_by_learning_rate.learning_rate", "scale_by_adam.b1"]):
        assert gx.checkpoint.restore(folder, tx, PARAMS, changed=changed).step == 5
    with pytest.raises(ValueError, match=r"scale_by_adam\.b1 is 0\.9"):
        gx.checkpoint.restore(folder, tx, PARAMS, changed="learning_rate")
    with pytest.raises(ValueError, match="changed names 'rate', but neither"):
        gx.checkpoint.restore(folder, tx, PARAMS, changed="rate")


def test_arrays_and_functions_are_compared_too(tmp_path):
    rates = jnp.linspace(0, 1, 20)

    def make(x, f):
        return gx.chain(gx.scale(x), gx.stateless(f))

    tx = make(rates, negate)
    gx.checkpoint.save(tmp_path, 0, tx, PARAMS, tx.init(PARAMS))
    assert gx.checkpoint.restore(tmp_path, make(rates + 0, negate), PARAMS).step == 0
    for other in (make(rates.at[3].add(1), negate), make(rates, gx.tree.zeros_like)):
        with pytest.raises(ValueError, match=r"(scale.step_size|stateless.f) is .* in the checkpoint"):
            gx.checkpoint.restore(tmp_path, other, PARAMS)


def negate(updates, params):
    del params
    return jax.tree.map(lambda g: -g, updates)


def test_a_field_that_is_younger_than_the_checkpoint_must_have_its_default():
    """Old checkpoints still load after a method has got a new argument."""
    saved = to_json(gx.scale_by_adam())
    del saved["of"]["nesterov"], saved["of"]["eps_root"]
    check_same("restore", saved, gx.scale_by_adam(), ())
    for tx, name in ((gx.scale_by_adam(nesterov=True), "nesterov"), (gx.scale_by_adam(eps_root=1e-8), "eps_root")):
        with pytest.raises(ValueError, match=f"{name} is not a field in the checkpoint"):
            check_same("restore", saved, tx, ())


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("no folder", lambda folder: gx.checkpoint.restore(folder / "typo", ADAMW, PARAMS)),
        ("no complete checkpoint of step 7 .* there are: 5", lambda f: gx.checkpoint.restore(f, ADAMW, PARAMS, step=7)),
        (
            r"params is not as it was saved: the checkpoint has b \(float64\[2\]\)",
            lambda f: gx.checkpoint.restore(f, ADAMW, {"w": PARAMS["w"]}),
        ),
        (
            r"params is not .*: w is float64\[4,2\] in the checkpoint, and float64\[3\] here",
            lambda f: gx.checkpoint.restore(f, ADAMW, {**PARAMS, "w": jnp.ones(3)}),
        ),
        (
            r"more is not .*: 0 is float in the checkpoint, and int here",
            lambda f: gx.checkpoint.restore(f, ADAMW, PARAMS, more=[1]),
        ),
        ("step must be", lambda f: gx.checkpoint.save(f, -1, ADAMW, PARAMS, ())),
        ("params has 'x' at w", lambda f: gx.checkpoint.save(f, 6, ADAMW, {"w": "x"}, ())),
    ],
)
def test_bad_calls_are_answered(message, call, folder):
    with pytest.raises((ValueError, TypeError), match=message):
        call(folder)


def test_checkpoints_of_other_programs_are_refused(tmp_path):
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(0, args=ocp.args.Composite(params=ocp.args.StandardSave({"w": jnp.ones(2)})))
        manager.wait_until_finished()
        with pytest.raises(ValueError, match="not saved by gradtx"):
            gx.checkpoint.restore(manager, ADAMW, PARAMS)


# --- older layouts


def test_a_state_of_an_older_layout_is_refused_or_converted(tmp_path):
    """The invented old layout has all moments in one array, and counts the steps in float."""
    tx, params = gx.adam(0.1), {"w": jnp.ones(3)}
    state = tx.init(params)
    state = (state[0]._replace(mu={"w": jnp.arange(3.0)}, nu={"w": jnp.arange(3.0) + 5}), state[1])
    old = ({"count": jnp.asarray(4.0), "moments": {"w": jnp.stack([state[0].mu["w"], state[0].nu["w"]])}}, state[1])
    gx.checkpoint.save(tmp_path, 4, tx, params, old)
    with pytest.raises(
        ValueError, match=r"0/mu/w \(float64\[3\]\) is not in the checkpoint, which has 0/moments/w.*convert="
    ):
        gx.checkpoint.restore(tmp_path, tx, params)

    def convert(arrays):
        moments = arrays.pop("0/moments/w")
        return {**arrays, "0/count": arrays["0/count"].astype("int32"), "0/mu/w": moments[0], "0/nu/w": moments[1]}

    found = gx.checkpoint.restore(tmp_path, tx, params, convert=convert)
    assert bits(found.state) == bits((state[0]._replace(count=jnp.asarray(4, jnp.int32)), state[1]))
    with pytest.raises(ValueError, match=r"convert must return .* but 0/mu/w"):
        gx.checkpoint.restore(
            tmp_path, tx, params, convert=lambda arrays: {"0/count": arrays["0/count"].astype("int32")}
        )


# --- schedules go on, or begin again

RATE = gx.linear_schedule(0.0, 1.0, 10)


def steps(tx, state, n, params):
    updates = None
    for _ in range(n):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    return updates, state


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: gx.adam(rate),
        lambda rate: gx.stored(gx.accumulate(gx.adam(rate), 1), "int8"),
        lambda rate: gx.partition({"a": gx.adam(rate)}, lambda params: jax.tree.map(lambda p: "a", params)),
        lambda rate: gx.named_chain(("adam", gx.inject_hyperparams(gx.adam)(rate))),
        lambda rate: gx.chain(gx.scale_by_adam(), optax.scale_by_schedule(rate)),
        lambda rate: gx.chain(gx.scale_by_adam(), gx.add_decayed_weights(0.0), gx.scale_by_schedule(rate)),
    ],
)
def test_schedules_begin_again_and_moments_stay(make):
    """A restarted run equals a run that has the current moments, and whose schedule starts at the current step."""
    tx, params = make(RATE), {"w": jnp.ones(2)}
    later = make(lambda count: RATE(count - 3))
    _, state = steps(tx, tx.init(params), 3, params)
    new = gx.restart_schedules(tx, state)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    for k in (1, 2):
        found, expected = steps(tx, new, k, params)[0], steps(later, state, k, params)[0]
        np.testing.assert_array_equal(found["w"], expected["w"])


def test_a_schedule_with_a_state_begins_again():
    tx, params = gx.inject_hyperparams(gx.adam)(slower()), {"w": jnp.ones(2)}
    first = tx.init(params)
    _, state = steps(tx, first, 3, params)
    new = gx.restart_schedules(tx, state)
    assert float(state.hyperparams_states["learning_rate"]["number"]) < 0.1
    assert bits(new.hyperparams_states) == bits(first.hyperparams_states)
    assert bits(new.inner_state) == bits(state.inner_state)


def test_what_cannot_begin_again_alone_is_refused():
    for tx, message in (
        (gx.inject_hyperparams(gx.adam)(0.1), "no hyperparameter of this transformation follows a schedule"),
        (gx.adam(0.1, b1=RATE), r"count of scale_by_adam serves both its schedule \(b1\) .* \(mu, nu, weights\)"),
        (gx.adam(0.1), "no hyperparameter of this transformation follows a schedule"),
    ):
        with pytest.raises(ValueError, match=message):
            gx.restart_schedules(tx, tx.init({"w": jnp.ones(2)}))
    with pytest.raises(TypeError, match="must be a tuple of 2 states"):
        gx.restart_schedules(gx.adam(RATE), gx.sgd(0.1).init({"w": jnp.ones(2)}))


# --- the digits


class Interrupted(Exception):
    """Raised to end a run too early."""


@pytest.mark.heavy
def test_the_digits_resume_bit_for_bit(tmp_path, monkeypatch):
    """A run that is interrupted after its first save reaches the same metrics at every step as an uninterrupted run."""
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        data, test = train_digits.load_data()
        monkeypatch.setattr(train_digits, "SAVE_EVERY", 20)
        monkeypatch.setattr(train_digits, "BATCH_SIZE", 8)

        def run(folder):
            params = train_digits.init_params(jax.random.key(0))
            tx = train_digits.make_optimizer(train_digits.METHODS["yogi"], 50, params)
            with train_digits.checkpoints(folder) as manager:
                key = jax.random.key(1)
                return train_digits.train(tx, params, tx.init(params), data, test, key, 50, manager)

        expected = run(None)
        save = gx.checkpoint.save

        def save_and_end(manager, step, *args, **kwargs):
            save(manager, step, *args, **kwargs)
            raise Interrupted

        monkeypatch.setattr(gx.checkpoint, "save", save_and_end)
        with pytest.raises(Interrupted):
            run(tmp_path)
        monkeypatch.setattr(gx.checkpoint, "save", save)
        assert [int(path.name) for path in tmp_path.iterdir()] == [20]
        found = run(tmp_path)
    assert bits(found[0]) == bits(expected[0])
    assert found[1] == expected[1]
