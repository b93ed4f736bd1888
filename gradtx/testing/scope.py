"""Law 9: what a rule may look at.

An elementwise rule does not see the borders of leaves, a layerwise rule sees no other leaf, and a treewide rule sees
the leaves in no order.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gradtx.core.chain import chain
from gradtx.core.leafwise import Elementwise, Layerwise, Treewide
from gradtx.core.partition import partition
from gradtx.core.views import flatten
from gradtx.testing.calls import trajectory
from gradtx.testing.data import close, draw
from gradtx.testing.subject import NotApplicableError, Subject, law
from gradtx.wrappers.sam import sam
from gradtx.wrappers.skip_spikes import skip_spikes

ELEMENTWISE, LAYERWISE, TREEWIDE, UNKNOWN = range(4)
WIDTH = {Elementwise: ELEMENTWISE, Layerwise: LAYERWISE, Treewide: TREEWIDE}


def scope_of(subject: Subject) -> int | None:
    """Returns the scope that a subject states by its base class or its folder; None if it states none."""
    return None if subject.stated is None else scope(subject.stated)


def scope(tx: Any) -> int:
    """Returns the widest scope of the links: composition adds nothing.

    A class from outside of gradtx only states its scope by its base class. If it states none, and for a user's
    function, the scope is `UNKNOWN`, about which there is no law.
    """
    if isinstance(tx, chain):
        return max((scope(link) for link in tx.links), default=ELEMENTWISE)
    if isinstance(tx, partition):
        return max(scope(group) for group in tx.transforms)
    if isinstance(tx, flatten):
        return max(scope(tx.inner), TREEWIDE) if scope(tx.inner) else ELEMENTWISE  # its one leaf is the whole tree
    if hasattr(tx, "inner"):
        other = scope(tx.adv_optimizer) if isinstance(tx, sam) else TREEWIDE * isinstance(tx, skip_spikes)
        return max(scope(tx.inner), other)
    based = (width for cls, width in WIDTH.items() if isinstance(tx, cls))
    if getattr(tx, "foreign", False) or not type(tx).__module__.startswith("gradtx."):
        return next(based, UNKNOWN)
    named = (width for cls, width in WIDTH.items() if f".{cls.__name__.lower()}." in type(tx).__module__)
    return next(based, next(named, ELEMENTWISE))


def _must_be(subject: Subject, wanted: int) -> None:
    if "mask={" in subject.expression:
        raise NotApplicableError("a mask says which leaves")
    if scope_of(subject) != wanted:
        raise NotApplicableError("the scope is another, or none is stated")


@law(9, "elementwise", unless="scope")
def leaves_may_be_glued_together(subject: Subject) -> None:
    """An elementwise rule gives the same for a tree as for one vector of all its entries."""
    _must_be(subject, ELEMENTWISE)
    glued = jax.vmap(lambda g: ravel_pytree(g)[0])(subject.grads)
    with jax.disable_jit():
        whole = trajectory(subject.tx, ravel_pytree(subject.params)[0], glued)[0]
    apart = jax.vmap(lambda u: ravel_pytree(u)[0])(subject.expected[0])
    close(whole, apart, rtol=1e-12, atol=1e-15, about="other updates where all leaves are glued into one vector")


@law(9, "layerwise", unless="scope")
def leaves_ignore_each_other(subject: Subject) -> None:
    """A layerwise rule gives the same for a leaf alone as in its tree, and something else for single entries."""
    _must_be(subject, LAYERWISE)
    with jax.disable_jit():
        for i, p in enumerate(jax.tree.leaves(subject.params)):
            alone = trajectory(subject.tx, p, jax.tree.leaves(subject.grads)[i])[0]
            among = jax.tree.leaves(subject.expected[0])[i]
            close(alone, among, rtol=1e-12, atol=1e-15, about="other updates where a leaf is alone")
        g = draw(1)["w"][:6].reshape(2, 2, 3)  # two steps of a matrix that is not square
        whole = trajectory(subject.tx, g[0], g)[0]
        entries = [trajectory(subject.tx, g[0, i, j], g[:, i, j])[0] for i in range(2) for j in range(3)]
    assert not jnp.allclose(whole.reshape(2, 6), jnp.stack(entries, axis=1)), "it claims a wider scope than it needs"


@law(9, "treewide", unless="scope")
def the_order_of_leaves_does_not_matter(subject: Subject) -> None:
    """A treewide rule gives the same for the leaves in another order."""
    _must_be(subject, TREEWIDE)

    def backwards(tree: Any) -> dict[int, Any]:
        return dict(enumerate(reversed(jax.tree.leaves(tree))))

    with jax.disable_jit():
        turned = trajectory(subject.tx, backwards(subject.params), backwards(subject.grads))[0]
    about = "other updates where the leaves come in another order"
    close(turned, backwards(subject.expected[0]), rtol=1e-9, atol=1e-14, about=about)
