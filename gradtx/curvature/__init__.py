"""Methods that need more than a gradient: curvature products, Newton and quasi-Newton methods, line searches,
solvers.
"""
