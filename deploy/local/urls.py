"""Addresses of the services as seen from this machine."""

from contract.settings import Settings


def gateway_url(settings: Settings) -> str:
    """Address of the gateway as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.gateway_host, settings.gateway_host)  # noqa: S104
    return f"http://{host}:{settings.gateway_port}"
