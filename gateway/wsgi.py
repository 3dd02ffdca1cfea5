"""What gunicorn loads: `gateway.wsgi:make_app()`."""

import os

from flask import Flask

from contract.log import configure_logging
from contract.settings import load_settings
from gateway.app import create_app
from gateway.services import build_services


def make_app() -> Flask:
    """Read the settings, wire the services, build the application; runs once in each gateway process."""
    settings = load_settings(os.environ)
    configure_logging(settings.log_level, "gateway")
    return create_app(build_services(settings))
