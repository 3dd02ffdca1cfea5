"""What gunicorn loads: `dashboard.wsgi:make_app()`."""

import logging
import os

from flask import Flask

from contract.log import configure_logging
from contract.settings import load_settings
from dashboard.app import create_dashboard
from dashboard.parts import build_parts


def make_app() -> Flask:
    """Read the settings, wire the parts, start the reader; runs once in each process, after it has forked."""
    settings = load_settings(os.environ)
    configure_logging(settings.log_level, "dashboard")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it writes every address that is asked, with its password
    parts = build_parts(settings)
    server = create_dashboard(parts)
    parts.reader.start()
    return server
