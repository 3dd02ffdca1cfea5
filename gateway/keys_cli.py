"""`pawqueue keys`: create, list and revoke API keys, directly in Redis. There is no HTTP endpoint for this."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from contract.access import KEY_CACHE_S, ApiKey, KeyStore, Scope, make_key, revoke
from contract.destinations import Destinations, ForbiddenUrlError
from contract.errors import UnavailableError
from contract.ledger.connection import connect
from contract.ledger.requirements import check_redis
from contract.settings import RATE_PATTERN, SettingsError, load_settings, variable_of

_SCOPES = click.Choice([str(scope) for scope in Scope])
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_NAME_MAX = 100


@click.group()
def keys() -> None:
    """Create, list and revoke API keys.

    This command talks to Redis directly: at PAWQUEUE_REDIS_URL if it is set, else to the Redis that `make up` starts
    for PAWQUEUE_STATE_DIR. The gateway requires API keys if other machines can reach it; PAWQUEUE_ACCESS changes that.

    \b
    Examples:
      pawqueue keys create --name office
      pawqueue keys create --name dashboard --scope admin
      pawqueue keys create --name phone --rate-limit "100 per minute"
      pawqueue keys webhook 4f1c0a9b2e7d https://example.org/hooks
      pawqueue keys list
      pawqueue keys revoke 4f1c0a9b2e7d
    """  # noqa: D301 - click needs the character


@keys.command()
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    type=_SCOPES,
    multiple=True,
    default=("submit", "read"),
    show_default=True,
    help="What the key may do; repeatable.",
)
@click.option("--rate-limit", default="", help='Request limit of this key, such as "100 per minute".')
@click.option(
    "--webhook", default="", metavar="URL", help="Receives the events of jobs and submissions that name no webhook."
)
@_JSON
def create(
    name: str,
    scopes: tuple[str, ...],
    rate_limit: str,
    webhook: str,
    as_json: bool,  # noqa: FBT001 - click's form
) -> None:
    """Create an API key and print it. It is shown only once.

    \b
    Examples:
      pawqueue keys create --name office
      pawqueue keys create --name shop --webhook https://shop.example.org/hooks
      export PAWQUEUE_API_KEY=$(pawqueue keys create --name script)
    """  # noqa: D301
    if not name.isprintable() or not 0 < len(name) <= _NAME_MAX:
        raise click.UsageError(f"--name must have 1 to {_NAME_MAX} printable characters.")
    if rate_limit and not re.fullmatch(RATE_PATTERN, rate_limit):
        raise click.UsageError(f"Invalid --rate-limit {rate_limit!r}: write it like `100 per minute`.")
    key, text = make_key(name, tuple(map(Scope, dict.fromkeys(scopes))), rate_limit)
    key = replace(key, webhook=_checked(webhook))
    with _store() as store:
        store.put(key)
    if as_json:
        click.echo(json.dumps(_shown(key) | {"key": text}))
        return
    scopes_text = ", ".join(key.scopes)
    click.echo(f"Created API key {key.id} ({scopes_text}). It is shown only once; store it like a password.", err=True)
    click.echo(text)


@keys.command("list")
@_JSON
def list_keys(as_json: bool) -> None:  # noqa: FBT001
    """List all API keys, without their secrets."""
    with _store() as store:
        rows = [_shown(key) for key in store.all()]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        _print_table(rows)
    else:
        click.echo("There are no API keys. Create one with `pawqueue keys create --name NAME`.", err=True)


@keys.command("webhook")
@click.argument("key_id", metavar="ID")
@click.argument("url", metavar="[URL]", default="")
def set_webhook(key_id: str, url: str) -> None:
    """Set the webhook of an API key: the URL that receives the events of jobs and submissions that name none.

    Without URL, remove it. Jobs that were already sent keep theirs.

    \b
    Examples:
      pawqueue keys webhook 4f1c0a9b2e7d https://example.org/hooks
      pawqueue keys webhook 4f1c0a9b2e7d
    """  # noqa: D301
    with _store() as store:
        key = store.get(key_id)
        if key is None:
            raise click.UsageError(f"No such API key: {key_id}. `pawqueue keys list` shows all keys.")
        store.put(replace(key, webhook=_checked(url)))
    done = f"sends events to {url}" if url else "has no webhook"
    click.echo(f"API key {key_id} {done}. Gateways apply it within {KEY_CACHE_S:g} s.")


@keys.command("revoke")
@click.argument("key_ids", metavar="ID...", nargs=-1, required=True)
def revoke_keys(key_ids: tuple[str, ...]) -> None:
    """Revoke API keys by id. This cannot be undone."""
    with _store() as store:
        unknown = [key_id for key_id in key_ids if revoke(store, key_id) is None]
    for key_id in key_ids:
        if key_id not in unknown:
            click.echo(f"Revoked API key {key_id}. Gateways reject it within {KEY_CACHE_S:g} s.")
    if unknown:
        raise click.UsageError(f"No such API key: {', '.join(unknown)}. `pawqueue keys list` shows all keys.")


@contextmanager
def _store() -> Iterator[KeyStore]:
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    try:
        with connect(settings.redis_address()) as client:
            yield KeyStore(client)
    except UnavailableError as error:
        report = check_redis(settings)[0]
        fault = next((fault for fault in (report.unavailable, *report.problems) if fault), None)
        reason = report.message(fault) if fault else error.detail
        raise click.UsageError(
            f"{reason} Set the same PAWQUEUE_STATE_DIR or PAWQUEUE_REDIS_URL as for the service."
        ) from None


def _checked(url: str) -> str:
    """The URL of a webhook; UsageError if nothing can be delivered there."""
    try:
        if url:
            Destinations(load_settings(os.environ).allowed_webhooks(), variable_of("webhook_allow")).check_url(url)
    except (ForbiddenUrlError, SettingsError) as error:
        raise click.UsageError(f"webhook: {error}") from None
    return url


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "rate_limit": key.rate_limit,
        "webhook": key.webhook,
        "created_at": _time(key.created_ms),
        "revoked_at": _time(key.revoked_ms),
    }


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print_table(rows: list[dict[str, Any]]) -> None:
    head = ["ID", "NAME", "SCOPES", "RATE LIMIT", "WEBHOOK", "CREATED", "REVOKED"]
    lines = [head] + [
        [",".join(value) if isinstance(value, list) else value or "-" for value in row.values()] for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    keys()
