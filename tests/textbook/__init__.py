"""The pictures of examples/textbook: what each of them shows is tested, by its numbers."""

import contextlib
import functools
import importlib

import jax


@contextlib.contextmanager
def as_it_is_run():
    """JAX's default precision and rules of broadcasting, which the scripts have when they are run."""
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def script(name):
    return importlib.import_module(f"examples.textbook.{name}")


@functools.cache
def computed(name):
    """The result of a script, which all tests share."""
    with as_it_is_run():
        return script(name).compute()
