"""Trains a perceptron of equinox on scikit-learn's handwritten digits.

    python examples/with_equinox.py

An equinox model is a tree of arrays and functions. `eqx.filter` picks the arrays, which are the parameters for gradtx.
The program prints the accuracy on held-out images.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import gradtx as gx


@eqx.filter_value_and_grad
def loss_and_grads(model, images, labels):
    return gx.losses.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(images), labels).mean()


@eqx.filter_jit
def train_step(tx, model, state, images, labels):
    loss, grads = loss_and_grads(model, images, labels)
    updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state, loss


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args(argv).steps

    images, labels = load_digits(return_X_y=True)
    images = jnp.asarray(images, jnp.float32) / 16
    train, test = slice(0, 1400), slice(1400, None)

    model = eqx.nn.MLP(64, 10, width_size=128, depth=2, key=jax.random.key(0))
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.muon(gx.cosine_decay_schedule(0.02, steps)))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    for step in range(steps):
        rows = jax.random.choice(jax.random.key(step), 1400, (64,))
        model, state, loss = train_step(tx, model, state, images[train][rows], labels[train][rows])
    right = (jax.vmap(model)(images[test]).argmax(axis=1) == labels[test]).mean()
    print(f"loss of the last batch {loss:.4f}, accuracy on {len(labels[test])} held-out images {right:.1%}")
    return float(right)


if __name__ == "__main__":
    main()
