"""Options that commands share."""

import os

import click

from pawqueue.client import DEFAULT_URL

url_option = click.option(
    "--url", envvar="PAWQUEUE_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="The gateway."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of tables.")


def api_key() -> str | None:
    """The caller's API key; out of the environment only, since other users can read a command line."""
    return os.environ.get("PAWQUEUE_API_KEY") or None
