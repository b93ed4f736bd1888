"""The laws over chains and trees that nobody thought of: law 1 to 10 where they are laws of any chain on any tree.

A chain is drawn as an expression, with its numbers and schedules, and a failure shows it: `GRADTX.make` of the text
is the chain again. The quick run draws a few examples, always the same; `-m heavy` four times as many.
"""

import dataclasses

import jax
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from gradtx.testing.donation import as_its_shapes_say, shares_nothing
from gradtx.testing.state import alike, asks_for_a_dtype, step, wide
from gradtx.testing.transforms import one_by_one
from gradtx.testing.value import rebuilds
from tests.cases import FUNCTIONS, at, close, finite, stack, trajectory
from tests.libraries import GRADTX
from tests.strategies import SHAPES, Leaf, chains, grads_of, params_of, trees

SIZES = [pytest.param(1, id="quick"), pytest.param(4, id="heavy", marks=pytest.mark.heavy)]


def fuzz(examples, **drawn):
    """A test of a law over `examples` drawn ones, and over four times as many when `heavy`; the same ones each time."""

    def decorated(law):
        @pytest.mark.parametrize("times", SIZES)
        def test(times):
            given(**drawn)(
                settings(
                    max_examples=times * examples,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate, Phase.shrink],
                    suppress_health_check=[HealthCheck.too_slow],  # while the cases are read for the first time
                )(law)
            )()

        test.__doc__ = law.__doc__
        return test

    return decorated


@fuzz(20, expression=chains(), tree=trees())
def test_shapes(expression, tree):
    """Laws 1, 3, 4, 7 and 10: of shapes alone, so nothing is compiled."""
    tx = GRADTX.make(expression)
    rebuilds(tx, FUNCTIONS)
    params, grads = (jax.tree.map(abstract, tree) for abstract in (Leaf.abstract_param, Leaf.abstract_grad))
    state, updates, after = step(tx, params, grads)
    alike(after, state, "the state after a step")
    alike(updates, grads, "the updates")
    if not asks_for_a_dtype(expression):
        wide(tx, params)


@fuzz(25, expression=chains(), tree=trees())
def test_fresh_states(expression, tree):
    """Law 7: a fresh state has its own buffers, and is what `jax.eval_shape` says."""
    tx, params = GRADTX.make(expression), params_of(tree)
    shares_nothing(tx, params)
    as_its_shapes_say(tx, params)


def some(trees):
    """Those with a leaf."""
    return trees.filter(jax.tree.leaves)


OVERFLOW = {
    "reduce_on_plateau": "in a wrapper that leaves its first step out, the best value stays infinite",
    "scale_by_stddev": "with decay 0 the variance is zero, and the update g / eps",
    "rmsprop": "as above, where it is centered",
    "orthograd": "an entry may become as large as the norm of all",
    **dict.fromkeys(("trace", "sgd"), "a sum: finite of gradients whose sign flips, and not of another such sum"),
    **dict.fromkeys(("scale_by_belief", "adabelief"), "with b1 = 0 no gradient differs from its average: as above"),
}
"""Constructors that may honestly leave the range of a dtype, in other settings than those of the registry."""


def stays_finite(case):
    """Whether finite gradients give finite updates and states; the registry excepts sums and gains above 1, with why.

    The numbers drawn are 1 at most, since 2 times the largest number is infinite.
    """
    return "finite" not in case.unless and case.constructor not in OVERFLOW


@fuzz(4, expression=chains(stays_finite, largest=1.0, most=3, depth=1), tree=some(trees(1, SHAPES[:3])))
def test_finite_in_finite_out(expression, tree):
    """Law 5, operation by operation, so that only new shapes compile: for the gradients drawn, and two more."""
    tx = GRADTX.make(expression)
    for kind in (None, "max", "late"):
        same = jax.tree.map(lambda leaf, kind=kind: dataclasses.replace(leaf, kind=kind or leaf.kind), tree)
        with jax.disable_jit():
            seen = one_by_one(tx, params_of(same), grads_of(same))
        assert finite(seen), (kind, seen)


@fuzz(4, expression=chains(most=3, depth=1), tree=some(trees(1, dtypes=["float64"], kinds=["plain"])))
def test_jit_and_vmap(expression, tree):
    """Law 8: a compiled loop gives what single steps give, and a batch of two what the two give by themselves."""
    tx, params, grads = GRADTX.make(expression), params_of(tree), grads_of(tree)
    run = jax.jit(lambda params, grads: trajectory(tx, params, grads))
    first, second = stack(grads), stack(grads[::-1])
    expected = run(params, first)
    close(stack(one_by_one(tx, params, grads)), expected, rtol=1e-10, atol=1e-13)
    batch = jax.jit(jax.vmap(run, in_axes=(None, 0)))(params, stack([first, second]))
    close(at(batch, 0), expected, rtol=1e-10, atol=1e-13)
    close(at(batch, 1), run(params, second), rtol=1e-10, atol=1e-13)
