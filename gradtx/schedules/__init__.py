"""Step -> number: frozen values with `__call__(count)`, pure functions of the step count."""
