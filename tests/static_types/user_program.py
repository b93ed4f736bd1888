"""A user's program without type errors; `tests/test_types.py` type-checks and runs it."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

import gradtx as gx

Params = dict[str, jax.Array]


def loss_of(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def make_optimizer(steps: int, weight_decay: float = 1e-2) -> gx.chain:
    schedule = gx.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=steps // 10, decay_steps=steps)
    inner = gx.adamw(schedule, weight_decay=weight_decay, mask=gx.select.ndim(min=1) & ~gx.select.path("b"))
    return gx.chain(gx.clip_by_global_norm(1.0), optax.zero_nans(), gx.accumulate(inner, 2))


@partial(jax.jit, donate_argnums=(1, 2))
def train_step(
    tx: gx.GradientTransformation, params: Params, state: gx.types.State, x: jax.Array, y: jax.Array
) -> tuple[Params, gx.types.State, jax.Array]:
    loss, grads = jax.value_and_grad(loss_of)(params, x, y)
    updates, state = tx.update(grads, state, params, value=loss)
    return gx.apply_updates(params, updates), state, loss


def main(steps: int = 10) -> float:
    x, loss = jnp.linspace(0.0, 1.0, 24).reshape(8, 3), jnp.asarray(0.0)
    params: Params = {"w": jnp.zeros(3), "b": jnp.zeros(())}
    tx = gx.with_metrics(gx.apply_if_finite(make_optimizer(steps)), groups={"w": gx.select.path("w")})
    state = tx.init(params)
    for _ in range(steps):
        params, state, loss = train_step(tx, params, state, x, x.sum(axis=1))
    rates = {name: float(value) for name, value in gx.metrics(state).items() if "learning_rate" in name}
    nbytes: int = gx.describe(tx, params).nbytes
    first: gx.GradientTransformation = tx.replace(weight_decay=0.1)
    print(f"{loss:.3f} {rates} {nbytes} {bool(gx.diff(tx, first))}")
    return float(loss)
