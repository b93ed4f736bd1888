"""Law 8 for collectives: a step on a mesh has at most as many collective operations as optax's step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gradtx.testing.mesh import SPECS, collectives, mesh_of
from tests.cases import draw, update
from tests.laws.subject import NotApplicableError, law


def laid_out(state, params):
    """Returns the shapes of a state on a mesh: an array with the shape of a parameter is sharded like the parameter."""
    named = {keys(path)[-1:]: p for path, p in jax.tree_util.tree_leaves_with_path(params)}
    mesh = next(iter(named.values())).sharding.mesh

    def place(path, x):
        p = named.get(keys(path)[-1:])
        own = p is None or np.shape(x)[np.ndim(x) - p.ndim :] != p.shape
        spec = PartitionSpec() if own else PartitionSpec(*[None] * (np.ndim(x) - p.ndim), *p.sharding.spec)
        return jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x), sharding=NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(place, state)


def keys(path):
    """Returns the names in a path."""
    return tuple(part.key for part in path if isinstance(part, jax.tree_util.DictKey))


def sent(tx, params, step=update):
    """Returns the collectives of a compiled step, from the shapes of parameters on a mesh; nothing runs."""
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    state = laid_out(jax.eval_shape(tx.init, shapes), params)
    return collectives(jax.jit(lambda g, state, p: step(tx, g, state, p)).lower(params, state, params).compile())


@law(8, "collectives", of_values=True, unless="collectives")
def no_more_collectives_than_optax(subject):
    """A compiled step on 8 devices has no more collectives than optax's step, and gathers no more arrays."""
    case = subject.case
    if case.optax is None:
        raise NotApplicableError(case.why)
    mesh = mesh_of(AxisType.Auto)
    places = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
    params = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), draw(0, "float32"), places
    )
    ours = sent(subject.tx, params)
    with jax.numpy_rank_promotion("allow"):  # optax needs this
        theirs = sent(optax.with_extra_args_support(case.reference()), params)
    assert len(ours) <= len(theirs), f"{ours}, where optax has {theirs}"
    gathers = [len([x for x in found if x != "all-reduce"]) for found in (ours, theirs)]
    assert gathers[0] <= gathers[1], f"{ours}, where optax has {theirs}"
