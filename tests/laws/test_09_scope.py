"""Law 9: what a rule may look at. Elementwise rules do not see the borders of leaves, layerwise ones no other leaf."""

import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

import gradtx as gx
from tests.cases import close, costly, draw, kept, stack, trajectory

PARAMS = draw(0)
GRADS = stack([draw(i + 1) for i in range(3)])
WIDTH = {gx.Elementwise: 0, gx.Layerwise: 1, gx.Treewide: 2}


def scope(tx):
    """The widest scope of the links: composition adds nothing."""
    if isinstance(tx, gx.chain):
        return max((scope(link) for link in tx.links), default=0)
    if isinstance(tx, gx.partition):
        return max(scope(group) for group in tx.transforms)
    if isinstance(tx, gx.flatten):
        return 2 if scope(tx.inner) else 0  # a leaf as a whole is the whole tree then
    if hasattr(tx, "inner"):
        other = scope(tx.adv_optimizer) if isinstance(tx, gx.sam) else 2 * isinstance(tx, gx.skip_spikes)
        return max(scope(tx.inner), other)
    named = (width for cls, width in WIDTH.items() if f".{cls.__name__.lower()}." in type(tx).__module__)
    return next((width for cls, width in WIDTH.items() if isinstance(tx, cls)), next(named, 0))


def cases(width):
    found = [case for case in kept("scope") if scope(case.make()) == width]
    return [case for case in found if "mask={" not in case.expression]  # a mask says which leaves


@pytest.mark.parametrize("case", costly(11, cases(0)))
def test_elementwise(case):
    tx = case.make()
    glued = jax.vmap(lambda g: ravel_pytree(g)[0])(GRADS)
    whole = jax.jit(lambda p, g: trajectory(tx, p, g))(ravel_pytree(PARAMS)[0], glued)
    apart = jax.jit(lambda p, g: trajectory(tx, p, g))(PARAMS, GRADS)
    close(whole[0], jax.vmap(lambda u: ravel_pytree(u)[0])(apart[0]), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", costly(12, cases(1)))
def test_layerwise(case):
    tx = case.make()
    together = jax.jit(lambda p, g: trajectory(tx, p, g))(PARAMS, GRADS)
    for i, p in enumerate(jax.tree.leaves(PARAMS)):
        alone = trajectory(tx, p, jax.tree.leaves(GRADS)[i])
        close(alone[0], jax.tree.leaves(together[0])[i], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", costly(13, cases(1)))
def test_layerwise_is_not_elementwise(case):
    """A rule claims no wider scope than it needs."""
    tx = case.make()
    g = draw(1)["w"][:6].reshape(2, 2, 3)  # two steps of a matrix that is not square
    whole = trajectory(tx, g[0], g)[0]
    alone = [trajectory(tx, g[0, i, j], g[:, i, j])[0] for i in range(2) for j in range(3)]
    assert not jnp.allclose(whole.reshape(2, 6), jnp.stack(alone, axis=1))


def test_the_folder_of_an_optimizer_is_the_scope_of_its_rules():
    rules = [cls for cls in vars(gx).values() if isinstance(cls, type) and issubclass(cls, tuple(WIDTH))]
    for cls in rules:
        if ".optimizers." in cls.__module__:
            (base,) = (base for base in WIDTH if issubclass(cls, base))
            assert f".optimizers.{base.__name__.lower()}." in cls.__module__, cls


def test_treewide_is_not_layerwise():
    tx = gx.clip_by_global_norm(0.5)
    g = {"a": jnp.asarray([3.0]), "b": jnp.asarray([0.1])}
    both = trajectory(tx, g, stack([g, g]))[0]["b"]
    alone = trajectory(tx, g["b"], stack([g["b"], g["b"]]))[0]
    assert not jnp.allclose(both, alone)
