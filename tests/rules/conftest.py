"""The gateway of the unit tests, for rules about its routes."""

from tests.unit.gateway.conftest import gateway

__all__ = ["gateway"]
