"""The fixtures of the gateway's unit tests, for rules that look at its routes."""

from tests.unit.gateway.conftest import gateway

__all__ = ["gateway"]
