"""Cases for all losses of gradtx: calls with arguments, which the tests of all losses run."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import logsumexp

import gradtx as gx

LIBRARIES = {"gradtx": gx.losses, "optax": optax.losses}
FOR_LOGITS = [
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "safe_softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "poly_loss_cross_entropy",
    "hinge_loss",
    "perceptron_loss",
    "sparsemax_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ranking_softmax_loss",
    "ctc_loss",
    "fenchel_young",
    "dice_loss",
    "binary_dice_loss",
    "multiclass_generalized_dice_loss",
]


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of a loss; the tests differentiate it with respect to its first `by` arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    by: int = 1

    def loss(self, library="gradtx"):
        losses = LIBRARIES[library]
        if self.name == "fenchel_young":
            return losses.make_fenchel_young_loss(logsumexp)
        return getattr(losses, self.name)

    def of(self, library="gradtx"):
        """Returns the loss as a function of the arguments to differentiate."""
        loss = self.loss(library)

        def fn(*moving):
            rest = [np.asarray(x, moving[0].dtype) if _is_floating(x) else x for x in self.args[self.by :]]
            with jax.numpy_rank_promotion("raise" if library == "gradtx" else "allow"):
                out = loss(*moving, *rest, **self.kwargs)
            return out[0] if isinstance(out, tuple) else out

        return fn

    def moving(self, dtype=None):
        return [jnp.asarray(x, dtype) for x in self.args[: self.by]]

    def __str__(self):
        return "-".join([self.name, *self.kwargs])


def _is_floating(x):
    return isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating)


def _distributions(rng, shape):
    x = rng.uniform(0.1, 1, shape)
    return x / x.sum(-1, keepdims=True)


def _cases():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 5)) * 2, _distributions(rng, (2, 3, 5))
    labels, mask = rng.integers(0, 5, (2, 3)), rng.uniform(size=(2, 3, 5)) < 0.7
    mask[0, 1] = False
    sides = rng.integers(0, 2, (2, 3, 5))
    for kwargs in ({}, {"axis": 1}, {"axis": (0, 2)}, {"axis": None}, {"where": mask}):
        yield Case("softmax_cross_entropy", (x, y), kwargs, 1 if "where" in kwargs else 2)
        yield Case("poly_loss_cross_entropy", (x, y), kwargs)
        if "where" not in kwargs:
            log_p = np.log(_distributions(rng, (2, 3, 5)))
            yield Case("kl_divergence", (log_p, y), kwargs, 2)
            yield Case("kl_divergence_with_log_targets", (log_p, np.log(y)), kwargs, 2)
            yield Case("generalized_kl_divergence", (log_p, y * 3), kwargs, 2)
        yield Case("cosine_similarity", (x, y), kwargs if "where" not in kwargs else {"where": mask, "epsilon": 0.1}, 2)
    yield Case("convex_kl_divergence", (x, y), {"where": mask}, 2)
    yield Case("kl_divergence", (x, y), {"where": mask}, 2)
    yield Case("kl_divergence_with_log_targets", (x, np.log(y)), {"where": mask}, 2)
    yield Case("cosine_distance", (x, y), {"epsilon": 1e-3}, 2)
    yield Case("poly_loss_cross_entropy", (x, y), {"epsilon": -1.0})
    yield Case("safe_softmax_cross_entropy", (x, y), by=2)
    yield Case("softmax_cross_entropy_with_integer_labels", (x, labels))
    yield Case("softmax_cross_entropy_with_integer_labels", (x, rng.integers(0, 3, (2, 5)), 1))
    yield Case("softmax_cross_entropy_with_integer_labels", (x, rng.integers(0, 10, 3)), {"axis": (2, 0)})
    yield Case("sigmoid_binary_cross_entropy", (x, y), by=2)
    yield Case("sigmoid_binary_cross_entropy", (x, sides))
    for kwargs in ({}, {"gamma": 0.5}, {"gamma": 0.0, "alpha": 0.25}):
        yield Case("sigmoid_focal_loss", (x, sides.astype(float)), kwargs)
        yield Case("sigmoid_focal_loss", (x, y), kwargs, 2)
    for name in ("hinge_loss", "perceptron_loss"):
        yield Case(name, (x, 2.0 * sides - 1))
    yield Case("sparsemax_loss", (x, sides))
    for name in ("multiclass_hinge_loss", "multiclass_perceptron_loss"):
        yield Case(name, (x, labels))
    yield Case("multiclass_sparsemax_loss", (x[0], labels[0]))
    yield Case("fenchel_young", (x, y), by=2)
    yield Case("ranking_softmax_loss", (x, y), by=2)
    yield Case("ranking_softmax_loss", (x, y), {"where": mask, "weights": rng.integers(0, 3, x.shape)})
    yield Case("ranking_softmax_loss", (x, y), {"where": mask, "reduce_fn": None})
    yield Case("ranking_softmax_loss", (x, y), {"reduce_fn": jnp.sum})
    for name in ("squared_error", "l2_loss", "huber_loss", "log_cosh"):
        yield Case(name, (x, y), by=2)
        yield Case(name, (x,))
    yield Case("huber_loss", (x, y), {"delta": 0.3}, 2)
    yield from _masks(rng)
    yield Case("ntxent", (x.reshape(6, 5), np.array([0, 0, 1, 1, 1, 2])))
    yield Case("ntxent", (x.reshape(6, 5), np.array([0, 0, 1, 1, 1, 2])), {"temperature": 0.5})
    yield Case("triplet_margin_loss", (x, y, rng.normal(size=x.shape)), by=3)
    yield Case("triplet_margin_loss", (x, y, y[::-1]), {"axis": 1, "margin": 0.2, "eps": 0.0}, 3)
    yield Case("triplet_margin_loss", (x, y, y[::-1]), {"norm_degree": 4, "margin": 3.0}, 3)
    yield Case("smooth_labels", (y, 0.1))
    yield Case("smooth_labels", (y, 0.3), {"axis": (0, 2)})
    yield from _sequences(rng)


def _masks(rng):
    logits, hot = rng.normal(size=(2, 3, 2, 4)), np.eye(4)[rng.integers(0, 4, (2, 3, 2))]
    for kwargs in (
        {},
        {"alpha": 0.3, "beta": 0.7, "smooth": 0.1},
        {"class_weights": np.array([1.0, 0.5, 2.0, 0.25], np.float32), "reduction": "sum"},
        {"reduction": "none", "ignore_background": True},
        {"axis": (1,)},
    ):
        yield Case("dice_loss", (logits, hot), kwargs)
    yield Case("dice_loss", (_distributions(rng, logits.shape), hot), {"apply_softmax": False})
    yield Case("dice_loss", (logits[..., :1], hot[..., 0]))
    yield Case("multiclass_generalized_dice_loss", (logits, hot), {"ignore_background": True})
    yield Case("multiclass_generalized_dice_loss", (logits, hot))
    yield Case("binary_dice_loss", (logits[..., 0], hot[..., 0]))
    yield Case("binary_dice_loss", (logits[..., :1], hot[..., :1]), {"smooth": 0.5})


def _sequences(rng):
    logits, labels = rng.normal(size=(4, 7, 5)), np.array([[1, 2, 2], [3, 3, 3], [4, 1, 0], [0, 0, 0]])
    off, missing = np.zeros((4, 7)), np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1]], float)
    off[0, 6], off[2, 5:] = 1, 1
    for name in ("ctc_loss", "ctc_loss_with_forward_probs"):
        yield Case(name, (logits, off, labels, missing))
    yield Case("ctc_loss", (logits, off, np.where(labels == 4, 0, labels + 0), missing), {"blank_id": 4})


CASES = list(_cases())


def first_of_each(names=FOR_LOGITS):
    """Returns the first case of each name."""
    return [next(case for case in CASES if case.name == name) for name in names]


def with_ends(case, dtype):
    """The case's first argument, with entries at the ends of the dtype, ones that nearly vanish, and ordinary ones."""
    info = jnp.finfo(dtype)
    ends = np.array([info.max, -float(info.max), 0.0, info.tiny, 1.0, -float(info.max), -2.0], float)
    x = np.resize(ends, np.shape(case.args[0]))
    return [jnp.asarray(x, dtype), *case.moving(dtype)[1:]]


def summed(case, library="gradtx"):
    """Returns the losses and the derivative of their sum, compiled if optax's loss can be compiled."""

    def fn(*moving):
        loss = case.of(library)(*moving)
        return jnp.sum(loss.astype(jnp.float64)), loss

    grad = jax.grad(fn, tuple(range(case.by)), has_aux=True)
    return grad if "apply_softmax" in case.kwargs else jax.jit(grad)


NAN, INF = float("nan"), float("inf")
X = np.array([[1.0, -INF, 0.5], [0.3, 0.2, -0.1]])
HOT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
ROW = np.array([[True, False, True], [False, False, False]])
BROKEN = np.array([[1.0, NAN, 0.5], [NAN, INF, -INF]])
FIRST = float(np.log1p(np.exp(-0.5)))  # the loss of the first row of X
SECOND = float(np.log(np.exp([0.3, 0.2, -0.1]).sum()) + 0.1)
ZEROS = np.zeros((2, 3))
with np.errstate(divide="ignore"):
    LOG_EXACT = np.log([[0.0, 1.0, 0.0], [0.25, 0.75, 0.0]])
EXACT = np.array([[0.0, 1.0, 0.0], [0.25, 0.75, 0.0]])  # probabilities of exactly 0 and 1
CENTER = "softmax_cross_entropy_with_integer_labels"

CORNERS: dict[str, tuple[Any, Any, Any]] = {
    "cross entropy, -inf at another class": (lambda o, x: o.softmax_cross_entropy(x, HOT), X, [FIRST, SECOND]),
    "safe cross entropy, -inf at another class": (
        lambda o, x: o.safe_softmax_cross_entropy(x, HOT),
        X,
        [FIRST, SECOND],
    ),
    "integer labels, -inf at another class": (lambda o, x: getattr(o, CENTER)(x, np.array([0, 2])), X, [FIRST, SECOND]),
    "poly loss, -inf at another class": (
        lambda o, x: o.poly_loss_cross_entropy(x, HOT, epsilon=0.0),
        X,
        [FIRST, SECOND],
    ),
    "ranking, -inf at another item": (lambda o, x: o.ranking_softmax_loss(x, HOT), X, (FIRST + SECOND) / 2),
    "Fenchel-Young, -inf at another class": (
        lambda o, x: o.make_fenchel_young_loss(logsumexp)(x, HOT),
        X,
        [FIRST, SECOND],
    ),
    "hinge, -inf at another class": (lambda o, x: o.multiclass_hinge_loss(x, np.array([0, 2])), X, [0.5, 1.4]),
    "perceptron, -inf at another class": (lambda o, x: o.multiclass_perceptron_loss(x, np.array([0, 2])), X, [0, 0.4]),
    "sigmoid, -inf where the label is 0": (
        lambda o, x: o.sigmoid_binary_cross_entropy(x, np.array([0.0, 1.0])),
        np.array([-INF, INF]),
        [0, 0],
    ),
    "focal, -inf where the label is 0": (
        lambda o, x: o.sigmoid_focal_loss(x, np.array([0.0, 1.0])),
        np.array([-INF, INF]),
        [0, 0],
    ),
    "CTC, -inf at another class": (
        lambda o, x: o.ctc_loss(x[None], np.zeros((1, 2)), np.array([[1]]), np.zeros((1, 1))),
        np.array([[0.0, 0.0, -INF], [0.0, 0.0, -INF]]),
        [float(np.log(4 / 3))],
    ),
    "a row of -inf alone": (lambda o, x: o.softmax_cross_entropy(x, HOT), np.full((2, 3), -INF), [0, 0]),
    "a row that is masked as a whole": (lambda o, x: o.softmax_cross_entropy(x, HOT, where=ROW), X, [FIRST, 0]),
    "the same with integer labels": (
        lambda o, x: getattr(o, CENTER)(x, np.array([0, 2]), where=ROW),
        X,
        [FIRST, 0],
    ),
    "the same with the poly loss": (
        lambda o, x: o.poly_loss_cross_entropy(x, HOT, epsilon=0.0, where=ROW),
        X,
        [FIRST, 0],
    ),
    "the same with rankings": (lambda o, x: o.ranking_softmax_loss(x, HOT, where=ROW), X, FIRST),
    "the derivative by labels under the mask": (
        lambda o, y: o.softmax_cross_entropy(jnp.asarray(X), y, where=ROW),
        HOT,
        [FIRST, 0],
    ),
    "NaN under the mask": (lambda o, x: o.softmax_cross_entropy(x, HOT, where=ROW), BROKEN, [FIRST, 0]),
    "NaN under the mask of integer labels": (
        lambda o, x: getattr(o, CENTER)(x, np.array([0, 2]), where=ROW),
        BROKEN,
        [FIRST, 0],
    ),
    "NaN under the mask of rankings": (lambda o, x: o.ranking_softmax_loss(x, HOT, where=ROW), BROKEN, FIRST),
    "NaN in frames that are padded": (
        lambda o, x: o.ctc_loss(x[None], np.array([[0, 0, 1]]), np.array([[1]]), np.zeros((1, 1))),
        np.array([[0.0, 0.0], [0.0, 0.0], [NAN, NAN]]),
        [float(np.log(4 / 3))],
    ),
    "KL, a probability of 0 by its logarithm": (
        lambda o, x: o.kl_divergence(x, EXACT),
        np.log(np.array([[1e-30, 1.0, 0.5], [0.25, 0.75, 0.5]])),
        [0, 0],
    ),
    "KL, 0 in both": (lambda o, x: o.kl_divergence(x, EXACT), LOG_EXACT, [0, 0]),
    "KL by the target, 0 in it": (lambda o, x: o.kl_divergence(np.log(EXACT + 1e-9), x), EXACT, [0, 0]),
    "KL with logarithms, -inf in both": (
        lambda o, x: o.kl_divergence_with_log_targets(x, LOG_EXACT),
        LOG_EXACT,
        [0, 0],
    ),
    "KL by the logarithms of the target": (
        lambda o, x: o.kl_divergence_with_log_targets(np.log(EXACT + 1e-9), x),
        LOG_EXACT,
        [0, 0],
    ),
    "generalized KL, 0 in both": (lambda o, x: o.generalized_kl_divergence(x, EXACT), LOG_EXACT, [0, 0]),
    "cosine of zeros": (lambda o, x: o.cosine_similarity(x, HOT), ZEROS, [0, 0]),
    "cosine of vectors whose squares overflow": (lambda o, x: o.cosine_similarity(x, HOT), 1e300 * HOT, [1, 1]),
    "cosine of vectors whose squares vanish": (lambda o, x: o.cosine_similarity(x, HOT), 1e-300 * HOT, [1, 1]),
    "embeddings without a pair": (lambda o, x: o.ntxent(x, np.array([0, 1])), HOT, 0),
    "an embedding without negatives": (lambda o, x: o.ntxent(x, np.array([0, 0])), HOT, 0),
    "embeddings of zeros": (lambda o, x: o.ntxent(x, np.array([0, 0, 1])), np.zeros((3, 2)), float(np.log(2))),
    "a triplet of equal vectors": (lambda o, x: o.triplet_margin_loss(x, ZEROS, ZEROS, eps=0.0), ZEROS, [1, 1]),
    "a triplet in the l1 norm": (
        lambda o, x: o.triplet_margin_loss(x, HOT, -HOT, norm_degree=1, eps=0.0, margin=0.0),
        ZEROS - 2 * HOT,
        [2, 2],
    ),
    "empty masks without smoothing": (
        lambda o, x: o.dice_loss(x, np.zeros((1, 2, 2)), smooth=0.0, apply_softmax=False),
        np.array([[[0.0, 1.0], [0.0, 1.0]]]),
        [0.5],
    ),
    "log cosh of a small error": (lambda o, x: o.log_cosh(x) * 1e16, np.array([1e-8]), [0.5]),
    "smoothed labels of a row without classes": (
        lambda o, x: o.smooth_labels(x, 0.1, where=ROW).sum(-1),
        np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        [1, 0],
    ),
}


def outcome(corner, library):
    """Whether a library has the value of a corner, a finite derivative, and a finite second derivative."""
    fn, x, expected = CORNERS[corner]

    def total(x):
        out = fn(LIBRARIES[library], x)
        return jnp.sum(out), out

    def slope(x):
        return jax.grad(total, has_aux=True)(x)

    with jax.numpy_rank_promotion("allow"):
        try:
            grad, value = jax.jit(slope)(jnp.asarray(x))
        except jax.errors.TracerBoolConversionError:  # dice_loss of probabilities cannot be compiled in optax
            return False, False, False
        second = jax.jit(lambda x: jax.jvp(lambda x: slope(x)[0], (x,), (jnp.ones_like(x),))[1])(jnp.asarray(x))
    right = np.allclose(value, expected, rtol=1e-6, atol=1e-7)
    unbounded = corner == "cosine of vectors whose squares vanish"  # its second derivative is 1 / |x|^2
    return right, bool(np.isfinite(grad).all()), unbounded or bool(np.isfinite(second).all())


def finite_at_the_ends(case, dtype, library):
    """Whether value and derivative of a loss are finite for logits at the ends of a dtype."""
    moving = with_ends(case, dtype)
    try:
        grads, value = summed(case, library)(*moving)
    except TypeError:  # of multiclass_sparsemax_loss in 16 bits, in optax
        return False
    return all(bool(jnp.isfinite(x).all()) for x in (value, *grads))


def main() -> None:
    """Prints the scores of optax and of gradtx."""
    for library in LIBRARIES:
        ends = [finite_at_the_ends(c, d, library) for c in first_of_each() for d in ("float16", "bfloat16", "float32")]
        corners = [outcome(corner, library) for corner in CORNERS]
        print(library, "ends:", sum(ends), "of", len(ends), "corners:", sum(map(all, corners)), "of", len(corners))
        for corner, result in zip(CORNERS, corners, strict=True):
            if not all(result):
                print("   ", corner, result)


if __name__ == "__main__":
    main()
