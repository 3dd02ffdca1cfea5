"""`pawqueue dead`: the dead-letter list, for the person who decides."""

import json

import click
from rich.console import Console
from rich.table import Table

from contract.job import Job
from pawqueue.commands.options import gateway_options
from pawqueue.deadline import Deadline
from pawqueue.display import show_job
from pawqueue.jobs import Jobs
from pawqueue.text import shown
from pawqueue.wire import Wire

_TIMEOUT_S = 10.0

_id_argument = click.argument("job_id", metavar="ID")


@click.group(short_help="Look at the jobs that killed their workers; retry or drop them.")
def dead() -> None:
    """Look at the jobs that workers died on as often as is allowed; try one again, or drop it.

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
    """List them, the latest first."""
    jobs = _jobs(url, api_key).dead(Deadline(_TIMEOUT_S))
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
    """Show the job ID and why it was given up."""
    found = [job for job in _jobs(url, api_key).dead(Deadline(_TIMEOUT_S)) if job.id == job_id]
    if not found:
        raise click.UsageError(f"{job_id} is not on the dead-letter list; `pawqueue dead list` shows which jobs are.")
    _print(found[0], as_json=as_json)


@dead.command()
@_id_argument
@gateway_options
def retry(job_id: str, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Submit the image of the job ID again, as a new job."""
    _print(_jobs(url, api_key).retry_dead(job_id, Deadline(_TIMEOUT_S)), as_json=as_json)


@dead.command()
@_id_argument
@gateway_options
def drop(job_id: str, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Take the job ID off the list and delete its image."""
    job = _jobs(url, api_key).drop_dead(job_id, Deadline(_TIMEOUT_S))
    click.echo(json.dumps(job.to_dict(), indent=2) if as_json else f"Dropped {job.id}.")


def _jobs(url: str, api_key: str | None) -> Jobs:
    return Jobs(Wire(url, api_key))


def _print(job: Job, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(job.to_dict(), indent=2))
    else:
        show_job(Console(), job)


def _table(jobs: list[Job]) -> Table:
    table = Table("job", "file", "attempts", "given up at", "reason")
    for job in jobs:
        reason = job.result.error.detail if job.result and job.result.error else ""
        given_up_at = str(job.to_dict()["finished_at"] or "")
        table.add_row(job.id, shown(job.file), str(job.attempts), given_up_at, shown(reason))
    return table
