"""Runs laws 1 to 10 on random chains and random trees, if the law holds for every chain on every tree.

A chain is drawn as an expression with its hyperparameters. A failure shows the expression; `GRADTX.make(expression)`
rebuilds the chain. The quick run draws a few examples, always the same; `-m heavy` draws four times as many.
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
    """Makes a test of a law with `examples` random examples (four times as many if `heavy`), the same in each run."""

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
    """Laws 1, 3, 4, 7 and 10, which need only shapes, so nothing is compiled."""
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
    """Law 7: a fresh state has its own buffers, and `jax.eval_shape` predicts it."""
    tx, params = GRADTX.make(expression), params_of(tree)
    shares_nothing(tx, params)
    as_its_shapes_say(tx, params)


def some(trees):
    """Draws trees with at least one leaf."""
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
    """Whether finite gradients give finite updates and states.

    The registry makes exceptions, with reasons, for sums and for factors above 1. The random numbers are at most 1,
    because 2 times the largest number is infinite.
    """
    return "finite" not in case.unless and case.constructor not in OVERFLOW


@fuzz(4, expression=chains(stays_finite, largest=1.0, most=3, depth=1), tree=some(trees(1, SHAPES[:3])))
def test_finite_in_finite_out(expression, tree):
    """Law 5 outside of jit, so that only new shapes compile, for random gradients and two further sequences."""
    tx = GRADTX.make(expression)
    for kind in (None, "max", "late"):
        same = jax.tree.map(lambda leaf, kind=kind: dataclasses.replace(leaf, kind=kind or leaf.kind), tree)
        with jax.disable_jit():
            seen = one_by_one(tx, params_of(same), grads_of(same))
        assert finite(seen), (kind, seen)


@fuzz(4, expression=chains(most=3, depth=1), tree=some(trees(1, dtypes=["float64"], kinds=["plain"])))
def test_jit_and_vmap(expression, tree):
    """Law 8: a compiled loop equals single steps, and a batch of two runs equals two separate runs."""
    tx, params, grads = GRADTX.make(expression), params_of(tree), grads_of(tree)
    run = jax.jit(lambda params, grads: trajectory(tx, params, grads))
    first, second = stack(grads), stack(grads[::-1])
    expected = run(params, first)
    close(stack(one_by_one(tx, params, grads)), expected, rtol=1e-10, atol=1e-13)
    batch = jax.jit(jax.vmap(run, in_axes=(None, 0)))(params, stack([first, second]))
    close(at(batch, 0), expected, rtol=1e-10, atol=1e-13)
    close(at(batch, 1), run(params, second), rtol=1e-10, atol=1e-13)
