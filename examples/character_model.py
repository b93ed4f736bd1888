"""Trains a language model of characters, a small transformer in plain JAX, on the help texts of Python.

    python examples/character_model.py
    python examples/character_model.py --steps 3000

`gx.muon` trains the matrices with Muon and everything else with AdamW. The program prints the loss on held-out text in
bits per character (guessing gives 6.6), and a line of text that the model has written.
"""

import argparse
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np

import gradtx as gx

LENGTH, WIDTH, HEADS, LAYERS = 64, 64, 4, 2


def init_params(key, size):
    def matrix(*shape):
        nonlocal key
        key, use = jax.random.split(key)
        return jax.random.normal(use, shape) / shape[0] ** 0.5

    def layer():
        return {
            "attention": {"qkv": matrix(WIDTH, 3 * WIDTH), "out": matrix(WIDTH, WIDTH), "scale": jnp.ones(WIDTH)},
            "mlp": {"up": matrix(WIDTH, 4 * WIDTH), "down": matrix(4 * WIDTH, WIDTH), "scale": jnp.ones(WIDTH)},
        }

    embed = {"character": 0.1 * matrix(size, WIDTH), "place": 0.1 * matrix(LENGTH, WIDTH)}
    return {"embed": embed, "layers": [layer() for _ in range(LAYERS)], "head": matrix(WIDTH, size)}


def normalized(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale


def logits(params, text):
    """Returns, for each character of `text`, of shape (batch, length), the scores of the next character."""
    x = params["embed"]["character"][text] + params["embed"]["place"][: text.shape[1]]
    for layer in params["layers"]:
        a, m = layer["attention"], layer["mlp"]
        heads = (normalized(x, a["scale"]) @ a["qkv"]).reshape(*x.shape[:2], 3, HEADS, -1)
        x = x + jax.nn.dot_product_attention(*jnp.moveaxis(heads, 2, 0), is_causal=True).reshape(x.shape) @ a["out"]
        x = x + jax.nn.gelu(normalized(x, m["scale"]) @ m["up"]) @ m["down"]
    return normalized(x, 1.0) @ params["head"]


@jax.jit
def loss_of(params, text):
    scores = logits(params, text[:, :-1])
    return gx.losses.softmax_cross_entropy_with_integer_labels(scores, text[:, 1:]).mean() / jnp.log(2)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args(argv).steps

    known, codes = np.unique(list("".join(topics.values())[:300_000]), return_inverse=True)
    windows = np.lib.stride_tricks.sliding_window_view(codes, LENGTH + 1)
    train, test = windows[:-30_000], windows[-30_000 + LENGTH :: LENGTH]  # no character is in both

    params = init_params(jax.random.key(0), len(known))
    schedule = gx.warmup_cosine_decay_schedule(0.0, 0.02, warmup_steps=steps // 10, decay_steps=steps)
    tx = gx.chain(
        gx.clip_by_global_norm(1.0),
        gx.muon(schedule, adam_learning_rate=gx.multiply_schedules([schedule, gx.constant_schedule(0.3)])),
    )
    print(gx.describe(tx, params))

    @jax.jit
    def train_step(params, state, text):
        loss, grads = jax.value_and_grad(loss_of)(params, text)
        updates, state = tx.update(grads, state, params)
        return gx.apply_updates(params, updates), state, loss

    state, rng = tx.init(params), np.random.default_rng(0)
    for step in range(steps):
        params, state, loss = train_step(params, state, jnp.asarray(train[rng.integers(0, len(train), 32)]))
        if step % 100 == 99:
            print(f"step {step + 1}: {loss:.3f} bits per character", flush=True)
    held_out = float(loss_of(params, jnp.asarray(test)))
    print(f"held-out text: {held_out:.3f} bits per character")

    text, step_of = test[:1, : LENGTH // 2], jax.jit(logits)
    for i in range(LENGTH // 2, LENGTH):
        scores = step_of(params, jnp.pad(text, ((0, 0), (0, LENGTH - i))))[0, i - 1]
        text = np.append(text, [[jax.random.categorical(jax.random.key(i), 2 * scores)]], axis=1)
    print("written:", repr("".join(known[text[0]])))
    return held_out


if __name__ == "__main__":
    main()
