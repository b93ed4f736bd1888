"""Shards the state of an optimizer over a mesh of devices.

`state_shardings` derives a `NamedSharding` for every array of a state, `init` creates the state with these shardings,
and `update` keeps them. `over` is for transformations inside `jax.shard_map`. docs/scale.md shows them at work.
"""

from gradtx.sharding.layout import state_shardings as state_shardings
from gradtx.sharding.over import over as over
from gradtx.sharding.placed import constrain as constrain
from gradtx.sharding.placed import init as init
from gradtx.sharding.placed import update as update
from gradtx.sharding.plan import Plan as Plan
from gradtx.sharding.plan import plan as plan

__all__ = ["Plan", "constrain", "init", "over", "plan", "state_shardings", "update"]
