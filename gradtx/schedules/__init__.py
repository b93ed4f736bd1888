"""Schedules: immutable callables; `schedule(count)` maps the step count to a number, such as a learning rate."""
