"""Methods for constrained problems: proximal and projection-free steps, multipliers, penalties."""
