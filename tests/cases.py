"""The registry: every transformation, optimizer and schedule, as expressions.

Each case is an expression in the names of `gradtx`. The laws run over all cases, so a new method is tested as soon as
it is listed here. If optax has the method, the same expression in the names of `optax` is the parity reference; the
field `optax` gives a different expression, or None with the reason. If a method cannot keep a law, the field `unless`
gives the name of the law's exception and the reason; the method's docstring says the same. Further cases are generated
from the constructors' signatures, in `tests/libraries.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx as gx
from gradtx.frozen import Frozen
from gradtx.testing.calls import extra_args as extra_args
from gradtx.testing.calls import trajectory as trajectory
from gradtx.testing.calls import update as update
from gradtx.testing.data import SHAPES as SHAPES
from gradtx.testing.data import at as at
from gradtx.testing.data import close as close
from gradtx.testing.data import draw as draw
from gradtx.testing.data import finite as finite
from gradtx.testing.data import stack as stack


def negate(updates: Any, params: Any) -> Any:
    """A function for `stateless`, at module level so that it has a name."""
    del params
    return jax.tree.map(lambda g: -g, updates)


def negate_leaf(update: Any, param: Any) -> Any:
    """A function for `stateless_with_tree_map`."""
    del param
    return -update


def halving(count: Any) -> Any:
    """A plain function of the step count."""
    return 0.5 ** (count + 1.0)


def late(step: Any) -> Any:
    """A condition on the step count."""
    return step >= 1


def growing(step: Any) -> Any:
    """The number of micro-batches as a function of the steps taken."""
    return 1 + (step >= 1)


def depth(path: Any) -> int:
    """The depth of a leaf as a function of its path."""
    return len(path)


class slower(gx.rules.StatefulSchedule, Frozen):
    """A stateful schedule: a number that falls by a tenth at every step."""

    def init(self) -> Any:
        return {"number": jnp.asarray(0.1)}

    def __call__(self, state: Any) -> Any:
        return state["number"]

    def update(self, state: Any) -> Any:
        return {"number": state["number"] * 0.9}


FUNCTIONS = {f.__name__: f for f in (slower, negate, negate_leaf, halving, late, growing, depth)}


def pow64(step: Any, exponent: Any) -> Any:
    """Adafactor's beta of step counts from 0, in float64."""
    return 1 - jnp.asarray(step + 1, jnp.float64) ** (-exponent)


def madgrad_rate(count: Any) -> Any:
    """The learning rate 0.1 of MADGRAD, times a factor that undoes the rounding of optax's root of the step count."""
    exact = jnp.sqrt(jnp.asarray(count + 1, jnp.float64)) / jnp.sqrt(count + 1)
    return (0.1 + 1e-6) * exact - 1e-6


def _in_float64(schedule: Any) -> Any:
    """Calls optax's schedule with float64 steps, because optax divides int32 steps in float32 even with x64."""

    def make(*args: Any, **kwargs: Any) -> Any:
        return lambda count: schedule(*args, **kwargs)(jnp.asarray(count, jnp.float64))

    return make


@dataclasses.dataclass(frozen=True)
class Case:
    """An expression under test, with its parity reference and its exceptions from the laws."""

    expression: str
    optax: str | None = ""
    """The reference in optax's names; empty for the same expression, None for none."""
    why: str = ""
    """Why there is no reference, or another one."""
    unless: dict[str, str] = dataclasses.field(default_factory=dict)
    """Laws that this case does not keep, with the reason."""

    @property
    def constructor(self) -> str:
        return self.expression.partition("(")[0]

    def make(self) -> Any:
        return eval(self.expression, {**vars(gx), **FUNCTIONS})

    def reference(self) -> Any:
        assert self.optax is not None
        names = {**vars(optax.contrib), **vars(optax), **FUNCTIONS}
        names |= {"pow64": pow64, "madgrad_rate": madgrad_rate}
        names |= {
            name: _in_float64(names[name])
            for name in names
            if name.endswith(("_schedule", "_decay")) and "scale_by" not in name
        }
        return eval(self.optax or self.expression, names)

    def __str__(self) -> str:
        return self.expression.replace(" ", "")


_LINEAR = {
    "finite": "a linear link of gain above 1, or a sum, leaves the range where its exact answer does",
}
_FIRST_VARIANCE = {"finite": "the corrected variance of the first gradient is zero, so the first update is g / eps"}
_REAL = {"complex": "the method compares signs, which complex numbers do not have"}
_NOISE = {
    "rotation": "the noise does not turn with the gradient",
    "scope": "the noise is drawn in the order of the leaves",
}
_SVD = {"derivatives": "the projection counts as a constant"}
_FACTORS = {"derivatives": "the preconditioner counts as a constant"}
_STATE = {"by hand": "the numbers are in the state: those of the transformation are only its first"}
_ONE_TREE = {"trees": "the mask is that of one tree"}
_CORNER = {"derivatives": "the first step lies on the corner of the clip"}
_LOOKS = {"collectives": "it looks whether updates are finite, which the reference does not"}
_REPORTS = {"collectives": "it measures norms, which the reference does not"}
_NO_OPTAX = "optax does not have it"
_PRODUCT = "optax corrects an average by the power of its last decay, not by the product of all of them"
_DECAYS = "b1=linear_schedule(0.9, 0.5, 10), b2=linear_schedule(0.9, 0.99, 10)"
_NAME = "optax has it under another name"
_TORCH = "optax does not have it; tests/compat/test_torch.py compares with PyTorch"
_MASK = "{'deep': False, 'w': True}"
_W = "select.maybe(select.path('w'))"
_BY_PATH = {"scope": "paths say which leaves"}
_AT_PARAMS = {"rounding": "the second gradient is taken at parameters in their own dtype"}
_ROUNDED = {"rounding": "the state has the norm of updates in their own dtype"}
_OWN = {"own steps": "the inner transformation counts the steps that it takes"}
_RESET = {"by hand": "the numbers shown at the end of a period are those before the reset"}
_WIDE = {
    "like gradients": "updates are in float32, so that they lead to the rounded weight",
    "rounding": "beside 16-bit parameters it has the weights in float32, which step from elsewhere",
}
_MEASURED = {"finite": "a measurement may leave the range of its dtype"}
_SPLIT = {"rotation": "the parts of a complex number do not turn each by itself"}

TRANSFORMATIONS = [
    Case("identity()"),
    Case("set_to_zero()"),
    Case("stateless(negate)"),
    Case("stateless_with_tree_map(negate_leaf)"),
    Case("scale(-0.5)"),
    Case("scale(halving)", optax="scale_by_schedule(halving)", why="optax's scale takes no schedule"),
    Case("scale_by_learning_rate(0.1)"),
    Case("scale_by_learning_rate(0.1, flip_sign=False)"),
    Case("scale_by_learning_rate(cosine_decay_schedule(0.1, 20))"),
    Case("trace(0.9)"),
    Case("trace(0.9, nesterov=True)", unless=_LINEAR),
    Case("trace(0.9, dampening=0.3)", optax=None, why=_NO_OPTAX),
    Case("trace(0.9, accumulator_dtype='bfloat16')", optax=None, why="the stored sum is rounded: no parity at 1e-10"),
    Case("ema(0.9)"),
    Case("ema(0.9, debias=False)"),
    Case("clip(0.3)"),
    Case("clip_by_block_rms(0.2)"),
    Case("clip_by_global_norm(0.5)"),
    Case("clip_by_global_norm(1e6)"),
    Case("add_decayed_weights(0.1)"),
    Case(f"add_decayed_weights(0.1, mask={_MASK})"),
    Case("scale_by_adam()"),
    Case("scale_by_adam(0.8, 0.95, eps=1e-3, eps_root=1e-4)"),
    Case("scale_by_adam(nesterov=True)"),
    Case("scale_by_adam(mu_dtype='bfloat16')", optax=None, why="the stored moment is rounded: no parity at 1e-10"),
    Case("scale_by_yogi()"),
    Case("scale_by_yogi(0.8, 0.95, eps_root=1e-4, initial_accumulator_value=1e-2)"),
    Case("scale_by_yogi(nu_floor=1e-2)", optax=None, why=_NO_OPTAX),
    Case("scale_by_rms()"),
    Case("scale_by_rms(0.8, eps=1e-3, initial_scale=0.5, eps_in_sqrt=False)"),
    Case("scale_by_rms(bias_correction=True)"),
    Case("scale_by_stddev()"),
    Case("scale_by_stddev(0.8, eps=1e-3, initial_scale=0.5, eps_in_sqrt=False)"),
    Case("scale_by_stddev(eps=1e-3, bias_correction=True)", unless=_FIRST_VARIANCE),
    Case("scale_by_rss()"),
    Case("scale_by_rss(initial_accumulator_value=0.0)"),
    Case("scale_by_rss(eps=1e-3, eps_in_sqrt=False)", optax=None, why=_NO_OPTAX),
    Case("scale_by_rss(0.0, eps_in_sqrt=False)", optax=None, why=_NO_OPTAX),
    Case("scale_by_adadelta()"),
    Case("scale_by_nadam()", optax=None, why=_TORCH),
    Case("scale_by_nadam(0.8, 0.95, eps=1e-3, momentum_decay=1.5)", optax=None, why=_TORCH),
    Case("scale_by_asgd()", optax=None, why=_TORCH),
    Case("scale_by_asgd(0.1, lambd=0.3, alpha=1.0, t0=0.5)", optax=None, why=_TORCH),
    Case("chain()", optax="identity()", why="optax's chain refuses to be empty"),
    Case("chain(clip(0.3), chain(trace(0.9), clip_by_global_norm(0.5)), scale(-0.1))"),
    Case("named_chain(('clip', clip_by_global_norm(0.5)), ('adam', adam(0.1)))"),
    Case(
        "partition({'a': adam(0.1), 'b': sgd(0.5, momentum=0.9)}, {'deep': 'b', 'w': 'a'})",
        unless={"trees": "the labels are those of one tree", "scope": "the labels say which leaves"},
    ),
    Case("sgd(0.1)"),
    Case("sgd(linear_schedule(0.1, 0.01, 30), momentum=0.9)"),
    Case("sgd(0.1, momentum=0.9, nesterov=True)", unless=_LINEAR),
    Case("sgd(0.1, momentum=0.9, dampening=0.9)", optax=None, why=_NO_OPTAX),
    Case("adam(0.1)"),
    Case("adam(0.1, b1=0.0, b2=0.9)"),
    Case("adamw(0.1, weight_decay=0.05)"),
    Case(f"adamw(exponential_decay(0.1, 10, 0.5), mask={_MASK})"),
    Case("nadam(0.1)"),
    Case("nadamw(0.1)"),
    Case("nadam(0.1, momentum_decay=4e-3)", optax=None, why=_TORCH),
    Case("nadamw(0.1, momentum_decay=4e-3)", optax=None, why=_TORCH),
    Case("asgd(0.1)", optax=None, why=_TORCH),
    Case("asgd(0.1, weight_decay=0.1)", optax=None, why=_TORCH),
    Case("adagrad(0.1)"),
    Case("adagrad(0.1, eps_in_sqrt=False)", optax=None, why=_NO_OPTAX),
    Case("rmsprop(0.1)"),
    Case("rmsprop(0.1, centered=True, momentum=0.9)"),
    Case("rmsprop(0.1, momentum=0.9, nesterov=True)"),
    Case("adadelta(0.5)"),
    Case("adadelta(0.5, weight_decay=0.1)"),
    Case("adadelta()", optax="chain(scale_by_adadelta(), scale(-1.0))", why="optax's default leaves the sign flip out"),
    Case("scale_by_belief()"),
    Case("scale_by_belief(0.8, 0.95, eps=1e-6, eps_root=1e-8, nesterov=True)"),
    Case("adabelief(0.1)"),
    Case("scale_by_acprop(eps_root=1e-8)"),
    Case("acprop(0.1, eps_root=1e-8, weight_decay=0.01)"),
    Case("scale_by_adamax()"),
    Case("adamax(0.1)"),
    Case("adamaxw(0.1, weight_decay=0.1)"),
    Case("scale_by_adan(eps_root=1e-8)"),
    Case("adan(0.1, weight_decay=0.1)"),
    Case("scale_by_amsgrad()"),
    Case("scale_by_amsgrad(bias_correction_mu=False, bias_correction_nu=False)"),
    Case("scale_by_amsgrad(correct_after_max=True)", optax=None, why="PyTorch's order"),
    Case("amsgrad(0.1)"),
    Case("scale_by_lion()"),
    Case("scale_by_lion(mode='smooth', smooth_beta=2.0)"),
    Case("scale_by_lion(mode='refined')", unless={"derivatives": "the corner of the clip"}),
    Case("lion(0.01)"),
    Case("scale_by_radam()"),
    Case("scale_by_radam(0.8, 0.95, nesterov=True)", unless=_LINEAR),
    Case("scale_by_radam(eps_before_correction=True)", optax=None, why="PyTorch's order"),
    Case("radam(0.1)"),
    Case("scale_by_rprop(0.1)", optax=None, why="optax applies every step one update late", unless=_REAL),
    Case("rprop(0.1)", optax=None, why="optax applies every step one update late", unless=_REAL),
    Case("scale_by_sign()"),
    Case("sign_sgd(0.01)"),
    Case("signum(0.01)"),
    Case("scale_by_ademamix()"),
    Case("ademamix(0.1, weight_decay=0.1)"),
    Case("scale_by_simplified_ademamix(alpha=0.5)"),
    Case("simplified_ademamix(0.01, weight_decay=0.1)"),
    Case("scale_by_adopt()"),
    Case(
        "scale_by_adopt(nesterov=True, use_clipping=False)",
        unless={"finite": "a large gradient after a zero one is divided by eps"},
    ),
    Case("adopt(0.1)"),
    Case("scale_by_cocob()", unless=_REAL),
    Case("cocob(weight_decay=0.1)", unless=_REAL),
    Case("scale_by_madgrad(0.1)", optax="scale_by_madgrad(madgrad_rate)", why="optax takes a root in float32"),
    Case(
        "madgrad(0.1, weight_decay=0.1)",
        optax="madgrad(madgrad_rate, weight_decay=0.1)",
        why="optax takes a root in float32",
    ),
    Case("scale_by_optimistic_gradient(0.5, 0.3)", unless=_LINEAR),
    Case("optimistic_gradient_descent(0.1)", unless=_LINEAR),
    Case("optimistic_adam_v2(0.1)"),
    Case("scale_by_laprop()", optax=None, why=_NO_OPTAX),
    Case("scale_by_laprop(0.95, 0.5, eps=1e-3)", optax=None, why=_NO_OPTAX),
    Case("laprop(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_adam_atan2()", optax=None, why=_NO_OPTAX),
    Case("scale_by_adam_atan2(0.95, 0.5, a=1.0, b=0.5)", optax=None, why=_NO_OPTAX),
    Case("adam_atan2(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_stable_adamw(weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case(f"scale_by_stable_adamw(weight_decay=0.1, mask={_MASK})", optax=None, why=_NO_OPTAX),
    Case("stable_adamw(0.1)", optax=None, why=_NO_OPTAX),
    Case("reduce_variance()", optax=None, why=_NO_OPTAX),
    Case("reduce_variance(0.9, gamma=0.3, max_norm=0.5)", optax=None, why=_NO_OPTAX),
    Case("mars(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("chain(reduce_variance(0.9), sgd(0.1, momentum=0.9))", optax=None, why=_NO_OPTAX),
    Case("ftrl(0.5)", optax=None, why=_NO_OPTAX),
    Case(
        "ftrl(0.5, -0.3, beta=1.0, l1_regularization_strength=0.4, l2_regularization_strength=0.1)",
        optax=None,
        why=_NO_OPTAX,
    ),
    Case("scale_by_param_block_norm()", optax=None, why="parity is in the chain below", unless=_LINEAR),
    Case("scale_by_param_block_rms()", optax=None, why="parity is in the chain below", unless=_LINEAR),
    Case("chain(scale(-0.1), scale_by_param_block_norm(), scale_by_param_block_rms())", unless=_LINEAR),
    Case("normalize_by_update_norm(2.0)"),
    Case("centralize()", unless=_LINEAR),
    Case("adaptive_grad_clip(0.3)"),
    Case("scale_by_trust_ratio()"),
    Case("scale_by_trust_ratio(0.1, 0.5, eps=1e-3)"),
    Case(
        f"scale_by_trust_ratio(mask={_MASK})", optax=f"masked(scale_by_trust_ratio(), {_MASK})", why="another spelling"
    ),
    Case("lars(0.1, weight_decay=0.1)"),
    Case("lamb(0.1, weight_decay=0.1)"),
    Case("fromage(0.1)"),
    Case("scale_by_novograd(weight_decay=0.1)"),
    Case("novograd(0.1)"),
    Case(f"novograd(0.1, weight_decay=0.1, mask={_MASK})", optax=None, why=_NO_OPTAX, unless=_ONE_TREE),
    Case("scale_by_sm3()", unless={"derivatives": "b2 = 1 stands for a sum, less for an average"}),
    Case("scale_by_sm3(0.5, 0.9)"),
    Case("sm3(0.1)", unless={"derivatives": "b2 = 1 stands for a sum, less for an average"}),
    Case(
        "scale_by_factored_rms(min_dim_size_to_factor=2)",
        optax="scale_by_factored_rms(min_dim_size_to_factor=2, decay_rate_fn=pow64)",
        why="optax takes the power in float32",
    ),
    Case(
        "scale_by_factored_rms(factored=False, decay_rate=0.5)",
        unless={"scope": "not factored it is elementwise"},
        optax="scale_by_factored_rms(False, 0.5, decay_rate_fn=pow64)",
        why="optax takes the power in float32",
    ),
    Case(
        "scale_by_factored_rms(min_dim_size_to_factor=2, step_offset=2)",
        optax=None,
        why="optax's is NaN until the offset is passed",
    ),
    Case("scale_by_factored_rms(dims='last', floor=1e-3, epsilon=0.0)", optax=None, why="PyTorch's form"),
    Case(
        "adafactor(0.1, min_dim_size_to_factor=2, momentum=0.9, dtype_momentum=None, "
        "weight_decay=0.1, decouple_lr=True)",
        optax="chain(scale_by_factored_rms(min_dim_size_to_factor=2, decay_rate_fn=pow64), clip_by_block_rms(1.0), "
        "scale(0.1), scale_by_param_block_rms(), ema(0.9, False), add_decayed_weights(0.1), scale(-1.0))",
        why="optax takes the power in float32, and its decay ignores the learning rate",
        unless=_CORNER,
    ),
    Case("adafactor(0.1, weight_decay=0.1)", optax=None, why="optax's decay ignores the learning rate", unless=_CORNER),
    Case("scale_by_muon()", optax=None, why="optax refuses vectors: see muon, and tests/optimizers/test_muon.py"),
    Case("scale_by_muon(ns_coeffs='dion', preconditioning='aol', nesterov=False)", optax=None, why="see above"),
    Case("scale_by_muon(preconditioning='schatten', adaptive=True)", optax=None, why="see above", unless=_LINEAR),
    Case("scale_by_muon(bias_correction=False, eps_is_floor=True)", optax=None, why="PyTorch's form"),
    Case("scale_by_shape()", optax=None, why="optax refuses vectors: see muon", unless=_LINEAR),
    Case("scale_by_shape(consistent_rms=0.2)", optax=None, why="optax refuses vectors: see muon"),
    Case("muon(0.1, eps=1e-8)", optax="muon(0.1)", why="optax adds 1e-8 to norms by default"),
    Case("muon(0.1)", optax=None, why="optax adds 1e-8 to norms by default"),
    Case(
        "muon(0.1, 'polar_express', adam_eps=1e-6, adam_mask=select.maybe(select.ndim(max=1)))",
        optax=None,
        why=_NO_OPTAX,
    ),
    Case("matrices_with_adamw(scale_by_muon(), 0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case(
        "muon(0.1, 'dion', beta=0.8, eps=1e-8, weight_decay=0.1, adam_b1=0.8, adam_learning_rate=0.01, "
        "consistent_rms=0.2)",
        unless={"collectives": "optax's iterations are a loop, whose collectives count once"},
    ),
    Case("muon(0.1, eps=1e-8, preconditioning='aol', nesterov=False, adaptive=True)", unless=_LINEAR),
    Case(
        f"muon(0.1, weight_decay=0.1, mask={_MASK})",
        optax=None,
        why="optax has another name for the mask",
        unless=_ONE_TREE,
    ),
    Case("scale_by_normuon()", optax=None, why=_NO_OPTAX),
    Case("normuon(0.1, beta=linear_schedule(0.9, 0.5, 10), weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_adamuon()", optax=None, why=_NO_OPTAX),
    Case("scale_by_adamuon(sign_momentum=False)", optax=None, why=_NO_OPTAX),
    Case("adamuon(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_dion(rank=1)", optax=None, why=_NO_OPTAX, unless=_SVD),
    Case("dion(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX, unless=_SVD),
    *(Case(f"scale_by_lmo({norm!r})", optax=None, why=_NO_OPTAX) for norm in ("spectral", "sign", "column", "row")),
    Case("scion(0.1, constrained=True)", optax=None, why=_NO_OPTAX),
    Case("scale_by_apollo(rank=1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_apollo(rank=1, update_proj_gap=2, scale_type='tensor')", optax=None, why=_NO_OPTAX),
    Case("apollo(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("apollo_mini(0.1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_fira(rank=1)", optax=None, why=_NO_OPTAX, unless=_SVD),
    Case("fira(0.1, rank=1, weight_decay=0.1)", optax=None, why=_NO_OPTAX, unless=_SVD),
    Case("scale_by_splus(interval=2)", optax=None, why=_NO_OPTAX, unless=_SVD),
    Case("splus(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX, unless=_SVD),
    Case("scale_by_grams()", optax=None, why=_NO_OPTAX),
    Case("grams(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_gsnr()", optax=None, why=_NO_OPTAX, unless=_LINEAR),
    Case("sgd_sai(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX, unless=_LINEAR),
    Case("scale_by_adam_mini()", optax=None, why=_NO_OPTAX),
    Case("adam_mini(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("scale_by_came()", optax=None, why=_NO_OPTAX),
    Case("came(0.1, weight_decay=0.1)", optax=None, why=_NO_OPTAX),
    Case("clip_by_past_norm(warmup_steps=2)", optax=None, why=_NO_OPTAX),
    Case("grokfast()", optax=None, why=_NO_OPTAX, unless=_LINEAR),
    Case("orthograd()", optax=None, why=_NO_OPTAX),
    *(
        Case(
            f"scale_by_width({{'w': (4, 2), 'deep': [(2,)]}}, {rule!r})",
            optax=None,
            why=_NO_OPTAX,
            unless={
                **_LINEAR,
                "trees": "the shapes are those of one tree",
                "scope": "paths say which shape is a leaf's",
            },
        )
        for rule in ("adam", "sgd", "muon")
    ),
    Case(
        "qk_clip(select.maybe(select.path('w')), head_axis=0)",
        optax=None,
        why=_NO_OPTAX,
        unless={"scope": "a selector says which leaves"},
    ),
    Case(
        "scale_by_galore(rank=1)",
        optax=None,
        why="optax decomposes in float32: see tests/optimizers/test_muon.py",
        unless=_SVD,
    ),
    Case(
        "scale_by_galore(rank=1, update_proj_gap=2, base_optimizer=trace(0.9))",
        optax=None,
        why="see above",
        unless=_SVD,
    ),
    Case(
        "galore(0.1, rank=1, weight_decay=0.1)",
        optax=None,
        why="see above",
        unless={
            **_SVD,
            "rounding": "the rule is no rule for one leaf: what it returns is rounded before the next link",
        },
    ),
    Case("scale_by_shampoo()", optax=None, why=_NO_OPTAX, unless=_FACTORS),
    Case(
        "scale_by_shampoo(1.0, 1e-3, 'none', interval=1, block_size=3, root='newton', precondition_1d=True)",
        optax=None,
        why=_NO_OPTAX,
        unless=_FACTORS,
    ),
    Case(
        "scale_by_shampoo(0.9, 1e-2, 'adagrad', True, interval=2, start_step=1, one_sided=True, exponent=3)",
        optax=None,
        why=_NO_OPTAX,
        unless=_FACTORS,
    ),
    Case("shampoo(0.1, graft='sgd', max_dim=4, weight_decay=0.1)", optax=None, why=_NO_OPTAX, unless=_FACTORS),
    Case("shampoo(0.1, graft='rmsprop', interval=1, eps=1e-3)", optax=None, why=_NO_OPTAX, unless=_FACTORS),
    Case("scale_by_soap()", optax=None, why=_NO_OPTAX, unless=_FACTORS),
    Case("scale_by_soap(interval=1, precondition_1d=True)", optax=None, why=_NO_OPTAX, unless=_FACTORS),
    Case(
        "scale_by_soap(0.8, 0.9, 0.7, eps=1e-3, interval=2, one_sided=True)",
        optax=None,
        why=_NO_OPTAX,
        unless=_FACTORS,
    ),
    Case("soap(0.1, interval=1, max_precond_dim=4, weight_decay=0.1)", optax=None, why=_NO_OPTAX, unless=_FACTORS),
    Case("scale_by_kron()", optax=None, why=_NO_OPTAX, unless={**_FACTORS, **_NOISE}),
    Case("scale_by_kron(0.5, 1.0, 0.3, damping=1e-2, key=1)", optax=None, why=_NO_OPTAX, unless={**_FACTORS, **_NOISE}),
    Case(
        "scale_by_kron(update_probability=0.5, one_sided=True)",
        optax=None,
        why=_NO_OPTAX,
        unless={**_FACTORS, **_NOISE},
    ),
    Case(
        "kron(0.1, triangular_1d=True, init_scale=0.1, weight_decay=0.1)",
        optax=None,
        why=_NO_OPTAX,
        unless={**_FACTORS, **_NOISE},
    ),
    Case("scale_by_polyak(0.5, max_learning_rate=0.3)"),
    Case("scale_by_polyak(variant='sps+', eps=0.1)"),
    Case("polyak_sgd(0.3)"),
    Case("scale_by_dog()", optax=None, why="see dog"),
    Case("scale_by_dog('learning_rate', 0.1)", optax=None, why="see dog"),
    Case("dog()"),
    Case("dog(init_step=('distance', 0.1), weight_decay=0.1)"),
    Case("dog(init_step=('learning_rate', 0.1))"),
    Case("scale_by_dowg()", optax=None, why="see dowg"),
    Case("dowg()"),
    Case("dowg(init_estim_sq_dist=0.1, weight_decay=0.1)"),
    Case(
        "scale_by_distance_over_gradients(global_scale=0.5)",
        optax="scale_by_distance_over_gradients(global_scale=0.5, param_dtype='float64')",
        why="optax keeps the first parameters in float32 unless told otherwise",
    ),
    Case("scale_by_dadapt_adamw()", optax="dadapt_adamw()", why="optax has the rule as a whole"),
    Case("dadapt_adamw(0.5, weight_decay=0.1, estim_lr0=1e-2)"),
    Case(
        f"dadapt_adamw(weight_decay=0.1, mask={_MASK}, decouple_lr=True)", optax=None, why=_NO_OPTAX, unless=_ONE_TREE
    ),
    Case("scale_by_prodigy()", optax="prodigy()", why="optax has the rule as a whole"),
    Case("prodigy(0.5, weight_decay=0.1, estim_lr0=1e-2)"),
    Case("prodigy(estim_lr0=1e-2, estim_lr_coef=2.0, beta3=0.9, safeguard_warmup=True)"),
    Case("scale_by_momo()", optax="momo()", why="optax has the rule as a whole"),
    Case("momo(0.5, weight_decay=0.1, lower_bound=1.0, adapt_lower_bound=True)"),
    Case("scale_by_momo_adam()", optax="momo_adam()", why="optax has the rule as a whole"),
    Case("momo_adam(0.5, weight_decay=0.1, lower_bound=1.0, adapt_lower_bound=True)"),
    Case("add_noise(0.01, 0.55, 1)", unless=_NOISE),
    Case("noisy_sgd(0.1, key=2)", unless=_NOISE),
    Case("zero_nans()"),
    Case("reduce_on_plateau(0.5, patience=2)"),
    Case(
        "reduce_on_plateau(0.5, 2, 0.01, 0.01, cooldown=3, accumulation_size=2, min_scale=0.1)",
        unless={"finite": "before the first comparison the best value is infinite"},
    ),
    Case("reduce_on_plateau(patience=3, mode='max')", optax=None, why=_NO_OPTAX),
    Case("inject_hyperparams(adamw)(0.1, weight_decay=0.1)", unless=_STATE),
    Case(
        f"inject_hyperparams(adamw)(linear_schedule(0.1, 0.01, 30), mask={_MASK})",
        unless={**_STATE, **_ONE_TREE},
    ),
    Case("inject_hyperparams(adamw)(slower(), weight_decay=0.1)", optax=None, why=_NO_OPTAX, unless=_STATE),
    Case("apply_every(2)", unless=_LINEAR),
    Case("yogi(0.1)"),
    Case("yogi(0.1, nu_floor=1e-3)", optax=None, why=_NO_OPTAX),
]

# Each wrapper is applied to every transformation in `INNER`, which replaces `{}`.
WRAPPERS = [
    Case(f"masked({{}}, {_W})", optax=f"masked({{}}, {_MASK})", why="optax has no selectors", unless=_BY_PATH),
    Case(
        f"masked({{}}, {_W}, rest='zero')",
        optax="partition({'a': {}, 'b': set_to_zero()}, {'deep': 'b', 'w': 'a'})",
        why="optax has no rest",
        unless=_BY_PATH,
    ),
    Case(
        f"selective_transform({{}}, freeze_mask={_W})",
        optax="partition({'a': {}, 'b': set_to_zero()}, {'deep': 'a', 'w': 'b'})",
        why="optax has no selectors",
        unless=_BY_PATH,
    ),
    Case("layerwise_lr_decay({}, depth, 0.5)", optax=None, why=_NO_OPTAX, unless=_BY_PATH),
    Case(
        "accumulate({}, 2)",
        optax="MultiSteps({}, 2, accumulator_dtype='float64').gradient_transformation()",
        why="optax has it as MultiSteps, which is in float32 unless told otherwise",
        unless=_OWN,
    ),
    Case("accumulate({}, 1)", optax="{}", why="it is the inner one"),
    Case(
        "accumulate({}, 2, weight='tokens')",
        optax=None,
        why=_NO_OPTAX,
        unless={"scope": "the weight is a number of the whole batch", **_OWN},
    ),
    Case(
        "accumulate({}, growing, use_grad_mean=False, should_skip_update_fn=skip_not_finite)",
        optax="MultiSteps({}, growing, False, skip_not_finite, 'float64').gradient_transformation()",
        why="optax's mean is in float32 unless told otherwise",
        unless={**_LINEAR, **_OWN},
    ),
    Case("conditionally_transform({}, late)", unless=_OWN),
    Case("conditionally_mask({}, late)", unless=_OWN),
    Case("apply_if_finite({}, 3)", unless=_LOOKS),
    Case("apply_if_finite({}, 0, 'accept')", optax="{}", why="another policy", unless=_LOOKS),
    Case("apply_if_finite({}, 0, 'raise')", optax="{}", why="another policy", unless=_LOOKS),
    Case("skip_spikes({}, warmup=1)", optax=None, why=_NO_OPTAX, unless=_OWN),
    Case(
        "dynamic_loss_scale({})",
        optax="chain(scale(2.0**-15), {})",
        why=_NO_OPTAX,
        unless={"derivatives": "the scale is a float32, too coarse for differences", **_LOOKS},
    ),
    Case("master_weights({})", optax="{}", why="parameters in float64 need none", unless=_WIDE),
    Case("corrected_weights({}, 'int8')", optax="{}", why="parameters in float64 need none", unless=_WIDE),
    Case("stochastic_weights({})", optax="{}", why="parameters in float64 are not rounded", unless=_WIDE),
    Case("ema_params({}, 0.9)", optax="{}", why="the updates stay as they are"),
    Case("ema_params({}, 0.9, debias=False)", optax="{}", why="the updates stay as they are"),
    Case("polyak_average({}, linear_schedule(1.0, 0.1, 10), start=1)", optax="{}", why="the updates stay as they are"),
    Case("swa({}, 1, 2)", optax="{}", why="the updates stay as they are"),
    Case(
        "lookahead({}, 2, 0.5)",
        optax=None,
        why="optax's parameters are pairs; see tests/wrappers/test_around_gradient.py",
    ),
    Case("lookahead({}, 2, 0.5, reset_state=True)", optax=None, why="as above", unless=_RESET),
    Case("reset_state_every({}, 2)", optax=None, why=_NO_OPTAX, unless=_RESET),
    Case("schedule_free({}, 0.1)"),
    Case(
        "sam({}, chain(normalize(), sgd(0.05)))",
        optax=None,
        why="optax's takes no value; see tests/wrappers/test_around_gradient.py",
        unless=_OWN,
    ),
    Case(
        "sam({}, sgd(0.05), 2, opaque_mode=True)",
        optax=None,
        why="it needs a gradient function; see tests/wrappers/test_around_gradient.py",
        unless={**_AT_PARAMS, **_OWN},
    ),
    Case("mechanize({}, s_init=1.0)"),  # optax's parameters would lose smaller first steps to rounding
    Case("cautious({})", optax=None, why=_NO_OPTAX),
    Case("flatten({})"),
    Case("split_real_and_imaginary({})", unless=_SPLIT),
    Case("with_grad_arg({})", optax="{}", why="nothing in it uses the gradient"),
    Case(
        f"with_metrics({{}}, groups={{'w': {_W}}})",
        optax="{}",
        why="the updates stay as they are",
        unless=_ROUNDED | _REPORTS,
    ),
]

INNER = ["adam(0.1)", "lamb(0.1)", "chain(clip_by_global_norm(0.5), sgd(0.1, momentum=0.9))"]
"""An elementwise, a layerwise and a treewide transformation."""


def wrapped(wrapper: Case, inner: Case) -> Case:
    """Makes the case of a wrapper around another case."""
    optax = None if wrapper.optax is None or inner.optax is None else wrapper.optax or wrapper.expression
    return dataclasses.replace(
        wrapper,
        expression=wrapper.expression.replace("{}", inner.expression),
        optax=optax and optax.replace("{}", inner.optax or inner.expression),
        why=wrapper.why or inner.why or "around another",
        unless={**inner.unless, **wrapper.unless},
    )


TRANSFORMATIONS += [wrapped(wrapper, Case(inner)) for wrapper in WRAPPERS for inner in INNER]
TRANSFORMATIONS += [  # nested twice: each wrapper around the third wrapper after it
    wrapped(outer, wrapped(inner, Case("adam(0.1)")))
    for outer, inner in zip(WRAPPERS, WRAPPERS[3:] + WRAPPERS[:3], strict=True)
]
TRANSFORMATIONS += [
    Case(f"freeze({_W})", optax=f"freeze({_MASK})", why="optax has no selectors", unless=_BY_PATH),
    Case("scale_by_depth(depth, 0.5)", optax=None, why=_NO_OPTAX, unless=_BY_PATH),
    Case("ema_of_params(0.9)", optax="identity()", why="the updates stay as they are"),
    Case("average_of_params(0.5, 1, 2, 'after')", optax="identity()", why="the updates stay as they are"),
    Case("scale_by_lookahead(2, 0.5)", optax=None, why="a part of lookahead"),
    Case(
        "scale_by_schedule_free(0.1)",
        optax="schedule_free(identity(), 0.1)",
        why="a part of schedule_free",
    ),
    Case("schedule_free_sgd(0.1, b1=0.8, weight_decay=0.1)"),
    Case("schedule_free_sgd(0.1, 5, 0.8)", optax=None, why="optax weighs a step by the next one's rate"),
    Case("schedule_free_adamw(0.1, weight_decay=0.1)"),
    Case("mask_misaligned()", optax=None, why=_NO_OPTAX),
    Case("scale_by_mechanic()", optax=None, why="a part of mechanize"),
    Case("snapshot('norm', tree.norm)", unless=_MEASURED),
    Case(
        "monitor({'norm': tree.norm, 'mean': measure_with_ema(tree.norm, 0.9)})",
        optax=None,
        why="the structure of optax's state is another after the first step",
        unless=_MEASURED,
    ),
]

# Their gradients have the examples along the first axis, or are points of a Lagrangian, so no law about trees like
# `SHAPES` applies to them.
PER_EXAMPLE = [
    Case("primal_dual(adam(0.1), sgd(0.5))", optax=None, why=_NO_OPTAX),
    Case("differentially_private_aggregate(0.5, 0.3, key=1)"),
    Case("average_per_element_updates()", optax=None, why=_NO_OPTAX),
    Case("add_mean_variance_to_opt(adam(0.1))", optax=None, why=_NO_OPTAX),
    Case("add_mean_variance_to_opt(adam(0.1), accumulation_steps=2)", optax=None, why=_NO_OPTAX),
    Case("dpsgd(0.1, 0.5, 0.3, seed=1, momentum=0.9)"),
]

SCHEDULES = [
    Case("constant_schedule(0.5)"),
    Case("function_schedule(halving)", optax="halving", why="optax's schedules are plain functions"),
    Case("linear_schedule(1.0, 0.2, 10)"),
    Case("linear_schedule(0.0, 1.0, 7, transition_begin=3)"),
    Case("polynomial_schedule(1.0, 0.1, 2.5, 10, transition_begin=2)"),
    Case("exponential_decay(1.0, 4, 0.5)"),
    Case("exponential_decay(1.0, 4, 0.5, transition_begin=3, staircase=True, end_value=0.2)"),
    Case("exponential_decay(1.0, 4, 1.5, end_value=3.0)"),
    Case("piecewise_constant_schedule(1.0)"),
    Case("piecewise_constant_schedule(1.0, {10: 0.1, 5: 0.5})"),
    Case("cosine_decay_schedule(1.0, 10)"),
    Case("cosine_decay_schedule(1.0, 10, alpha=0.1, exponent=1.5)"),
    Case("warmup_cosine_decay_schedule(0.1, 1.0, 5, 15, 0.2)"),
    Case("warmup_cosine_decay_schedule(0.1, 1.0, 0, 15, exponent=2.0)"),
    Case("inverse_power_schedule(0.5, 0.2)", optax=None, why=_NO_OPTAX),
    Case("inverse_power_schedule(0.5, 2.0, alpha=1.0)", optax=None, why=_NO_OPTAX),
    Case("inverse_sqrt_schedule(0.1, 1.0, 5)", optax=None, why=_NO_OPTAX),
    Case("optimal_constant_rate(2.0, 3.0, 100)", optax=None, why=_NO_OPTAX),
    Case("exponential_schedule(0.5, 0.1)", optax=None, why=_NO_OPTAX),
    Case("piecewise_interpolate_schedule('linear', 0.5)"),
    Case("piecewise_interpolate_schedule('linear', 0.5, {10: 0.1, 5: 2.0, 17: 0.0})"),
    Case("piecewise_interpolate_schedule('cosine', 0.5, {0: 3.0, 4: 0.5, 11: 2.0})"),
    Case("warmup_constant_schedule(0.1, 0.5, 5)"),
    Case("warmup_exponential_decay_schedule(0.1, 1.0, 5, 3, 0.5)"),
    Case("warmup_exponential_decay_schedule(0.1, 1.0, 5, 3, 0.5, 2, staircase=True, end_value=0.2)"),
    Case("linear_onecycle_schedule(25, 0.5)"),
    Case("linear_onecycle_schedule(20, 0.5, 0.25, 0.6, 4.0, 50.0)"),
    Case("cosine_onecycle_schedule(25, 0.5)"),
    Case("cosine_onecycle_schedule(20, 0.5, 0.0, 4.0, 50.0)"),
    Case(
        "sgdr_schedule([dict(init_value=0.1, peak_value=1.0, warmup_steps=2, decay_steps=7), "
        "dict(init_value=0.1, peak_value=0.5, warmup_steps=3, decay_steps=9, end_value=0.1, exponent=1.5)])"
    ),
    Case("wsd_schedule(0.1, 1.0, 4, 5, 8)", optax=None, why=_NO_OPTAX),
    Case("wsd_schedule(0.1, 1.0, 4, 0, 8, 0.05, decay='cosine')", optax=None, why=_NO_OPTAX),
    Case("wsd_schedule(0.1, 1.0, 0, 5, 8, decay='1-sqrt')", optax=None, why=_NO_OPTAX),
    Case("cyclic_schedule(0.1, 1.0, 3, 5)", optax=None, why=_NO_OPTAX),
    Case("cyclic_schedule(0.1, 1.0, 3, mode='triangular2')", optax=None, why=_NO_OPTAX),
    Case("cyclic_schedule(0.1, 1.0, 3, 4, mode='exp_range', gamma=0.9)", optax=None, why=_NO_OPTAX),
    Case("cosine_restarts_schedule(1.0, 3)", optax=None, why=_NO_OPTAX),
    Case("cosine_restarts_schedule(1.0, 3, 2, end_value=0.1)", optax=None, why=_NO_OPTAX),
    Case("cosine_warmup_restarts_schedule(0.1, 5, 1.5, 1.0, 2, 0.8)", optax=None, why=_NO_OPTAX),
    Case("cosine_warmup_restarts_schedule(0.1, 5, 1, 1.0)", optax=None, why=_NO_OPTAX),
    Case("step_schedule(1.0, 4)", optax="exponential_decay(1.0, 4, 0.1, staircase=True)", why=_NAME),
    Case("multistep_schedule(1.0, [3, 8], 0.5)", optax="piecewise_constant_schedule(1.0, {3: 0.5, 8: 0.5})", why=_NAME),
    Case("lambda_schedule(0.5, halving)", optax=None, why=_NO_OPTAX),
    Case("multiplicative_schedule(0.5, halving)", optax=None, why=_NO_OPTAX),
    Case(
        "multiply_schedules([linear_schedule(0.0, 1.0, 4), cosine_decay_schedule(0.5, 9)])", optax=None, why=_NO_OPTAX
    ),
    Case(
        "join_schedules([linear_schedule(0.0, 1.0, 4), cosine_decay_schedule(1.0, 8), constant_schedule(0.1)], [4, 9])"
    ),
]

_SEARCH = {
    "reverse": "the search is a while loop, which has no reverse derivative",
    "scope": "the search looks at the whole tree",
    "rounding": "values are those at parameters in their own dtype",
    "finite": "what is known of a search is infinite before it has seen a point",
}
_POSITIVE = "optax keeps pairs without positive curvature, too; see tests/curvature/test_quasi_newton.py"
_PAIRS = {"rounding": "differences of rounded parameters", "derivatives": "whether a pair is kept is a corner"}
TRANSFORMATIONS += [
    Case("scale_by_lbfgs()", optax=None, why=_POSITIVE, unless={**_PAIRS, "scope": "it sees the whole tree"}),
    Case(
        "scale_by_lbfgs(2, scale_init_precond=False)",
        optax=None,
        why=_POSITIVE,
        unless={**_PAIRS, "scope": "it sees the whole tree"},
    ),
    Case(
        "lbfgs(0.1, linesearch=None)", optax=None, why=_POSITIVE, unless={**_PAIRS, "scope": "it sees the whole tree"}
    ),
    Case("lbfgs()", optax=None, why="another line search", unless={**_PAIRS, **_SEARCH}),
    Case("scale_by_bfgs()", optax=None, why=_NO_OPTAX, unless={**_PAIRS, **_REAL}),
    Case("bfgs()", optax=None, why=_NO_OPTAX, unless={**_PAIRS, **_SEARCH, **_REAL}),
    Case(
        "bfgs(0.1, linesearch=None, per_leaf=True, damped=True)", optax=None, why=_NO_OPTAX, unless={**_PAIRS, **_REAL}
    ),
    Case(
        "scale_by_sr1()",
        optax=None,
        why=_NO_OPTAX,
        unless={**_PAIRS, **_REAL, "finite": "its denominators leave the range where the squares of gradients do"},
    ),
    Case("sr1(0.5)", optax=None, why=_NO_OPTAX, unless={**_PAIRS, **_SEARCH, **_REAL}),
    Case("scale_by_backtracking_linesearch(10)", optax=None, why="it needs a function", unless=_SEARCH),
    Case("scale_by_zoom_linesearch(10)", optax=None, why="it needs a function", unless=_SEARCH),
    Case("scale_by_hager_zhang_linesearch(10)", optax=None, why="it needs a function", unless=_SEARCH),
    Case("scale_by_nonlinear_cg()", optax=None, why=_NO_OPTAX, unless=_PAIRS),
    Case("scale_by_nonlinear_cg('polak_ribiere')", optax=None, why=_NO_OPTAX, unless=_PAIRS),
    Case("scale_by_nonlinear_cg('fletcher_reeves', float('inf'))", optax=None, why=_NO_OPTAX),
    Case("nonlinear_cg()", optax=None, why=_NO_OPTAX, unless={**_PAIRS, **_SEARCH}),
]

_BOX = {
    **_PAIRS,
    **_REAL,
    "by hand": "bounds are no schedules",
    "scope": "the step is that of the whole tree",
    "finite": "a bound far away is a step out of range",
}
TRANSFORMATIONS += [
    Case("scale_by_lbfgsb(identity(), -3.0, 0.5)", optax=None, why=_NO_OPTAX, unless=_BOX),
    Case("lbfgsb(-3.0, float('inf'))", optax=None, why=_NO_OPTAX, unless={**_BOX, **_SEARCH}),
]

_WHOLE = {
    **_REAL,
    "rotation": "real parameters only",
    "scope": "the Hessian is that of the whole tree",
    "rounding": "the Hessian is taken at parameters in their own dtype",
}
_EXACT = {"derivatives": "they are those of the exact solution, of which it stops short"}
TRANSFORMATIONS += [
    Case("newton()", optax=None, why=_NO_OPTAX, unless=_WHOLE),
    Case("newton(0.5, hessian='absolute', damping=0.1)", optax=None, why=_NO_OPTAX, unless=_WHOLE),
    Case("scale_by_newton()", optax=None, why=_NO_OPTAX, unless=_WHOLE),
    Case("newton_cg()", optax=None, why=_NO_OPTAX, unless={**_WHOLE, **_EXACT, **_SEARCH}),
    Case("newton_cg(linesearch=None)", optax=None, why=_NO_OPTAX, unless={**_WHOLE, **_EXACT}),
    Case("scale_by_newton_cg()", optax=None, why=_NO_OPTAX, unless={**_WHOLE, **_EXACT}),
    Case("scale_by_newton_cg(1e-9)", optax=None, why=_NO_OPTAX, unless=_WHOLE),
    Case(
        "trust_region_newton(subproblem='exact')",
        optax=None,
        why=_NO_OPTAX,
        unless={**_WHOLE, "derivatives": "the step counts as a constant"},
    ),
    Case(
        "trust_region_newton()",
        optax=None,
        why=_NO_OPTAX,
        unless={**_WHOLE, "derivatives": "the step counts as a constant"},
    ),
    Case("scale_by_hessian_diag()", optax=None, why=_NO_OPTAX),
    Case("scale_by_adahessian()", optax=None, why=_NO_OPTAX),
    Case("adahessian(0.1)", optax=None, why=_NO_OPTAX),
    Case(
        "scale_by_sophia(update_interval=2)",
        optax=None,
        why="optax's estimates the diagonal itself: compared in tests/curvature/test_sophia.py",
    ),
    Case("sophia(0.1, update_interval=2)", optax=None, why="optax's keys are others", unless=_WHOLE),
    Case("with_hessian_diag(adahessian(0.1))", optax=None, why=_NO_OPTAX, unless=_WHOLE),
]

_STORED = {
    "derivatives": "what is stored is rounded, which has no difference quotient",
    "complex": "the formats are real",
}
_IN_BLOCKS = {"scope": "entries of a block share a scale, and the place of an entry decides how it is rounded"}
TRANSFORMATIONS += [
    Case("stored(adam(0.1), 'bfloat16', 1)", optax=None, why=_NO_OPTAX, unless={**_STORED, **_OWN}),
    Case(
        "stored(lookahead(sgd(0.1, momentum=0.9), 2, 0.5), {'trace': rounded('float16')}, 1)",
        optax=None,
        why=_NO_OPTAX,
        unless={**_STORED, **_OWN, "finite": "float16 saturates where the gradients do not"},
    ),
    *(
        Case(f"stored({inner}, {formats}, 1)", optax=None, why=_NO_OPTAX, unless={**_STORED, **_OWN, **_IN_BLOCKS})
        for inner, formats in (
            ("adamw(0.1)", "'int8'"),
            ("adamw(0.1)", "'int4'"),
            ("adamw(0.1)", "'float8_e4m3fn'"),
            ("adamw(0.1)", "{'mu': 'bf16+8', 'nu': 'bf16+16'}"),
            ("adamw(0.1)", "storage.stochastic('bfloat16', seed=1)"),
            ("lion(0.1)", "[(select.maybe(select.path('w')), 'int8'), (select.everything(), {'mu': 'float8_e5m2'})]"),
            ("muon(0.1)", "{'mu': 'int8', 'nu': 'uint8'}"),
            ("adafactor(0.1, momentum=0.9)", "'bf16+8'"),
            ("schedule_free_adamw(0.1)", "{'z': 'bf16+16', 'nu': 'uint8'}"),
            ("scale_by_lbfgs()", "{'diff_params_memory': 'bf16+8', 'updates': 'bf16+16'}"),
        )
    ),
]

TRANSFORMATIONS += [
    Case(f"adam(0.1, {_DECAYS})", optax=None, why=_PRODUCT),
    Case(f"nadamw(0.1, {_DECAYS}, weight_decay=0.1)", optax=None, why=_PRODUCT),
    Case("ema(linear_schedule(0.5, 0.9, 10))", optax=None, why=_PRODUCT),
    Case("scale_by_acprop(b2=linear_schedule(0.9, 0.99, 10), eps_root=1e-8)", optax=None, why=_PRODUCT),
    Case(f"momo_adam(0.1, {_DECAYS})", optax=None, why=_PRODUCT),
    Case("muon(0.1, beta=linear_schedule(0.9, 0.5, 10), weight_decay=0.1)", optax=None, why=_PRODUCT),
    Case(f"prodigy(betas=({_DECAYS.replace('b1=', '').replace('b2=', '')}), beta3=0.9)", optax=None, why=_PRODUCT),
]

_ONE_ENTRY = {"scope": "the set is a product of intervals"}
TRANSFORMATIONS += [
    Case("clip_params(-0.5, 0.7)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("keep_params_nonnegative()", unless=_REAL),
    Case("project(projection_l2_ball, 2.0)", optax=None, why=_NO_OPTAX),
    Case("project(projection_simplex, axis=-1)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("project(projection_box, -0.5, 0.7)", optax=None, why=_NO_OPTAX, unless={**_REAL, **_ONE_ENTRY}),
    Case("project(projection_l1_ball, linear_schedule(3.0, 1.0, 20))", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case(f"project(projection_l2_sphere, 2.0, mask={_MASK})", optax=None, why=_NO_OPTAX),
    Case("flatten(project(projection_l1_ball, 3.0))", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("chain(adamw(0.1), project(projection_simplex, axis=-1))", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("proximal(projection_simplex, 0.1, 2.0)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("proximal(prox_l1, linear_schedule(0.2, 0.1, 10), 0.3)", optax=None, why=_NO_OPTAX, unless=_ONE_ENTRY),
    Case("proximal(prox_l2, 0.1, 0.3, acceleration=True)", optax=None, why=_NO_OPTAX),
    Case("proximal_gradient(projection_l2_ball, 0.1)", optax=None, why=_NO_OPTAX),
    Case("proximal(projection_simplex, 0.1, acceleration=True)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("accelerated_proximal_gradient(projection_l2_ball, 0.1, 2.0, restart=False)", optax=None, why=_NO_OPTAX),
    Case("mirror_descent(0.1)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("mirror_descent(0.1, scale=2.0, axis=-1)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("mirror_descent(0.1, 'unnormalized_entropy')", optax=None, why=_NO_OPTAX, unless={**_REAL, **_ONE_ENTRY}),
    Case("mirror_descent(0.1, 'bit_entropy', scale=3.0)", optax=None, why=_NO_OPTAX, unless={**_REAL, **_ONE_ENTRY}),
    Case("frank_wolfe(oracle_simplex, 2.0, axis=-1)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("frank_wolfe(oracle_l1_ball, 3.0)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("frank_wolfe(oracle_l2_ball, 3.0, step_size=0.1)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("frank_wolfe(oracle_linf_ball)", optax=None, why=_NO_OPTAX, unless={**_REAL, **_ONE_ENTRY}),
    Case("frank_wolfe(oracle_box, -0.5, 0.7)", optax=None, why=_NO_OPTAX, unless={**_REAL, **_ONE_ENTRY}),
    Case(
        "frank_wolfe(oracle_nuclear_ball, 3.0)",
        optax=None,
        why=_NO_OPTAX,
        unless={**_REAL, "derivatives": "singular vectors count as constants"},
    ),
    Case("riemannian()", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("riemannian(scale=2.0, axis=-1)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("riemannian(scale=0.1)", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("riemannian('stiefel')", optax=None, why=_NO_OPTAX, unless=_REAL),
    Case("riemannian('stiefel', scale=2.0, retraction='qr')", optax=None, why=_NO_OPTAX, unless=_REAL),
]
