"""JAX as the tests need it, and examples of docstrings as users see them."""

import jax
import pytest

from tests import environment


@pytest.fixture(autouse=True)
def _doctest_defaults(request: pytest.FixtureRequest):
    """Examples in docstrings show what users see, in JAX's default precision."""
    if isinstance(request.node, pytest.DoctestItem):
        with jax.enable_x64(False):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def _room_for_programs():
    yield
    environment.make_room()
