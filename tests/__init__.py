"""The tests, and the laws and cases that the contract shares with them. JAX is set up before anything here uses it."""

from tests import environment as environment
