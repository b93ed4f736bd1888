"""Moves a running training run from optax to gradtx, with its moments and its position in the schedule.

    python examples/move_from_optax.py

The first half of the run uses optax's AdamW with clipping and a schedule. Then `from_optax` converts the state of optax
to a state of gradtx, and the same chain in gradtx continues. The program prints the distance of the result from a run
that optax trained to the end.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import gradtx as gx
from gradtx.compat.optax import from_optax


def loss_of(params, images, labels):
    hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
    scores = hidden @ params["w2"] + params["b2"]
    return gx.losses.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args(argv).steps

    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images, jnp.float32) / 16, jnp.asarray(labels)
    keys = jax.random.split(jax.random.key(0))
    params = {
        "w1": jax.random.normal(keys[0], (64, 64)) / 8,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(keys[1], (64, 10)) / 8,
        "b2": jnp.zeros(10),
    }

    def train(tx, params, state, start, stop):
        @jax.jit
        def train_step(params, state, step):
            rows = jax.random.choice(jax.random.fold_in(jax.random.key(1), step), len(labels), (64,))
            grads = jax.grad(loss_of)(params, images[rows], labels[rows])
            updates, state = tx.update(grads, state, params)
            return gx.apply_updates(params, updates), state

        for step in range(start, stop):
            params, state = train_step(params, state, step)
        return params, state

    theirs = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.01, steps)))
    ours = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(gx.cosine_decay_schedule(0.01, steps)))

    half, state = train(theirs, params, theirs.init(params), 0, steps // 2)
    moved, _ = train(ours, half, from_optax(state, ours, half), steps // 2, steps)
    stayed, _ = train(theirs, half, state, steps // 2, steps)
    fresh, _ = train(ours, half, ours.init(half), steps // 2, steps)  # for comparison: with a new state

    def distance(a, b):
        return float(gx.tree.norm(gx.tree.sub(a, b)) / gx.tree.norm(b))

    print(f"relative distance from the run that stayed with optax: {distance(moved, stayed):.1e}")
    print(f"with a fresh state in place of the moved one:          {distance(fresh, stayed):.1e}")
    print(f"loss {loss_of(moved, images, labels):.4f} moved, {loss_of(stayed, images, labels):.4f} stayed")
    if distance(moved, stayed) > 1e-4:
        raise SystemExit("the moved run differs")


if __name__ == "__main__":
    main()
