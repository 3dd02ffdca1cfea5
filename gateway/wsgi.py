"""What gunicorn loads: `gateway.wsgi:make_app()`."""

import os
from contextlib import suppress

from flask import Flask

from contract.errors import UnavailableError
from contract.log import configure_logging, get_logger
from contract.settings import Settings, load_settings
from gateway.app import create_app
from gateway.services import Services, build_services

_log = get_logger(__name__)


def make_app() -> Flask:
    """Read the settings, wire the services, build the application; runs once in each gateway process."""
    settings = load_settings(os.environ)
    configure_logging(settings.log_level, "gateway")
    services = build_services(settings)
    _tell_access(settings, services)
    return create_app(services)


def _tell_access(settings: Settings, services: Services) -> None:
    """Say what an operator may not have meant: an open gateway, or one that nobody has a key to."""
    if not services.guard.access.required:
        if not settings.is_local():
            _log.warning("The gateway is open to everyone who can reach it", address=settings.gateway_host)
        return
    with suppress(UnavailableError):
        if not services.guard.access.has_keys():
            _log.warning("The gateway asks for API keys and there is none; `pawqueue keys create` makes one")
