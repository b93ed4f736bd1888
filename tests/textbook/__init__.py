"""Tests of the pictures in examples/textbook: the numbers behind each picture show what its text claims."""

import contextlib
import functools
import importlib

import jax


@contextlib.contextmanager
def as_it_is_run():
    """Sets JAX's default precision and broadcasting rules, with which the scripts run."""
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def script(name):
    return importlib.import_module(f"examples.textbook.{name}")


@functools.cache
def computed(name):
    """Returns the result of a script; all tests share it."""
    with as_it_is_run():
        return script(name).compute()
