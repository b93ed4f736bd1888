"""The module `optax.projections`: gradtx's projections have the same names and arguments."""

from gradtx import projection_box as projection_box
from gradtx import projection_halfspace as projection_halfspace
from gradtx import projection_hypercube as projection_hypercube
from gradtx import projection_hyperplane as projection_hyperplane
from gradtx import projection_l1_ball as projection_l1_ball
from gradtx import projection_l1_sphere as projection_l1_sphere
from gradtx import projection_l2_ball as projection_l2_ball
from gradtx import projection_l2_sphere as projection_l2_sphere
from gradtx import projection_linf_ball as projection_linf_ball
from gradtx import projection_non_negative as projection_non_negative
from gradtx import projection_simplex as projection_simplex
from gradtx import projection_vector as projection_vector
