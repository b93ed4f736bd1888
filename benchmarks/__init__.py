"""Benchmarks of gradtx against optax; `python -m benchmarks.sweep --help` lists what can be measured."""
