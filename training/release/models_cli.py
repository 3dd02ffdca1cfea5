"""`pawqueue models list|compare|promote`: list trained models, compare two of them, promote one to serve."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from bundle.locate import champion_folder
from bundle.manifest import MANIFEST_FILE, BundleError, read_manifest, sha256_of
from training.errors import TrainingError
from training.files import BUNDLE
from training.quality.comparison import Comparison
from training.release.promotion import compare_bundles, current_champion, promote
from training.release.tracking import download_bundle, list_models, set_champion

_NAME = "cats-dogs"
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _report_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Print known errors as one line and exit with status 1."""

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except (TrainingError, BundleError) as error:
            raise click.ClickException(str(error)) from error

    return wrapped


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all commands share, and error handling."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(_report_errors(command))
    return click.option("--name", default=_NAME, show_default=True, help="Registered model.")(command)


@click.command("list")
@_common
def list_command(name: str, *, as_json: bool) -> None:
    """List the registered versions, and the bundle to serve."""
    champion = current_champion(_state_dir())
    serving = {"version": read_manifest(champion).version, "folder": str(champion)} if champion else None
    if as_json:
        versions = [asdict(model) for model in list_models(name)]
        click.echo(json.dumps({"serving": serving, "versions": versions}, indent=2))
        return
    click.echo(f"serving: {serving['version']} ({serving['folder']})" if serving else "serving: nothing")
    found = list_models(name)
    if not found:
        click.echo(f"No versions of {name} are registered. Train one with `make train DATA=path`.")
    for model in found:
        created = datetime.fromtimestamp(model.created_ms / 1000, UTC)
        accuracy = f"{100 * model.accuracy:.2f} %" if model.accuracy is not None else "?"
        star = "  champion" if model.is_champion else ""
        click.echo(f"{model.version:>4}  {model.bundle_version:24}  {accuracy:>8}  {created:%Y-%m-%d %H:%M}{star}")


@click.command("compare")
@click.argument("challenger")
@click.argument("champion")
@_common
def compare_command(challenger: str, champion: str, name: str, *, as_json: bool) -> None:
    """Compare two models.

    Each is a registered version, a bundle's version or folder, a file of predictions, or `champion`.
    """
    with ExitStack() as stack:
        found = compare_bundles(*(_predictions(wanted, name, stack) for wanted in (challenger, champion)))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print_comparison(found)


@click.command("promote")
@click.argument("version")
@click.option("--force", "reason", metavar="REASON", help="Promote without comparison, and record the reason.")
@_common
def promote_command(version: str, name: str, reason: str | None, *, as_json: bool) -> None:
    """Promote a model. Workers serve it from their next start.

    VERSION is a registered version, or a bundle's version or folder.
    """
    if reason is not None and not reason.strip():
        raise TrainingError("--force needs a reason, which is recorded with the model.")
    state_dir = _state_dir()
    with ExitStack() as stack:
        challenger = _find(version, name, stack)
        comparison = promote(challenger, current_champion(state_dir), state_dir, force_reason=reason)
    if comparison and not as_json:
        _print_comparison(comparison)
    folder = champion_folder(state_dir)
    promoted, checksum = read_manifest(folder).version, sha256_of(folder / MANIFEST_FILE)
    _set_alias(name, promoted)
    if as_json:
        values = {"champion": promoted, "folder": str(folder), "checksum": checksum}
        click.echo(json.dumps(values | {"comparison": comparison.to_json() if comparison else None}, indent=2))
        return
    click.echo(f"Promoted {promoted}. The next `make up` serves it from {folder}.")
    click.echo(f"To make workers refuse any other bundle, set PAWQUEUE_MODEL_CHECKSUM={checksum}")


def _state_dir() -> Path:
    return Path(os.environ.get("PAWQUEUE_STATE_DIR") or "state")


def _print_comparison(found: Comparison) -> None:
    click.echo(f"{found.images} shared test images          challenger   champion")
    click.echo(
        f"  accuracy            {100 * found.challenger_accuracy:9.2f} %  {100 * found.champion_accuracy:9.2f} %"
    )
    click.echo(f"  calibration error   {found.challenger_calibration:11.4f}  {found.champion_calibration:11.4f}")
    click.echo(f"  only this one right {found.only_challenger:11}  {found.only_champion:11}")
    click.echo(f"  McNemar's exact test: p = {found.p_value:.4g}; better: {'yes' if found.is_better else 'not shown'}")
    click.echo(f"  calibration worse: {'yes' if found.calibration_is_worse else 'no'}")


def _predictions(wanted: str, name: str, stack: ExitStack) -> Path:
    """Return a file of predictions or the folder of a bundle."""
    return Path(wanted) if Path(wanted).is_file() else _find(wanted, name, stack)


def _find(wanted: str, name: str, stack: ExitStack) -> Path:
    """Return the folder of a bundle. A bundle from MLflow is downloaded, and deleted when `stack` closes."""
    if wanted == "champion":
        if folder := current_champion(_state_dir()):
            return folder
        raise TrainingError("There is no champion: no model is promoted and none is included.")
    for folder in (Path(wanted), BUNDLE):
        if (folder / MANIFEST_FILE).is_file() and (str(folder) == wanted or read_manifest(folder).version == wanted):
            return folder
    for model in list_models(name):
        if wanted in (model.version, model.bundle_version):
            return download_bundle(model, Path(stack.enter_context(tempfile.TemporaryDirectory())))
    raise TrainingError(f"{wanted!r} is neither a bundle's folder nor a version of {name}. See `pawqueue models list`.")


def _set_alias(name: str, bundle_version: str) -> None:
    """Mark the promoted version in MLflow. A failure is only reported, because workers do not use MLflow."""
    try:
        for model in list_models(name):
            if model.bundle_version == bundle_version:
                set_champion(name, model.version)
                return
    except TrainingError as error:
        click.echo(f"Note: the alias `champion` was not set in MLflow: {error}", err=True)
