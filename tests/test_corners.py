"""The corner cases of the contract: gradtx gets them right, and optax fails as described."""

import pytest

from tests.laws.corners import CORNERS, OPTIMIZERS
from tests.libraries import GRADTX, OPTAX


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", CORNERS)
def test_gradtx_is_right(name):
    CORNERS[name](GRADTX)


# How each corner fails with optax 0.2.8: text of the error message, with a count if the corner counts failures.
SAID = {
    "float16_zero_gradients": "23 of 44",
    "float32_gradients_of_bfloat16_parameters": "39 of 44",
    "injected_numbers_of_bfloat16_parameters": "NaN",
    "the_norm_of_a_thousand_bfloat16_leaves": "array(2.)",
    "clipping_float16_where_the_norm_overflows": "[0]: 0.0 (ACTUAL)",
    "clipping_float32_where_the_norm_overflows": "[0]: 0.0 (ACTUAL)",
    "clipping_zeros_to_zero": "nan, nan",
    "derivatives_through_adam_at_a_zero_gradient": "nan",
    "params_and_fresh_state_donated_together": "cocob, madgrad, dog, dowg, prodigy, lbfgs, mechanize, scale_by_dist",
    "states_of_abstract_parameters": "9 of 44",
    "a_callable_mask_is_no_schedule": "-0.0 (ACTUAL), -0.05 (DESIRED)",
    "the_decay_of_adafactor_follows_the_learning_rate": "-0.10000000",
    "a_plateau_below_zero": "array(1.",
    "nan_after_the_limit_of_apply_if_finite": "nan, nan, nan, nan, nan]",
    "neighbouring_large_steps": "both have the same value",
    "an_update_of_another_shape_is_refused": "(2, 2) from then on",
}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", CORNERS)
def test_optax_is_as_it_is_said_to_be(name):
    with pytest.raises(AssertionError) as failure:
        CORNERS[name](OPTAX)
    assert SAID[name] in str(failure.value)


def test_the_optimizers_of_both_are_many():
    assert len(OPTIMIZERS) >= 40
