"""What needs more than a gradient: curvature products, Newton's method and its kin, line searches, solver loops."""
