"""Law 8, the collectives: a step on a mesh lets the devices wait for each other no more often than optax's."""

import jax
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gradtx.testing.mesh import collectives, mesh_of, placed
from tests.cases import draw, update
from tests.laws.subject import NotApplicableError, law


def sent(tx):
    """The collectives of a compiled step on 8 devices, in float32."""
    mesh = mesh_of(AxisType.Auto)
    everywhere = NamedSharding(mesh, PartitionSpec())
    params = placed(draw(0, "float32"), mesh)
    state = jax.tree.map(
        lambda x: x if len(x.sharding.device_set) == 8 else jax.device_put(x, everywhere), tx.init(params)
    )
    return collectives(jax.jit(lambda g, state, p: update(tx, g, state, p)).lower(params, state, params).compile())


@law(8, "collectives", of_values=True, unless="collectives")
def no_more_collectives_than_optax(subject):
    """A compiled step on 8 devices has no more collectives than optax's step, and gathers no more arrays."""
    case = subject.case
    if case.optax is None:
        raise NotApplicableError(case.why)
    ours = sent(subject.tx)
    with jax.numpy_rank_promotion("allow"):  # for optax's sake
        theirs = sent(optax.with_extra_args_support(case.reference()))
    assert len(ours) <= len(theirs), f"{ours}, where optax has {theirs}"
    gathers = [len([x for x in found if x != "all-reduce"]) for found in (ours, theirs)]
    assert gathers[0] <= gathers[1], f"{ours}, where optax has {theirs}"
