"""Benchmarks of gradtx against optax; `python -m benchmarks.step --help` lists what can be measured."""
