"""Other libraries' optimizers, to the last digit, under the names that those libraries give them."""
