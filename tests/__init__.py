"""The tests, and the laws and cases that they share with the contract. This module sets up JAX before it is used."""

from tests import environment as environment
