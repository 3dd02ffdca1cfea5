"""`pawqueue webhooks`: the secret that signs events, and the deliveries that wait or are dead."""

import json
import re

import click
from rich.console import Console
from rich.table import Table

from pawqueue.cli.display import escaped
from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.webhooks import Delivery, WebhookSecret

_TIMEOUT_S = 10.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_id_argument = click.argument("delivery_id", metavar="ID")


@click.group(short_help="Manage webhooks: the secret, and events that were not delivered.")
def webhooks() -> None:
    """Manage webhooks: read and rotate the secret that signs events, list and redeliver events.

    Events are sent to the URL in `pawqueue submit --webhook URL`. Each API key has a secret of its own and sees its own
    events.

    \b
    Examples:
      pawqueue webhooks secret
      pawqueue webhooks rotate --keep 24h
      pawqueue webhooks list --dead
      pawqueue webhooks show 5f0c6b1e-7d3a-8c42-a9b1-0123456789ab
      pawqueue webhooks redeliver 5f0c6b1e-7d3a-8c42-a9b1-0123456789ab
    """  # noqa: D301 - click needs the character


@webhooks.command()
@gateway_options
def secret(url: str, api_key: str | None, *, as_json: bool) -> None:
    """Print the secret with which receivers verify events.

    \b
    Examples:
      export WEBHOOK_SECRET=$(pawqueue webhooks secret)
    """  # noqa: D301
    with _client(url, api_key) as client:
        _print_secret(client.webhook_secret(), as_json=as_json)


@webhooks.command()
@click.option(
    "--keep",
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long events are also signed with the secret before it, such as 90s, 15m, 24h or 7d.",
)
@gateway_options
def rotate(keep: str, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Create a new secret and print it.

    \b
    Examples:
      pawqueue webhooks rotate
      pawqueue webhooks rotate --keep 0s
    """  # noqa: D301
    match = re.fullmatch(r"(\d{1,7})([smhd])", keep)
    if not match:
        raise click.UsageError(f"Invalid --keep {keep!r}: write it like 90s, 15m, 24h or 7d.")
    with _client(url, api_key) as client:
        found = client.rotate_webhook_secret(keep_s=int(match[1]) * _UNITS[match[2]])
    if found.previous_valid_until:
        click.echo(f"The secret before it stays valid until {found.previous_valid_until}.", err=True)
    _print_secret(found, as_json=as_json)


@webhooks.command("list")
@click.option("--dead", "only_dead", is_flag=True, help="Only dead deliveries.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Maximum number.")
@gateway_options
def list_deliveries(url: str, api_key: str | None, limit: int, *, only_dead: bool, as_json: bool) -> None:
    """List the events that wait for their delivery or are dead, newest first.

    \b
    Examples:
      pawqueue webhooks list
      pawqueue webhooks list --dead --json | jq -r '.[].id'
    """  # noqa: D301
    with _client(url, api_key) as client:
        found = client.deliveries(only_dead=only_dead, limit=limit)
    if as_json:
        click.echo(json.dumps([dict(delivery.values) for delivery in found], indent=2))
    elif found:
        Console().print(_table(found))
        click.echo("Why they were not delivered: `pawqueue webhooks show ID`.", err=True)
    else:
        click.echo("There are no dead deliveries." if only_dead else "All events were delivered.")


@webhooks.command()
@_id_argument
@gateway_options
def show(delivery_id: str, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Show an event that was not delivered, and why.

    \b
    Examples:
      pawqueue webhooks show 5f0c6b1e-7d3a-8c42-a9b1-0123456789ab
    """  # noqa: D301
    with _client(url, api_key) as client:
        _print(client.delivery(delivery_id), as_json=as_json)


@webhooks.command()
@click.argument("delivery_ids", metavar="ID...", nargs=-1, required=True)
@gateway_options
def redeliver(delivery_ids: tuple[str, ...], url: str, api_key: str | None, *, as_json: bool) -> None:
    """Deliver events again that are dead or wait. An endpoint that was switched off is switched on.

    \b
    Examples:
      pawqueue webhooks redeliver 5f0c6b1e-7d3a-8c42-a9b1-0123456789ab
      pawqueue webhooks list --dead --json | jq -r '.[].id' | xargs pawqueue webhooks redeliver
    """  # noqa: D301
    with _client(url, api_key) as client:
        found = [client.redeliver(delivery_id) for delivery_id in delivery_ids]
    if as_json:
        click.echo(json.dumps([dict(delivery.values) for delivery in found], indent=2))
        return
    for delivery in found:
        click.echo(f"{delivery.id} is tried again now.")


def _client(url: str, api_key: str | None) -> Pawqueue:
    return Pawqueue(url, api_key, timeout_s=_TIMEOUT_S)


def _print_secret(found: WebhookSecret, *, as_json: bool) -> None:
    values = {name: getattr(found, name) for name in ("secret", "previous_secret", "previous_valid_until")}
    click.echo(json.dumps(values, indent=2) if as_json else found.secret)


def _print(delivery: Delivery, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(dict(delivery.values), indent=2))
        return
    table = Table(show_header=False)
    for name, value in delivery.values.items():
        table.add_row(name.replace("_", " "), escaped(str("-" if value is None else value)))
    Console().print(table)


def _table(found: list[Delivery]) -> Table:
    table = Table("id", "event", "status", "tries", box=None, pad_edge=False)
    for item in found:
        table.add_row(item.id, item.type, item.status, str(item.tries))
    return table
