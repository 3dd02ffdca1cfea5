"""`pawqueue models`: imports, compares and promotes models, and changes which version a service uses.

Some commands belong to training and the importer, and are imported when they are needed.
"""

import importlib.metadata
import json
import time
from importlib.metadata import EntryPoint
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pawqueue.cli.app import GROUP, ServiceCommand
from pawqueue.cli.display import escaped
from pawqueue.cli.options import gateway_options
from pawqueue.cli.shadow_report import read_shadows, show_shadows
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import ClientError
from pawqueue.client.models import ServedModel

_HELP = {
    "compare": "Compare two models.",
    "import": "Make a bundle from a Keras image classifier.",
    "list": "List the registered versions, and the bundle to serve.",
}
#: For requests that only read.
_READ_S = 10.0
#: Workers may take this long to load a version.
_TIMEOUT_S = 150.0
#: Days over which the jobs of a canary are counted. They cover midnight, and no earlier canary matters.
_CANARY_DAYS = 400
_CANARY_POLL_S = 0.5
#: Workers compare a canary with the live version every two seconds; so much later, they have seen its last jobs.
_CANARY_JUDGED_S = 5.0
#: Maximum number of labels of a version in a report.
_LABELS_SHOWN = 4


class ModelCommands(click.Group):
    """Loads its commands from installed entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return sorted({*_entries(), *_OWN})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name in _OWN:
            return _OWN[cmd_name]
        entry = _entries().get(cmd_name)
        return ServiceCommand(entry, _HELP.get(cmd_name)) if entry else None


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=f"{GROUP}.models")}


@click.group(cls=ModelCommands, short_help="Import, compare and promote models.")
def models() -> None:
    """Import, compare and promote models.

    \b
    Examples:
      pawqueue models import pets.keras --name pets --labels cat,dog
      pawqueue models served
      pawqueue models promote pets 2 --why "better on grey images"
      pawqueue models rollback pets
      pawqueue models canary pets 3 --percent 5 --auto-rollback
      pawqueue models shadow pets 3 --sample 0.2
      pawqueue models report pets
      pawqueue models list
      pawqueue models compare build/bundle champion
      pawqueue models promote build/bundle
    """  # noqa: D301 - click needs the character


_why = click.option("--why", default="", help="The reason, which is recorded with the change.")
_timeout = click.option(
    "--timeout", "timeout_s", default=_TIMEOUT_S, show_default=True, help="Seconds to wait for the workers."
)


@click.command(short_help="List the models of a service and their live versions.")
@gateway_options
def served(url: str, api_key: str | None, *, as_json: bool) -> None:
    """List the models of a service, their versions, and which of them is live, a canary or a shadow."""
    with Pawqueue(url, api_key, timeout_s=_READ_S) as client:
        found = client.models()
        if not as_json:  # the list does not name canaries and shadows
            found = [client.model(model.name) if len(model.versions) > 1 else model for model in found]
    if as_json:
        click.echo(json.dumps([model.values for model in found], indent=2))
        return
    table = Table("model", "live", "other versions", "workers")
    for model in found:
        others = ", ".join(_named(model, version) for version in model.versions if version != model.live)
        name = escaped(model.name) + (" (default)" if model.is_default else "")
        table.add_row(name, escaped(model.live), others, str(model.workers))
    Console().print(table)


def _named(model: ServedModel, version: str) -> str:
    """A version that is not live, and what else it is."""
    canary, shadow = (model.values.get(role) or {} for role in ("canary", "shadow"))
    roles = []
    if canary.get("version") == version:
        roles.append(f"canary, {canary['percent']:g} %")
    if shadow.get("version") == version:
        roles.append("shadow, stopped" if shadow.get("problem") else f"shadow, {100 * shadow['sample']:g} %")
    return escaped(version) + (f" ({'; '.join(roles)})" if roles else "")


@click.command(short_help="Make a version live, or a bundle the champion.")
@click.argument("model")
@click.argument("version", required=False)
@_why
@_timeout
@gateway_options
@click.option("--name", help="With a bundle: its registered model in MLflow.")
@click.option("--force", metavar="REASON", help="With a bundle: promote without comparison, and record the reason.")
def promote(  # noqa: PLR0913 - one for each option
    model: str,
    version: str | None,
    url: str,
    api_key: str | None,
    *,
    why: str,
    timeout_s: float,
    name: str | None,
    force: str | None,
    as_json: bool,
) -> None:
    """Make a version of a model live in a running service, or a trained bundle the champion.

    With MODEL and VERSION, the workers load the version beside the live one, and use it as soon as all of them have
    loaded it. If one cannot, nothing changes.

    With one argument (a registered version, or a bundle's version or folder), that bundle is compared with the
    champion. If it is better, the next `make up` serves it.

    \b
    Examples:
      pawqueue models promote pets 2 --why "better on grey images"
      pawqueue models promote build/bundle
    """  # noqa: D301 - click needs the character
    if version is None:
        if why:
            raise click.UsageError("--why is for a version of a served model: name the VERSION too.")
        options = {"--name": name, "--force": force}
        given = [part for option, value in options.items() if value is not None for part in (option, value)]
        _command_of("promote").main([model, *given, *(["--json"] if as_json else [])], standalone_mode=False)
        return
    if name or force:
        raise click.UsageError("--name and --force are for a bundle: leave out the VERSION.")
    with Pawqueue(url, api_key) as client:
        _print(client.promote(model, version, why=why, timeout_s=timeout_s), as_json=as_json)


@click.command(short_help="Return to the version that was live before.")
@click.argument("model")
@_why
@_timeout
@gateway_options
def rollback(model: str, why: str, timeout_s: float, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Make the version of MODEL live that was live before."""
    with Pawqueue(url, api_key) as client:
        _print(client.rollback(model, why=why, timeout_s=timeout_s), as_json=as_json)


@click.command(short_help="Compare a version with the live one, unseen by clients.")
@click.argument("model")
@click.argument("version", required=False)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.2,
    show_default=True,
    help="The share of the jobs that the version predicts.",
)
@click.option("--off", is_flag=True, help="Remove the shadow.")
@_why
@gateway_options
def shadow(  # noqa: PLR0913 - one for each option
    model: str,
    version: str | None,
    url: str,
    api_key: str | None,
    *,
    sample: float,
    off: bool,
    why: str,
    as_json: bool,
) -> None:
    """Make VERSION the shadow of MODEL: it predicts some images after the live version has.

    Clients never get its results. `pawqueue models report` shows how often both agree.

    \b
    Examples:
      pawqueue models shadow pets 3 --sample 0.2 --why "trained on night images"
      pawqueue models shadow pets --off
    """  # noqa: D301 - click needs the character
    if (version is None) != off:
        raise click.UsageError("Name the VERSION, or remove the shadow with --off.")
    with Pawqueue(url, api_key) as client:
        found = client.set_shadow(model, version, sample=sample, why=why)
    if as_json:
        click.echo(json.dumps(found.values, indent=2))
    elif off:
        click.echo(f"{found.name} has no shadow.")
    else:
        click.echo(
            f"{found.name}@{version} is compared with {found.name}@{found.live} on {100 * sample:g} % of the jobs."
        )


@click.command(short_help="Let a version process a share of the jobs.")
@click.argument("model")
@click.argument("version", required=False)
@click.option("--percent", type=float, help="Its share of the jobs, above 0 and at most 50.")
@click.option("--auto-rollback", is_flag=True, help="End it if it is worse than the live version.")
@click.option("--off", is_flag=True, help="End the canary at once.")
@click.option(
    "--promote-after", type=click.IntRange(min=1), metavar="JOBS", help="Make it live once it has processed JOBS jobs."
)
@click.option(
    "--within",
    "within_s",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="With --promote-after: end the canary if it has not processed the jobs by then.",
)
@_why
@_timeout
@gateway_options
def canary(  # noqa: PLR0913 - one for each option
    model: str,
    version: str | None,
    percent: float | None,
    url: str,
    api_key: str | None,
    *,
    auto_rollback: bool,
    off: bool,
    promote_after: int | None,
    within_s: float,
    why: str,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Let VERSION of MODEL process a share of the jobs that name no version, to find out how it does.

    It begins when all workers have loaded it. If it fails on a job, the live version processes that job. It ends with
    --off, when the live version changes, and, with --auto-rollback, if it makes more errors, takes longer or is less
    accurate than the live version.

    With --promote-after, the command waits, and makes the version live when it has processed that many jobs. If it was
    taken back before, nothing has changed, and the exit code is 2.

    \b
    Examples:
      pawqueue models canary pets 2 --percent 5 --auto-rollback
      pawqueue models canary pets 2 --percent 20 --auto-rollback --promote-after 500
      pawqueue models report pets
      pawqueue models canary pets --off
    """  # noqa: D301 - click needs the character
    if off == bool(version) or (percent is not None) == off or ((auto_rollback or promote_after) and off):
        raise click.UsageError("Name either a VERSION with --percent, or --off.")
    with Pawqueue(url, api_key) as client:
        if version and percent is not None:
            before = _jobs(client, model, version) if promote_after else 0
            found = client.canary(model, version, percent, auto_rollback=auto_rollback, why=why, timeout_s=timeout_s)
            if promote_after:
                revision = _await_canary(client, model, version, before + promote_after, within_s, show=not as_json)
                found = client.promote(model, version, why=why, timeout_s=timeout_s, revision=revision)
        else:
            found = client.end_canary(model, why=why, timeout_s=timeout_s)
    if off and not as_json:
        click.echo(f"{found.name} has no canary. {found.name}@{found.live} is live.")
    else:
        _print(found, as_json=as_json)


def _jobs(client: Pawqueue, model: str, version: str) -> int:
    """How many jobs a version has processed in the last days."""
    rows = client.model_report(model, days=_CANARY_DAYS)["versions"]
    return sum(int(row["jobs"]) for row in rows if row["version"] == version)


def _await_canary(client: Pawqueue, model: str, version: str, jobs: int, within_s: float, *, show: bool) -> int:
    """Wait until the canary has processed `jobs` jobs; raises `ClientError` if it is taken back, or takes too long.

    Returns the revision at which the model still had the canary: the version is made live only at this one.
    """
    end_s = time.monotonic() + within_s
    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), console=console, disable=not (show and console.is_terminal)) as bar:
        done = _jobs(client, model, version)
        task = bar.add_task(f"Jobs of {model}@{version}", total=jobs - done)
        first = done
        is_judged = False
        while True:
            found = client.model(model)
            if (found.values["canary"] or {}).get("version") != version:
                reason = (found.values["last_change"] or {}).get("problem") or "Somebody ended it."
                raise ClientError(f"{model}@{version} is no longer the canary. {reason}")
            if is_judged:
                return int(found.values["revision"])
            is_judged = done >= jobs
            if not is_judged and time.monotonic() > end_s:
                client.end_canary(model, why="It processed too few jobs in time.")
                raise ClientError(f"The canary has processed {done - first} jobs in {within_s:g} s, and was ended.")
            time.sleep(_CANARY_JUDGED_S if is_judged else _CANARY_POLL_S)
            done = _jobs(client, model, version)
            bar.update(task, completed=done - first)


@click.command(short_help="Compare what the versions of a model did.")
@click.argument("model")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 400), help="Number of days to cover.")
@gateway_options
def report(model: str, days: int, url: str, api_key: str | None, *, as_json: bool) -> None:
    """Compare what the versions of MODEL did: jobs, errors, predict time, confidence, labels and accuracy.

    The accuracy is measured with the right labels that users reported; see `pawqueue feedback`. In brackets: the 95 %
    interval. If the model has a shadow, the report shows how often both versions agree, and with an API key with scope
    `admin`, the latest jobs for which they do not.

    \b
    Examples:
      pawqueue models report pets
      pawqueue models report pets --days 7 --json
    """  # noqa: D301 - click needs the character
    with Pawqueue(url, api_key, timeout_s=_READ_S) as client:
        found = client.model_report(model, days=days) | read_shadows(client, model, days)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found["versions"]:
        click.echo(f"No version of {model} processed a job in the last {days} days.")
        return
    versions = found["versions"]
    table = Table("", *map(_role, versions))
    rows = zip(*map(_report_rows, versions), strict=True)
    for title, cells in zip(("jobs", "errors", "p50", "p95", "confidence", "accuracy", "labels"), rows, strict=True):
        table.add_row(title, *cells)
    Console().print(table)
    show_shadows(Console(), found)


def _role(row: dict[str, Any]) -> str:
    return escaped(row["version"]) + (" (live)" if row["live"] else " (canary)" if row["canary"] else "")


def _report_rows(row: dict[str, Any]) -> list[str]:
    errors, accuracy, times = row["errors"], row["accuracy"], row["predict_ms"]
    predictions = sum(row["labels"].values())
    labels = [f"{escaped(label)} {100 * number / predictions:.0f} %" for label, number in row["labels"].items()]
    return [
        f"{row['jobs']:,}",
        _with_interval(errors["share"], errors),
        *("-" if times[name] is None else f"{times[name]:.1f} ms" for name in ("p50", "p95")),
        "-" if row["confidence"] is None else f"{row['confidence']:.3f}",
        _with_interval(accuracy["accuracy"], accuracy) + (f" of {accuracy['total']:,}" if accuracy["total"] else ""),
        ", ".join([*labels[:_LABELS_SHOWN], *(["..."] if len(labels) > _LABELS_SHOWN else [])]) or "-",
    ]


def _with_interval(share: float | None, interval: dict[str, Any]) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.1f} % ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


_OWN: dict[str, click.Command] = {
    "served": served,
    "promote": promote,
    "rollback": rollback,
    "canary": canary,
    "shadow": shadow,
    "report": report,
}


def _command_of(name: str) -> click.Command:
    entry = _entries().get(name)
    if entry is None:
        raise click.UsageError(f"`pawqueue models {name}` of a bundle needs the training code, which is not installed.")
    return ServiceCommand(entry).load()


def _print(model: ServedModel, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(model.values, indent=2))
    else:
        canary = model.values.get("canary")
        share = f" The canary {canary['version']} gets {canary['percent']:g} % of the jobs." if canary else ""
        click.echo(f"{model.name}@{model.live} is live.{share}")
