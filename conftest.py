"""JAX as the tests need it, examples of docstrings as users see them, and samples of tests with many parameters."""

import itertools

import jax
import pytest

from tests import environment
from tests.drawn import is_drawn

collect_ignore = ["tests/static_types/expected_errors.py"]  # for a type checker: to run it is an error

_sampled: set[object] = set()
"""The test functions of which the quick run has a set of parameters already."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Of a test marked `one_in(n)`, makes all sets of parameters heavy but the first and a sample of the others."""
    if marker := item.get_closest_marker("one_in"):
        function = getattr(item, "function", item)
        if function in _sampled and not is_drawn(item.name, *marker.args):
            item.add_marker(pytest.mark.heavy)
        _sampled.add(function)


@pytest.fixture(autouse=True)
def _doctest_defaults(request: pytest.FixtureRequest):
    """Examples in docstrings show what users see, in JAX's default precision."""
    if isinstance(request.node, pytest.DoctestItem):
        with jax.enable_x64(False):
            yield
    else:
        yield


_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def _room_for_programs():
    yield
    if next(_tests) % 20 == 0:  # to count the maps takes as long as a small test
        environment.make_room()
