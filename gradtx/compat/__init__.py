"""The optimizers of other libraries under their own names and with the same results."""
