"""Law 9: which entries and leaves an update may depend on, the rule's scope.

In an elementwise rule, the update of an entry depends only on this entry, so that leaves may be concatenated. In a
layerwise rule, the update of a leaf depends only on this leaf. In a treewide rule, it may depend on all leaves, but not
on their order.
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
    """Returns the scope that a transformation states by its base class or its folder; None if it states no scope."""
    return None if subject.stated is None else scope(subject.stated)


def scope(tx: Any) -> int:
    """Returns the widest scope of the transformations inside `tx`; chains and wrappers do not widen it.

    A class from outside of gradtx states its scope by its base class. Without such a base class, and for a user's
    function, the scope is `UNKNOWN`, and no law applies.
    """
    if isinstance(tx, chain):
        return max((scope(link) for link in tx.links), default=ELEMENTWISE)
    if isinstance(tx, partition):
        return max(scope(group) for group in tx.transforms)
    if isinstance(tx, flatten):
        return max(scope(tx.inner), TREEWIDE) if scope(tx.inner) else ELEMENTWISE  # `inner` sees one leaf
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
        raise NotApplicableError("a mask chooses leaves by path")
    if scope_of(subject) != wanted:
        raise NotApplicableError("tx has a different scope, or does not state one")


@law(9, "elementwise", unless="scope")
def leaves_may_be_glued_together(subject: Subject) -> None:
    """An elementwise rule gives the same updates if all leaves are concatenated into one vector."""
    _must_be(subject, ELEMENTWISE)
    glued = jax.vmap(lambda g: ravel_pytree(g)[0])(subject.grads)
    with jax.disable_jit():
        whole = trajectory(subject.tx, ravel_pytree(subject.params)[0], glued)[0]
    apart = jax.vmap(lambda u: ravel_pytree(u)[0])(subject.expected[0])
    close(whole, apart, rtol=1e-12, atol=1e-15, about="updates differ if all leaves are concatenated into one vector")


@law(9, "layerwise", unless="scope")
def leaves_ignore_each_other(subject: Subject) -> None:
    """A layerwise rule gives a leaf the same update with and without the other leaves; it is not elementwise."""
    _must_be(subject, LAYERWISE)
    with jax.disable_jit():
        for i, p in enumerate(jax.tree.leaves(subject.params)):
            alone = trajectory(subject.tx, p, jax.tree.leaves(subject.grads)[i])[0]
            among = jax.tree.leaves(subject.expected[0])[i]
            close(alone, among, rtol=1e-12, atol=1e-15, about="updates differ if the other leaves are missing")
        g = draw(1)["w"][:6].reshape(2, 2, 3)  # gradients of two steps, for a matrix that is not square
        whole = trajectory(subject.tx, g[0], g)[0]
        entries = [trajectory(subject.tx, g[0, i, j], g[:, i, j])[0] for i in range(2) for j in range(3)]
    assert not jnp.allclose(whole.reshape(2, 6), jnp.stack(entries, axis=1)), (
        "the rule is elementwise: state this scope"
    )


@law(9, "treewide", unless="scope")
def the_order_of_leaves_does_not_matter(subject: Subject) -> None:
    """A treewide rule gives the same updates if the leaves are reordered."""
    _must_be(subject, TREEWIDE)

    def backwards(tree: Any) -> dict[int, Any]:
        return dict(enumerate(reversed(jax.tree.leaves(tree))))

    with jax.disable_jit():
        turned = trajectory(subject.tx, backwards(subject.params), backwards(subject.grads))[0]
    about = "updates differ if the leaves are reordered"
    close(turned, backwards(subject.expected[0]), rtol=1e-9, atol=1e-14, about=about)
