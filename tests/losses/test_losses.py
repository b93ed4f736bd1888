"""Losses: optax's in float64, derivatives, the ends of every dtype, corners, labels, shapes.

Where optax 0.2.8 decides otherwise, or is wrong, the difference is named below (`DIFFERENCES`). On the same cases
`python -m tests.losses.contest` finds optax finite at 27 of 54 ends of dtypes, and right in 14 of 38 corners; gradtx
has to be right in all of them.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.losses.contest import CASES, CENTER, CORNERS, finite_at_the_ends, first_of_each, outcome, summed, with_ends

L = gx.losses


def picked(cases, every):
    """Returns cases as pytest parameters; the quick run uses only some of them."""
    return [pytest.param(c, id=f"{i}-{c}", marks=[pytest.mark.heavy] if i % every else []) for i, c in enumerate(cases)]


def test_every_loss_of_optax_is_here_and_has_a_case():
    theirs = {n for n, x in vars(optax.losses).items() if inspect.isfunction(x) and not n.startswith("_")}
    assert len(theirs) == 32
    assert theirs <= set(L.__all__)
    assert theirs - {"make_fenchel_young_loss"} <= {case.name for case in CASES}


@pytest.mark.parametrize("name", sorted(L.__all__))
def test_the_arguments_are_optaxs_and_then_ours(name):
    theirs = getattr(optax.losses, name, None)
    if theirs is None:
        return
    ours = list(inspect.signature(getattr(L, name)).parameters.values())
    for mine, other in zip(ours, inspect.signature(inspect.unwrap(theirs)).parameters.values(), strict=False):
        assert (mine.name, mine.kind, mine.default) == (other.name, other.kind, other.default)
    assert len(ours) >= len(inspect.signature(inspect.unwrap(theirs)).parameters)


@pytest.mark.parametrize("name", sorted(L.__all__))
def test_docstrings_say_what_to_give_what_comes_and_what_raises(name):
    text = inspect.getdoc(getattr(L, name))
    for part in ("Args:", "Returns:", "Raises:", ">>> "):
        assert part in text, part
    for argument in inspect.signature(getattr(L, name)).parameters:
        assert f"  {argument}: " in text, argument


@pytest.mark.one_in(4)
@pytest.mark.filterwarnings("ignore:.*convex_kl_divergence is deprecated")
@pytest.mark.parametrize("case", picked(CASES, 1))
def test_parity_with_optax(case):
    moving = case.moving()
    grads, value = summed(case)(*moving)
    their_grads, theirs = summed(case, "optax")(*moving)
    assert value.shape == theirs.shape
    for x, y in zip((value, *grads), (theirs, *their_grads), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.heavy
def test_forward_probabilities_are_optaxs():
    case = next(case for case in CASES if case.name == "ctc_loss_with_forward_probs")
    for ours, theirs in zip(case.loss()(*case.args), case.loss("optax")(*case.args), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.one_in(10)
@pytest.mark.parametrize("case", picked(CASES, 6))
def test_derivatives_of_first_and_second_order(case):
    """Forward and reverse, against differences; with vmap, jit and grad in one program."""
    moving, rng = case.moving(), np.random.default_rng(1)
    steps = [jnp.asarray(rng.normal(size=np.shape(x))) for x in moving]
    weights = jnp.asarray(rng.normal(size=jax.eval_shape(case.of(), *moving).shape))

    def along(t):
        return jnp.sum(weights * case.of()(*(x + t * v for x, v in zip(moving, steps, strict=True))))

    def slope(t):
        return jax.jvp(along, (t,), (jnp.ones(()),))[1]

    @jax.jit
    def numbers(h):
        at, slopes = jax.vmap(along)(h), jax.vmap(slope)(h)
        second = jax.jvp(jax.grad(along), (jnp.zeros(()),), (jnp.ones(()),))
        return at[1] - at[0], slopes[1] - slopes[0], slope(jnp.zeros(())), *second

    h = 1e-5
    rise, bend, forward, reverse, second = numbers(jnp.array([-h, h]))
    np.testing.assert_allclose(forward, rise / (2 * h), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(second, bend / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.one_in(10)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("case", first_of_each(), ids=str)
def test_losses_at_the_ends_of_the_dtype(case, dtype):
    """Losses are finite and equal the losses in float64, up to the dtype's largest number."""
    assert finite_at_the_ends(case, dtype, "gradtx")
    moving = with_ends(case, dtype)
    loss = case.of()(*moving)
    info = jnp.finfo(dtype)
    exact = jnp.clip(case.of()(*(x.astype(jnp.float64) for x in moving)), -float(info.max), float(info.max))
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss.astype(jnp.float64), exact, rtol=4 * float(info.eps), atol=4 * float(info.eps))


@pytest.mark.one_in(6)
@pytest.mark.parametrize("corner", CORNERS)
def test_corners(corner):
    assert outcome(corner, "gradtx") == (True, True, True)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", [c for c in first_of_each() if c.name not in ("ctc_loss",)], ids=str)
def test_sixteen_bits_are_computed_in_float32(case):
    """The result is the float32 result, rounded once."""
    moving = case.moving(jnp.bfloat16)
    wide = case.of()(*(x.astype(jnp.float32) for x in moving))
    loss = case.of()(*moving)
    assert loss.dtype == jnp.bfloat16
    np.testing.assert_array_equal(loss, wide.astype(jnp.bfloat16))


# --- Where optax decides otherwise.


def _row(fn, *args, **kwargs):
    with jax.numpy_rank_promotion("allow"):
        return np.asarray(fn(*map(jnp.asarray, args), **kwargs))


LOGITS, MASK = np.array([[1.0, 2.0, 0.5]]), np.array([[True, False, True]])
SIGNED = np.array([[1.0, -2.0, 0.5]])
DIFFERENCES = {
    # The label's class is masked: its probability is 0. optax's loss is negative.
    "a label under the mask": (CENTER, (LOGITS, np.array([1])), {"where": MASK}, np.inf),
    # optax takes odd powers without the absolute value, so signs cancel.
    "an odd norm": ("triplet_margin_loss", (0 * LOGITS, SIGNED, 0 * LOGITS), {"norm_degree": 1, "eps": 0.0}, 4.5),
    # optax gives a fraction of the label to classes that do not exist.
    "smoothing under the mask": ("smooth_labels", (np.array([[1.0, 0.0, 0.0]]), 0.1), {"where": MASK}, [0.95, 0, 0.05]),
    # optax's NaN: 0 log 0.
    "an impossible class": ("softmax_cross_entropy", ([[0.0, -np.inf]], [[1.0, 0.0]]), {}, 0.0),
    "a vector of zeros": ("cosine_similarity", ([[0.0, 0.0]], [[1.0, 0.0]]), {}, 0.0),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_from_optax(name):
    loss, args, kwargs, expected = DIFFERENCES[name]
    ours = _row(getattr(L, loss), *args, **kwargs)
    np.testing.assert_allclose(ours, np.broadcast_to(expected, ours.shape), atol=1e-12)
    assert not np.allclose(_row(getattr(optax.losses, loss), *args, **kwargs), ours), "no difference any more"


# --- Labels.

SCORES = jnp.array([[0.3, 1.0, -1.0], [0.0, 0.5, 2.0]])
LABELLED = {
    CENTER: SCORES,
    "multiclass_hinge_loss": SCORES,
    "multiclass_perceptron_loss": SCORES,
    "multiclass_sparsemax_loss": SCORES,
    "sigmoid_binary_cross_entropy": SCORES[:, 0],
    "sigmoid_focal_loss": SCORES[:, 0],
    "sparsemax_loss": SCORES[:, 0],
    "hinge_loss": SCORES[:, 0],
    "perceptron_loss": SCORES[:, 0],
}


@pytest.mark.one_in(8)
@pytest.mark.parametrize("wrong", [-2, 3])
@pytest.mark.parametrize("name", LABELLED)
def test_labels_out_of_range_raise_or_give_nan(name, wrong):
    loss, x = getattr(L, name), LABELLED[name]
    labels = jnp.array([1, wrong], jnp.int32)
    with pytest.raises(ValueError, match=rf"{name}: (labels|targets) must be .*got {wrong} at index 1"):
        loss(x, labels)
    with pytest.raises(ValueError, match=f"got {wrong} at index 1"):
        jax.grad(lambda x: loss(x, labels).sum())(x)
    value, grad = jax.jit(lambda x, y: (loss(x, y), jax.grad(lambda x: loss(x, y).sum())(x)))(x, labels)
    np.testing.assert_array_equal(jnp.isnan(value), [False, True])
    np.testing.assert_array_equal(jnp.isnan(grad).reshape(2, -1).all(axis=1), [False, True])
    mapped = jax.vmap(loss)(x, labels)
    np.testing.assert_array_equal(jnp.isnan(mapped), [False, True])


def test_labels_of_all_integer_dtypes():
    x = jnp.zeros((1, 300))
    for dtype in ("uint8", "int8", "int16", "uint32", "int64"):
        loss = jax.jit(L.softmax_cross_entropy_with_integer_labels)(x, jnp.array([100], dtype))
        np.testing.assert_allclose(loss, np.log(300))
    with pytest.raises(TypeError, match="labels has dtype float64; it must hold integers"):
        L.softmax_cross_entropy_with_integer_labels(x, jnp.array([1.0]))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("ignore", [-100, 1, 255])
def test_ignored_labels(ignore):
    """Ignored labels have loss 0 and derivative 0, whatever the logits in their rows, and need not be in range."""
    x = SCORES.at[1].set(jnp.nan)
    labels = jnp.array([0, ignore])
    loss = jax.jit(lambda x, y: L.softmax_cross_entropy_with_integer_labels(x, y, ignore_label=ignore))
    value, grad = loss(x, labels), jax.grad(lambda x: loss(x, labels).sum())(x)
    np.testing.assert_allclose(value, [optax.losses.softmax_cross_entropy_with_integer_labels(SCORES[0], 0), 0])
    assert np.isfinite(grad).all()
    assert (grad[1] == 0).all()
    L.softmax_cross_entropy_with_integer_labels(x, labels, ignore_label=ignore)
    bits = L.sigmoid_binary_cross_entropy(x[:, 0], jnp.array([1, ignore]), ignore_label=ignore)
    assert bits[1] == 0


def _by_hand(x, labels, weights, part):
    """PyTorch's formula: -(1 - s) w_y log p_y - s / K sum_j w_j log p_j."""
    log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
    own = np.take_along_axis(log_p, labels[..., None], -1)[..., 0] * weights[labels]
    return -(1 - part) * own - part * (log_p * weights).mean(-1)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("part", [0.0, 0.1, 1.0, "traced"])
def test_weights_and_smoothing(part):
    rng = np.random.default_rng(3)
    x, labels, weights = rng.normal(size=(4, 2, 5)), rng.integers(0, 5, (4, 2)), rng.uniform(0.1, 2, 5)
    part = jnp.asarray(0.3) if part == "traced" else part
    expected = _by_hand(x, labels, weights, np.asarray(part))
    kwargs = {"class_weights": jnp.asarray(weights), "label_smoothing": part}
    np.testing.assert_allclose(getattr(L, CENTER)(x, labels, **kwargs), expected, rtol=1e-12)
    hot = np.eye(5)[labels]
    for name in ("softmax_cross_entropy", "safe_softmax_cross_entropy"):
        np.testing.assert_allclose(getattr(L, name)(x, hot, **kwargs), expected, rtol=1e-12)
    smooth = L.smooth_labels(hot, part)
    np.testing.assert_allclose(L.softmax_cross_entropy(x, smooth * weights[None, None]), expected, rtol=1e-12)


@pytest.mark.heavy
def test_smoothing_leaves_masked_classes_out():
    x, labels = jnp.array([[1.0, -jnp.inf, 0.0]]), jnp.array([0])
    for mask in (None, jnp.array([[True, False, True]])):
        loss = getattr(L, CENTER)(x if mask is None else x.at[0, 1].set(3.0), labels, where=mask, label_smoothing=0.5)
        np.testing.assert_allclose(loss, getattr(L, CENTER)(x[:, ::2], labels, label_smoothing=0.5))


def test_weights_of_binary_answers():
    x, y = jnp.array([[0.5, -1.0], [2.0, 0.1]]), jnp.array([[1.0, 0.0], [0.3, 1.0]])
    log_p, log_q = jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)
    pairs = np.array([[1.0, 4.0], [0.5, 2.0]])
    s = 0.9 * y + 0.05
    np.testing.assert_allclose(
        L.sigmoid_binary_cross_entropy(x, y, class_weights=pairs[0], label_smoothing=0.1),
        -4 * s * log_p - (1 - s) * log_q,
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        L.sigmoid_binary_cross_entropy(x, y, class_weights=pairs),
        -pairs[None, :, 1] * y * log_p - pairs[None, :, 0] * (1 - y) * log_q,
        rtol=1e-12,
    )


def test_a_weight_of_zero_leaves_an_infinite_loss_out():
    x = jnp.array([[0.0, -jnp.inf]])
    assert getattr(L, CENTER)(x, jnp.array([1]))[0] == jnp.inf
    assert getattr(L, CENTER)(x, jnp.array([1]), class_weights=jnp.array([1.0, 0.0]))[0] == 0


# --- Shapes and arguments.

SHAPES = {  # the argument to shorten, and the names in the message
    "softmax_cross_entropy": ("labels", "logits"),
    "sigmoid_binary_cross_entropy": ("labels", "logits"),
    CENTER: ("labels", "the batch"),
    "multiclass_hinge_loss": ("labels", "scores"),
    "kl_divergence": ("targets", "log_predictions"),
    "kl_divergence_with_log_targets": ("log_targets", "log_predictions"),
    "squared_error": ("targets", "predictions"),
    "huber_loss": ("targets", "predictions"),
    "cosine_similarity": ("targets", "predictions"),
    "hinge_loss": ("targets", "predictor_outputs"),
    "ranking_softmax_loss": ("labels", "logits"),
    "triplet_margin_loss": ("positives", "anchors"),
    "ntxent": ("labels", "embeddings"),
    "dice_loss": ("targets", "predictions"),
    "fenchel_young": ("targets", "scores"),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_disagree_raise(name, traced):
    """Nothing is broadcast, not even an axis of length 1."""
    case = next(case for case in CASES if case.name == name and not case.kwargs)
    first, second, *rest = map(jnp.asarray, case.args)
    short, like = SHAPES[name]
    call = jax.jit(case.loss()) if traced else case.loss()
    message = rf"{short} has shape \(1, .*{like} has shape \({first.shape[0]}"
    message = r"labels has shape \(1,\) and embeddings has shape \(6, 5\)" if name == "ntxent" else message
    with pytest.raises(ValueError, match=message):
        call(first, second[:1], *rest)


BAD = [
    (lambda: L.softmax_cross_entropy(jnp.zeros((2, 3), int), jnp.zeros((2, 3))), TypeError, "logits has dtype int64"),
    (lambda: L.squared_error(jnp.zeros(2, complex)), TypeError, "predictions has dtype complex128"),
    (lambda: L.l2_loss(None), TypeError, "predictions must be an array"),
    (lambda: L.softmax_cross_entropy(SCORES, SCORES, axis=2), ValueError, "axis is 2, and the array has 2 axes"),
    (lambda: L.softmax_cross_entropy(SCORES, SCORES, axis=(0, -2)), ValueError, "Name each axis once"),
    (lambda: L.softmax_cross_entropy(SCORES, SCORES, axis="last"), TypeError, "axis must be an integer"),
    (lambda: getattr(L, CENTER)(SCORES, jnp.zeros(2, int), axis=None), ValueError, "axis must be an integer or"),
    (lambda: L.softmax_cross_entropy(SCORES, SCORES, where=jnp.ones(3)), ValueError, r"where has shape \(3,\)"),
    (lambda: L.softmax_cross_entropy(SCORES, SCORES, class_weights=jnp.ones(2)), ValueError, "one weight for each"),
    (
        lambda: L.softmax_cross_entropy(SCORES, SCORES, label_smoothing=1.5),
        ValueError,
        r"label_smoothing must be in \[",
    ),
    (lambda: L.sigmoid_binary_cross_entropy(SCORES, SCORES, class_weights=jnp.ones(3)), ValueError, "two weights"),
    (lambda: L.sigmoid_focal_loss(SCORES, SCORES, gamma=-1), ValueError, "gamma must be in"),
    (lambda: L.huber_loss(SCORES, delta=0.0), ValueError, r"delta must be in \(0, inf\)"),
    (lambda: L.huber_loss(SCORES, delta=jnp.ones(2)), ValueError, r"delta has shape \(2,\)"),
    (lambda: L.cosine_similarity(SCORES, SCORES, epsilon=-1.0), ValueError, "epsilon must be in"),
    (lambda: L.ntxent(SCORES, jnp.zeros(2), temperature=0.0), ValueError, "temperature must be in"),
    (lambda: L.triplet_margin_loss(SCORES, SCORES, SCORES, norm_degree=0), ValueError, "norm_degree must be in"),
    (lambda: L.smooth_labels(SCORES, -0.1), ValueError, "alpha must be in"),
    (lambda: L.dice_loss(SCORES, SCORES, reduction="max"), ValueError, "reduction must be one of"),
    (lambda: L.dice_loss(SCORES, SCORES, apply_softmax=False), ValueError, "the sums range from"),
    (lambda: L.binary_dice_loss(SCORES, SCORES, apply_sigmoid=False), ValueError, "they range from"),
    (lambda: L.make_fenchel_young_loss(3), TypeError, "max_fun must be a function"),
    (lambda: L.hinge_loss(SCORES, jnp.zeros_like(SCORES)), ValueError, "For labels 0 and 1 pass 2"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_bad_arguments(i):
    call, error, message = BAD[i]
    with pytest.raises(error, match=message):
        call()


def test_further_arguments_of_the_maximum():
    loss = L.make_fenchel_young_loss(lambda s, t, *, shift: t * jax.nn.logsumexp(s / t) + shift)
    x, y = SCORES, jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    expected = 2 * L.softmax_cross_entropy(x / 2, y) + 1
    np.testing.assert_allclose(loss(x, y, 2.0, shift=1.0), expected, rtol=1e-12)


def test_numbers_and_arrays_of_numpy_and_python():
    assert L.squared_error(3.0) == 9
    np.testing.assert_allclose(L.huber_loss(np.ones(2, np.float32), np.zeros(2, np.float32)), 0.5)
    assert L.hinge_loss(2, -1) == 3
