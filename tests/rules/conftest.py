"""The gateway of the unit tests, for the rules about routes."""

from tests.unit.gateway.conftest import gateway

__all__ = ["gateway"]
