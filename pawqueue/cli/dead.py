"""`pawqueue dead`: manages the dead-letter list."""

import json

import click
from rich.console import Console
from rich.table import Table

from contract.job import Job
from pawqueue.cli.display import escaped, show_job
from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue

_TIMEOUT_S = 10.0

_id_argument = click.argument("job_id", metavar="ID")


@click.group(short_help="List, retry or drop jobs that crashed their workers.")
def dead() -> None:
    """Manage the dead-letter list: jobs that failed because they kept crashing their workers.

    \b
    Examples:
      pawqueue dead list
      pawqueue dead show 019abc12-3456-7890-abcd-ef0123456789
      pawqueue dead retry 019abc12-3456-7890-abcd-ef0123456789
      pawqueue dead drop 019abc12-3456-7890-abcd-ef0123456789
    """  # noqa: D301 - click needs the character


@dead.command("list")
@gateway_options
def list_dead(url: str, api_key: str | None, *, as_json: bool) -> None:
    """List the dead jobs, newest first."""
    with _client(url, api_key) as client:
        jobs = client.dead_jobs()
    if as_json:
        click.echo(json.dumps([job.to_dict() for job in jobs], indent=2))
    elif jobs:
        Console().print(_table(jobs))
    else:
        click.echo("The dead-letter list is empty.")


@dead.command()
@_id_argument
@gateway_options
def show(job_id: str, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Show a dead job and why it failed."""
    with _client(url, api_key) as client:
        found = [job for job in client.dead_jobs() if job.id == job_id]
    if not found:
        raise click.UsageError(f"{job_id} is not on the dead-letter list. See `pawqueue dead list`.")
    _print(found[0], as_json=as_json)


@dead.command()
@_id_argument
@gateway_options
def retry(job_id: str, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Resubmit the image of a dead job as a new job."""
    with _client(url, api_key) as client:
        _print(client.retry_dead(job_id), as_json=as_json)


@dead.command()
@_id_argument
@gateway_options
def drop(job_id: str, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Remove a dead job from the list and delete its image."""
    with _client(url, api_key) as client:
        job = client.drop_dead(job_id)
    click.echo(json.dumps(job.to_dict(), indent=2) if as_json else f"Dropped {job.id}.")


def _client(url: str, api_key: str | None) -> Pawqueue:
    return Pawqueue(url, api_key, timeout_s=_TIMEOUT_S)


def _print(job: Job, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(job.to_dict(), indent=2))
    else:
        show_job(Console(), job)


def _table(jobs: list[Job]) -> Table:
    table = Table("job", "file", "attempts", "failed at", "reason")
    for job in jobs:
        reason = job.result.error.detail if job.result and job.result.error else ""
        failed_at = str(job.to_dict()["finished_at"] or "")
        table.add_row(job.id, escaped(job.file), str(job.attempts), failed_at, escaped(reason))
    return table
