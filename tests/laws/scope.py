"""Law 9: what a rule may look at. Elementwise rules do not see the borders of leaves, layerwise ones no other leaf."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

import gradtx as gx
from tests.cases import close, draw, trajectory
from tests.laws.subject import GRADS, PARAMS, NotApplicableError, law
from tests.libraries import GRADTX

ELEMENTWISE, LAYERWISE, TREEWIDE = range(3)
WIDTH = {gx.rules.Elementwise: ELEMENTWISE, gx.rules.Layerwise: LAYERWISE, gx.rules.Treewide: TREEWIDE}


def scope_of(subject):
    """The scope of a case: that of gradtx's method of this name, whose folder states it; None if there is none."""
    try:
        return scope(GRADTX.make(subject.case.expression))
    except (NameError, TypeError, ValueError):
        return None


def scope(tx):
    """The widest scope of the links: composition adds nothing."""
    if isinstance(tx, gx.chain):
        return max((scope(link) for link in tx.links), default=ELEMENTWISE)
    if isinstance(tx, gx.partition):
        return max(scope(group) for group in tx.transforms)
    if isinstance(tx, gx.flatten):
        return TREEWIDE if scope(tx.inner) else ELEMENTWISE  # a leaf as a whole is the whole tree then
    if hasattr(tx, "inner"):
        other = scope(tx.adv_optimizer) if isinstance(tx, gx.sam) else TREEWIDE * isinstance(tx, gx.skip_spikes)
        return max(scope(tx.inner), other)
    named = (width for cls, width in WIDTH.items() if f".{cls.__name__.lower()}." in type(tx).__module__)
    return next((width for cls, width in WIDTH.items() if isinstance(tx, cls)), next(named, ELEMENTWISE))


def _must_be(subject, wanted):
    if "mask={" in subject.case.expression:
        raise NotApplicableError("a mask says which leaves")
    if scope_of(subject) != wanted:
        raise NotApplicableError("the scope is another, or gradtx has no such method, whose folder would state it")


@law(9, "elementwise", unless="scope")
def leaves_may_be_glued_together(subject):
    """An elementwise rule gives the same for a tree and for the vector of all its entries."""
    _must_be(subject, ELEMENTWISE)
    glued = jax.vmap(lambda g: ravel_pytree(g)[0])(GRADS)
    with jax.disable_jit():
        whole = trajectory(subject.tx, ravel_pytree(PARAMS)[0], glued)[0]
    close(whole, jax.vmap(lambda u: ravel_pytree(u)[0])(subject.expected[0]), rtol=1e-12, atol=1e-15)


@law(9, "layerwise", unless="scope")
def leaves_ignore_each_other(subject):
    """A layerwise rule gives the same for a leaf alone, and not the same for the entries of a leaf alone."""
    _must_be(subject, LAYERWISE)
    with jax.disable_jit():
        for i, p in enumerate(jax.tree.leaves(PARAMS)):
            alone = trajectory(subject.tx, p, jax.tree.leaves(GRADS)[i])[0]
            close(alone, jax.tree.leaves(subject.expected[0])[i], rtol=1e-12, atol=1e-15)
        g = draw(1)["w"][:6].reshape(2, 2, 3)  # two steps of a matrix that is not square
        whole = trajectory(subject.tx, g[0], g)[0]
        entries = [trajectory(subject.tx, g[0, i, j], g[:, i, j])[0] for i in range(2) for j in range(3)]
    assert not jnp.allclose(whole.reshape(2, 6), jnp.stack(entries, axis=1)), "it claims a wider scope than it needs"
