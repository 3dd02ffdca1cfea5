"""Rules about routes use the gateway of the unit tests."""

from tests.unit.gateway.conftest import gateway

__all__ = ["gateway"]
