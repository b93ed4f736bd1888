"""Texts about a transformation: `explain`, `diff`, and the names of transformations in `describe`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx import select
from gradtx.core.diff import MISSING

PARAMS = {"w": jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.array([3.0, 4.0])}
GRADS = {"w": 10 * jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.array([0.6, 0.8])}
NORM = float(np.sqrt(100 * 91 + 1))
RATE = gx.linear_schedule(0.1, 0.0, 10)


def stages(tx, *, leaf="b", state=None, **extra):
    found = gx.explain(tx, PARAMS, GRADS, state, leaf=leaf, **extra)
    return found, {stage.link: stage for stage in found.stages}


def test_a_chain_link_by_link():
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.01, weight_decay=0.5, mask=select.path("w")))
    found, _ = stages(tx)
    clip, adam, decay, rate = found.stages
    assert [x.link for x in found.stages] == [
        "clip_by_global_norm",
        "scale_by_adam",
        "add_decayed_weights",
        "scale_by_learning_rate",
    ]
    assert (clip.before, clip.after, clip.factor) == pytest.approx((1, 1 / NORM, 1 / NORM))
    assert clip.numbers == pytest.approx({"max_norm": 1.0, "clip_factor": 1 / NORM})
    assert adam.after == pytest.approx(2**0.5, rel=1e-4)
    assert adam.scaled_by is None
    assert decay.scaled_by == pytest.approx(1)
    assert decay.note == "a mask leaves the parameters out"
    assert rate.scaled_by == pytest.approx(-0.01)
    assert found.effective_rate == pytest.approx(0.01)
    assert (found.grad_norm, found.param_norm) == pytest.approx((1, 5))
    assert found.update_norm == pytest.approx(rate.after)
    assert found.update_ratio == pytest.approx(rate.after / 5)
    assert found.smallest is rate
    assert found.leaves == ("b",)
    assert "mask leaves out 1 of 2" in gx.explain(tx, PARAMS, GRADS).stages[2].note
    assert gx.explain(tx, PARAMS, GRADS, leaf=select.path("w")).stages[2].after > 2**0.5


def test_the_state_decides_the_step():
    """The hyperparameters shown are the values at the explained step; a fresh state means the first step."""
    tx = gx.sgd(RATE, momentum=0.9)
    _, state = tx.update(GRADS, tx.init(PARAMS))
    first, later = stages(tx)[0], stages(tx, state=state)[0]
    assert (first.fresh, later.fresh) == (True, False)
    assert first.stages[-1].numbers == pytest.approx({"learning_rate": 0.1})
    assert later.stages[-1].numbers == pytest.approx({"learning_rate": 0.09})
    assert later.stages[0].factor == pytest.approx(1.9)
    assert later.effective_rate == pytest.approx(0.09)


def test_groups_and_depths():
    tx = gx.partition({"fast": gx.sgd(1.0), "slow": gx.sgd(0.01)}, {"w": "fast", "b": "slow"})
    found, by_link = stages(tx)
    assert list(by_link) == ["partition.slow.scale_by_learning_rate"]
    assert found.effective_rate == pytest.approx(0.01)
    both, by_link = stages(tx, leaf=None)
    assert [x.leaves for x in both.stages] == [("w",), ("b",)]
    assert both.effective_rate is None
    found, _ = stages(gx.layerwise_lr_decay(gx.sgd(0.1), {"w": 0, "b": 2}, 0.5))
    assert found.effective_rate == pytest.approx(0.025)
    found, _ = stages(gx.chain(gx.sgd(0.1), gx.freeze(select.path("b"))))
    assert (found.update_norm, found.effective_rate, found.smallest.link) == (0, 0, "partition.masked.set_to_zero")


def test_accumulation_says_where_nothing_happens():
    tx = gx.accumulate(gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1)), 2)
    found, _ = stages(tx)
    assert [(x.link, x.after, x.note) for x in found.stages] == [("accumulate", 0, "what is inside took no step")]
    _, state = tx.update(jax.tree.map(lambda g: 3 * g, GRADS), tx.init(PARAMS), PARAMS)
    found, by_link = stages(tx, state=state)
    assert list(by_link) == ["accumulate (in)", "accumulate.clip_by_global_norm", "accumulate.scale_by_learning_rate"]
    assert by_link["accumulate (in)"].scaled_by == pytest.approx(2)  # the mean of the two gradients
    assert found.update_norm == pytest.approx(0.1 / NORM)


@pytest.mark.parametrize(
    ("tx", "links"),
    [
        (gx.inject_hyperparams(gx.sgd)(RATE), ["inject_hyperparams.scale_by_learning_rate"]),
        (gx.apply_if_finite(gx.with_metrics(gx.sgd(0.1))), ["apply_if_finite.with_metrics.scale_by_learning_rate"]),
        (gx.named_chain(("a", gx.scale(0.1)), ("b", gx.scale(-1.0))), ["a.scale", "b.scale"]),
        (gx.master_weights(gx.sgd(0.1)), ["master_weights.scale_by_learning_rate"]),
        (gx.chain(gx.scale(0.5), gx.chain(gx.scale(0.2), gx.identity())), ["scale[0]", "scale[1]", "identity"]),
    ],
)
def test_what_is_inside_of_wrappers(tx, links):
    found, by_link = stages(tx)
    assert list(by_link) == links
    assert found.update_norm == pytest.approx(0.1)
    assert abs(found.effective_rate) == pytest.approx(0.1)


def test_what_cannot_be_looked_into_says_so():
    found, by_link = stages(gx.chain(optax.adam(0.1), gx.scale(0.5)))
    assert by_link["GradientTransformation"].opaque
    assert "cannot be looked into" in found.stages[0].note
    assert found.effective_rate is None
    found, _ = stages(gx.flatten(gx.sgd(0.1)))
    assert "shown as one link" in found.stages[0].note
    assert found.update_norm == pytest.approx(0.1)


def test_tiny_and_zero_gradients():
    tiny = jax.tree.map(lambda g: 1e-200 * g, GRADS)
    found = gx.explain(gx.sgd(0.1), PARAMS, tiny)
    assert found.effective_rate == pytest.approx(0.1)
    zero = gx.explain(gx.adam(0.1), PARAMS, jax.tree.map(jnp.zeros_like, GRADS))
    assert (zero.grad_norm, zero.update_norm) == (0, 0)
    assert zero.effective_rate is None
    assert "nan" in str(zero)


def test_bad_calls():
    with pytest.raises(ValueError, match="matches no leaf"):
        gx.explain(gx.sgd(0.1), PARAMS, GRADS, leaf="c")
    with pytest.raises(TypeError, match="explain: leaf must be a path"):
        gx.explain(gx.sgd(0.1), PARAMS, GRADS, leaf=3)
    with pytest.raises(TypeError, match="explain: expected gradient transformations"):
        gx.explain(gx.sgd, PARAMS, GRADS)
    with pytest.raises(ValueError, match=r"outside of jax\.jit"):
        jax.jit(lambda g: gx.explain(gx.sgd(0.1), PARAMS, g).update_norm)(GRADS)
    with pytest.raises(ValueError, match="needs `value`"):
        gx.explain(gx.polyak_sgd(), PARAMS, GRADS)


# --- how it prints


def test_it_prints_as_text_html_and_with_rich(capsys):
    rich = pytest.importorskip("rich")
    found, _ = stages(gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1)))
    assert "clip_by_global_norm" in repr(found)
    html = found._repr_html_()
    assert html.count("<tr>") == 3
    assert gx.diff(gx.stateless(lambda u, p: u), gx.identity())._repr_html_().count("&lt;") >= 1
    rich.print(found)
    assert "scale_by_learning_rate" in capsys.readouterr().out
    found.show()  # the output is not a terminal, so it is the plain text
    assert capsys.readouterr().out.strip() == repr(found)


# --- diff


def test_equal_transformations_do_not_differ():
    for make in (
        lambda: gx.adamw(RATE, mask=select.path("w")),
        lambda: gx.chain(gx.clip(1.0), gx.accumulate(gx.sgd(0.1), 2)),
        lambda: gx.sgd(jnp.float32(0.1)),  # arrays with the same entries
        lambda: gx.partition({"a": gx.sgd(0.1)}, {"w": "a", "b": "a"}),
    ):
        assert not gx.diff(make(), make())
        assert repr(gx.diff(make(), make())) == "No differences."


def test_each_difference_is_one_change():
    def changes(a, b):
        return {x.name: (x.a, x.b) for x in gx.diff(a, b).changes}

    assert changes(gx.adam(0.1), gx.adam(0.2, b2=0.9)) == {
        "scale_by_adam.b2": (0.999, 0.9),
        "scale_by_learning_rate.learning_rate": (0.1, 0.2),
    }
    added = changes(gx.adam(0.1), gx.chain(gx.clip(1.0), gx.adamw(0.1)))
    assert list(added) == ["clip", "add_decayed_weights"]
    assert added["clip"] == (MISSING, gx.clip(1.0))
    assert changes(gx.sgd(RATE), gx.sgd(gx.linear_schedule(0.1, 0.0, 20))) == {
        "scale_by_learning_rate.learning_rate.transition_steps": (10, 20)
    }
    assert changes(gx.accumulate(gx.sgd(0.1), 2), gx.accumulate(gx.sgd(0.2), 4)) == {
        "accumulate.inner.scale_by_learning_rate.learning_rate": (0.1, 0.2),
        "accumulate.every": (2, 4),
    }
    groups = [gx.partition({"a": gx.sgd(x), "b": gx.sgd(1.0)}, {"w": "a", "b": "b"}) for x in (0.1, 0.2)]
    assert changes(*groups) == {"partition.a.scale_by_learning_rate.learning_rate": (0.1, 0.2)}
    assert changes(gx.sgd(0.1), gx.accumulate(gx.sgd(0.1), 2)).keys() == {"(the transformation itself)"}
    with pytest.raises(TypeError, match="diff: expected gradient transformations"):
        gx.diff(gx.sgd(0.1), 0.1)


# --- the links of a description


def test_a_description_says_which_link_reaches_which_parameters():
    tx = gx.chain(
        gx.clip_by_global_norm(1.0),
        gx.partition(
            {"train": gx.adamw(RATE, mask=select.maybe(select.path("c"))), "keep": gx.identity()},
            {"w": "train", "b": "keep"},
        ),
    )
    found = gx.describe(tx, PARAMS)
    reaches = {link.name: link.reaches for link in found.links}
    assert reaches == {
        "clip_by_global_norm": ("b", "w"),
        "partition": ("b", "w"),
        "partition.train.scale_by_adam": ("w",),
        "partition.train.add_decayed_weights": (),
        "partition.train.scale_by_learning_rate": ("w",),
        "partition.keep.identity": ("b",),
    }
    assert found.links[2].arguments["b1"] == 0.9
    lines = str(found).splitlines()
    assert next(x for x in lines if "add_decayed" in x).endswith("none")
    assert next(x for x in lines if "train.scale_by_adam" in x).endswith("w (1 of 2)")
    assert gx.describe(gx.flatten(gx.sgd(0.1)), PARAMS).links[-1].reaches is None


def test_a_description_names_the_parameters_that_no_link_reaches():
    found = gx.describe(gx.masked(gx.sgd(0.1), select.path("w")), PARAMS)
    assert found.unreached == ("b",)
    assert "No link reaches b (1 parameters)." in str(found)
    assert gx.describe(gx.sgd(0.1), PARAMS).unreached == ()
    assert "clip" in gx.describe(gx.clip(1.0), PARAMS)._repr_html_()
