"""Saves a run with orbax, and resumes it with bit for bit the same result.

    python examples/resume_with_orbax.py

A state of gradtx is a tree of arrays, so orbax can save it directly, and restore it with the shapes that `tx.init`
returns. The program trains once without interruption, and once with a checkpoint after half of the steps. It prints
whether both runs end with bit for bit the same parameters, moments, averages, step counts and random key.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from sklearn.datasets import load_digits

import gradtx as gx


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
    tx = gx.ema_params(
        gx.chain(
            gx.clip_by_global_norm(1.0),
            gx.add_noise(0.01, 0.5, key=0),
            gx.stored(gx.adamw(gx.cosine_decay_schedule(0.01, steps)), "int8", min_size=64),
        )
    )

    @jax.jit
    def train_step(params, state, step):
        rows = jax.random.choice(jax.random.fold_in(jax.random.key(1), step), len(labels), (64,))
        grads = jax.grad(loss_of)(params, images[rows], labels[rows])
        updates, state = tx.update(grads, state, params)
        return gx.apply_updates(params, updates), state

    def train(params, state, start, stop):
        for step in range(start, stop):
            params, state = train_step(params, state, step)
        return params, state

    whole = train(params, tx.init(params), 0, steps)

    half = train(params, tx.init(params), 0, steps // 2)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        path = Path(folder) / "checkpoint"
        checkpointer.save(path, {"params": half[0], "state": half[1]})
        checkpointer.wait_until_finished()
        like = jax.eval_shape(lambda p: {"params": p, "state": tx.init(p)}, params)  # only shapes; allocates nothing
        restored = checkpointer.restore(path, like)
    resumed = train(restored["params"], restored["state"], steps // 2, steps)

    pairs = list(zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True))
    same = sum(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    print(f"after {steps} steps {same} of {len(pairs)} arrays are the same, bit for bit")
    without, with_one = (float(loss_of(params, images, labels)) for params, _ in (whole, resumed))
    print(f"loss {without:.4f} without a break, {with_one:.4f} with one")
    if same < len(pairs):
        raise SystemExit("the resumed run differs")


if __name__ == "__main__":
    main()
