"""`gx.testing.check` passes transformations that keep the contract, and names the law that a transformation breaks."""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

import gradtx as gx
from gradtx import rules
from gradtx.testing.subject import LAWS

# --- transformations that keep the contract


class MeanState(NamedTuple):
    count: jax.Array = rules.counter()
    mean: jax.Array = rules.per_param()


class moving_mean(rules.Elementwise, state=MeanState):
    """The moving average of the gradients."""

    decay: rules.Hyper = rules.hyper(default=0.9, ge=0, lt=1)

    def update_leaf(self, g, slots, p, shared):
        del p, shared
        mean = self.decay * slots.mean + (1 - self.decay) * g
        return mean, slots._replace(mean=mean)


class negated(rules.Wrapper):
    """Negates the updates of `inner`."""

    def step(self, updates, state, params, extra):
        updates, state = self.inner_update(updates, state, params, extra)
        return jax.tree.map(lambda u: -u, updates), state


@pytest.mark.heavy
@pytest.mark.parametrize("tx", [moving_mean(0.8), negated(moving_mean()), gx.adam(0.1)], ids=repr)
def test_what_keeps_the_contract_passes(tx):
    report = gx.testing.check(tx)
    assert report.passed, report
    report.raise_if_broken()
    assert {v.number for v in report.verdicts} == {*range(1, 12), 13, 14, 15}
    # All other laws ran at least one check.
    assert [v.name for v in report.verdicts if not v.total] == ["layerwise", "treewide"]


# --- transformations that break a law


class narrowing(moving_mean):
    """Broken: the state is float16 after the first step."""

    def update(self, updates, state, params=None, **extra):
        updates, state = super().update(updates, state, params, **extra)
        return updates, state._replace(mean=jax.tree.map(lambda x: x.astype("float16"), state.mean))


class cubed(rules.Elementwise):
    """Broken: overflows for large gradients."""

    def update_leaf(self, g, slots, p, shared):
        del p, shared
        return g**3, slots


class rooted(rules.Elementwise):
    """Broken: has an infinite derivative at zero."""

    def update_leaf(self, g, slots, p, shared):
        del p, shared
        return jnp.sqrt(jnp.abs(g)), slots


class unit_norm(rules.Elementwise):
    """Broken: claims to be elementwise, but divides by the norm of the leaf."""

    def update_leaf(self, g, slots, p, shared):
        del p, shared
        return g / jnp.maximum(gx.tree.norm(g), 1e-3), slots


class keeping(gx.GradientTransformation):
    """Broken: the state shares buffers with the parameters."""

    def init(self, params):
        return {"first": params}

    def update(self, updates, state, params=None, **extra):
        self._check_extra(extra)
        return updates, state


class deaf(moving_mean):
    """Accepts any extra argument."""

    def _check_extra(self, extra):
        pass


@pytest.mark.parametrize(
    ("tx", "number", "name", "said"),
    [
        (narrowing(), 3, "stable state", "shapes or dtypes differ"),
        (cubed(), 5, "finite", "updates['w'] not finite for bfloat16 gradients: large, max"),
        (rooted(), 6, "derivatives", "derivatives at gradients"),
        (keeping(), 7, "own buffers", "share a buffer"),
        (unit_norm(), 9, "elementwise", "updates differ if all leaves are concatenated"),
        (deaf(), 11, "bad trees", "deaf: an unknown extra argument: accepted"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, gx.GradientTransformation) else None,
)
def test_the_broken_law_is_named(tx, number, name, said):
    report = gx.testing.check(tx, laws=number)
    assert not report.passed
    (verdict,) = (v for v in report.verdicts if v.passed < v.total)
    assert (verdict.number, verdict.name) == (number, name)
    assert said in verdict.problem
    with pytest.raises(AssertionError) as failure:
        report.raise_if_broken()
    for part in (repr(tx), f"law {number} {name}", verdict.promise):
        assert part in str(failure.value)


def test_the_report_is_a_table():
    report = gx.testing.check(deaf(), laws=["own buffers", 11], unless={"finite": "it is a sum"})
    assert str(report).splitlines() == [
        "deaf(decay=0.9)",
        "law  name         outcome  why",
        "7    own buffers  kept",
        "11   bad states   kept",
        "11   bad trees    broken   1 of 13: deaf: an unknown extra argument: accepted",
    ]


def test_an_exception_is_no_failure():
    report = gx.testing.check(cubed(), laws=5, unless={"finite": "the cube of a large number overflows"})
    assert report.passed
    assert "does not apply  the cube of a large number overflows" in str(report)


class failing(gx.GradientTransformation):
    """Raises an error in every call."""

    def init(self, params):
        raise RuntimeError("no state")

    def __repr__(self):
        raise RuntimeError("no repr")


def test_an_error_in_a_law_is_a_broken_law():
    report = gx.testing.check(failing(), laws=[1, 7])
    assert [v.outcome for v in report.verdicts] == ["broken"] * 4
    assert str(report).startswith("failing(...)\n")
    assert "RuntimeError: no state" in str(report)


def test_a_class_without_a_scope_is_asked_none():
    assert [v.total for v in gx.testing.check(keeping(), laws=9).verdicts] == [0, 0, 0]
    assert [v.total for v in gx.testing.check(gx.stateless(gx.tree.norm), laws=9).verdicts] == [0, 0, 0]


class hungry(rules.Layerwise, needs=("temperature",)):
    """Needs an extra argument that the laws do not know."""


class slope_follower(rules.Elementwise, needs=("grad",)):
    """Needs an extra argument that the laws know."""

    def update_leaf(self, g, slots, p, shared):
        del p, shared
        return g, slots


def test_extra_arguments_are_supplied_to_a_link_too():
    assert gx.testing.check(gx.chain(slope_follower(), gx.scale(0.5)), laws=[3, 4]).passed


@pytest.mark.parametrize(
    ("tx", "options", "kind", "said"),
    [
        (3.0, {}, TypeError, "got 3.0 of type float. Give a value, such as gx.adam"),
        (gx.scale, {}, TypeError, r"Make one first: check\(scale\(...\)\)"),
        (gx.constant_schedule(0.1), {}, TypeError, "must be a gradtx transformation"),
        (gx.identity(), {"laws": "stability"}, ValueError, "no law 'stability' .* 3 'stable state'"),
        (gx.identity(), {"laws": [1, 12]}, ValueError, "no law 12 .* numbers or names"),
        (gx.identity(), {"laws": []}, ValueError, "nothing would be judged"),
        (gx.identity(), {"unless": {"infinite": "why"}}, ValueError, "no exception 'infinite'.*'finite' "),
        (gx.identity(), {"unless": {"finite": ""}}, ValueError, r"unless\['finite'\] must say why"),
        (hungry(), {}, ValueError, "needs the extra argument 'temperature', which the laws cannot supply"),
        (gx.add_decayed_weights(0.1, mask={"b": True}), {}, ValueError, "add_decayed_weights.mask is made for one"),
    ],
)
def test_bad_calls_say_what_to_do(tx, options, kind, said):
    with pytest.raises(kind, match=said):
        gx.testing.check(tx, **options)


def test_the_configuration_is_set_and_restored():
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"), jax.disable_jit(), jax.debug_nans(True):
        report = gx.testing.check(gx.scale(0.5), laws=[2, 3, 5, 8])
        assert not jax.config.jax_enable_x64
        assert jax.config.jax_numpy_rank_promotion == "allow"
        assert jax.config.jax_disable_jit
        assert jax.config.jax_debug_nans
    assert report.passed, report


def test_the_exceptions_are_those_of_the_laws():
    assert set(gx.testing.EXCEPTIONS) == {law.unless for law in LAWS if law.unless} | {"complex", "own steps"}


def test_the_laws_are_imported_on_first_use_and_need_no_test_library():
    heavy = ["optax", "chex", "pytest", "hypothesis", "matplotlib"]
    code = f"""if True:
        import sys, gradtx
        gradtx.adam(0.1)
        assert "gradtx.testing" not in sys.modules
        gradtx.testing.check
        print([m for m in {heavy} if m in sys.modules])
    """
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_there_are_eight_devices():
    """With fewer devices the laws about meshes would not apply, and no other test would notice."""
    assert len(jax.local_devices(backend="cpu")) >= 8


def test_a_selector_says_which_leaves_so_that_scope_is_not_asked():
    report = gx.testing.check(gx.adamw(1e-3, mask=gx.select.ndim(min=2)), laws=[9])
    assert report.passed
    assert "a selector says which leaves" in str(report)
