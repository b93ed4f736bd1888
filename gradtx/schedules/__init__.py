"""Schedules: frozen values that map the step count to a number, by `schedule(count)`."""
