"""`pawqueue purge`: removes jobs and submissions with everything that the service stores about them."""

import json
import sys
from http import HTTPStatus

import click

from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import RefusedError

#: Purging a submission of 100,000 images takes a few seconds.
_TIMEOUT_S = 300.0


@click.command(short_help="Remove jobs or submissions with their images and results.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@gateway_options
def purge(ids: tuple[str, ...], url: str, api_key: str | None, *, yes: bool, as_json: bool) -> int:
    """Remove jobs and submissions by ID: records, results, file names, images and thumbnails.

    This cannot be undone. Unfinished jobs are canceled. A submission is removed with all of its images. What remains:
    log lines (with ids and file names), totals in the metrics, and backups.

    Exit code: 0 if all are removed, 1 if one of them was not found (it may have expired or already been
    purged), 2 on errors.

    \b
    Examples:
      pawqueue purge 019abc12-3456-7890-abcd-ef0123456789
      pawqueue purge --yes 019abc12-3456-7890-abcd-ef0123456789
    """  # noqa: D301 - click needs the character
    if not yes:
        _confirm(ids)
    purged: dict[str, bool] = {}
    with Pawqueue(url, api_key, timeout_s=_TIMEOUT_S) as client:
        for any_id in ids:
            purged[any_id] = _purge(client, any_id)
            if not as_json:
                click.echo(f"{any_id}  {'purged' if purged[any_id] else 'not found: expired, purged or a wrong id'}")
    if as_json:
        click.echo(json.dumps([{"id": any_id, "purged": found} for any_id, found in purged.items()], indent=2))
    return 0 if all(purged.values()) else 1


def _confirm(ids: tuple[str, ...]) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("A purge cannot be undone. Confirm it with --yes.")
    what = ids[0] if len(ids) == 1 else f"{len(ids):,} jobs or submissions"
    click.confirm(f"Remove {what} and all stored images and results?", abort=True, err=True)


def _purge(client: Pawqueue, any_id: str) -> bool:
    """Purge one job or submission; False if there is neither."""
    try:
        client.purge(any_id)
    except RefusedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True
