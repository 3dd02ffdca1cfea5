"""Options that several commands share."""

import click
from click.decorators import FC

from pawqueue.client.client import DEFAULT_URL

url_option = click.option(
    "--url",
    envvar="PAWQUEUE_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="Address of the gateway.",
)
api_key_option = click.option(
    "--api-key",
    envvar="PAWQUEUE_API_KEY",
    show_envvar=True,
    help="The API key. Prefer the environment variable: other users of this machine can read command lines.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def model_options(command: FC) -> FC:
    """Add the options that choose a model: `--model`, `--top-k`."""
    top_k = click.option(
        "--top-k",
        type=click.IntRange(1, 100),
        help="Keep the probabilities of this many labels. Default: of all up to 100 labels, else of 5.",
    )
    model = click.option(
        "--model", default="", metavar="NAME[@VERSION]", help="The model. Default: the default model of the service."
    )
    return model(top_k(command))


def gateway_options(command: FC) -> FC:
    """Add the options of commands that talk to a gateway: `--url`, `--api-key`, `--json`."""
    for option in (json_option, api_key_option, url_option):
        command = option(command)
    return command
