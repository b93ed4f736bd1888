"""The module `optax.tree`: gradtx's functions of trees have the same names and arguments."""

from gradtx.tree import add as add
from gradtx.tree import add_scale as add_scale
from gradtx.tree import allclose as allclose
from gradtx.tree import batch_shape as batch_shape
from gradtx.tree import bias_correction as bias_correction
from gradtx.tree import cast as cast
from gradtx.tree import cast_like as cast_like
from gradtx.tree import clip as clip
from gradtx.tree import conj as conj
from gradtx.tree import div as div
from gradtx.tree import dtype as dtype
from gradtx.tree import full_like as full_like
from gradtx.tree import get as get
from gradtx.tree import get_all_with_path as get_all_with_path
from gradtx.tree import map_params as map_params
from gradtx.tree import max as max  # noqa: A004
from gradtx.tree import min as min  # noqa: A004
from gradtx.tree import mul as mul
from gradtx.tree import norm as norm
from gradtx.tree import ones_like as ones_like
from gradtx.tree import random_like as random_like
from gradtx.tree import real as real
from gradtx.tree import scale as scale
from gradtx.tree import set as set  # noqa: A004
from gradtx.tree import size as size
from gradtx.tree import split_key_like as split_key_like
from gradtx.tree import sub as sub
from gradtx.tree import sum as sum  # noqa: A004
from gradtx.tree import unwrap_random_key_data as unwrap_random_key_data
from gradtx.tree import update_infinity_moment as update_infinity_moment
from gradtx.tree import update_moment as update_moment
from gradtx.tree import update_moment_per_elem_norm as update_moment_per_elem_norm
from gradtx.tree import vdot as vdot
from gradtx.tree import where as where
from gradtx.tree import zeros_like as zeros_like
