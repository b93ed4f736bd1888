"""The optimizers of other libraries, computed to the last digit, under the names that those libraries use."""
