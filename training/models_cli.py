"""`pawqueue models`: list what was trained, compare two models, promote one to serve."""

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from bundle.manifest import MANIFEST_FILE
from training.comparing import Comparison
from training.errors import TrainingError
from training.parity import check_parity
from training.promotion import champion_folder, compare_bundles, current_champion, open_bundle, promote

_NAME = "cats-dogs"
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _told_in_one_sentence(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn a known failure into click's one line and exit status 1."""

    @wraps(command)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except TrainingError as error:
            raise click.ClickException(str(error)) from error

    return told


@click.group()
def models() -> None:
    """List, compare and promote trained models.

    \b
    Examples:
      pawqueue models list
      pawqueue models compare build/bundle champion
      pawqueue models promote 3
      pawqueue models list --json | jq .versions
    """  # noqa: D301 - click needs the character


@models.command("list")
@click.option("--name", default=_NAME, show_default=True, help="Registered model.")
@_JSON
@_told_in_one_sentence
def list_command(name: str, *, as_json: bool) -> None:
    """List the versions in the registry, and what serves."""
    from training.tracking import list_models  # noqa: PLC0415 (MLflow takes seconds to import)

    champion = current_champion()
    if as_json:
        serving = {"version": open_bundle(champion).version, "folder": str(champion)} if champion else None
        versions = [asdict(model) for model in list_models(name)]
        click.echo(json.dumps({"serving": serving, "versions": versions}, indent=2))
        return
    click.echo(f"serving: {open_bundle(champion).version} ({champion})" if champion else "serving: nothing")
    found = list_models(name)
    if not found:
        click.echo(f"No version of {name} is registered; train one with `make train DATA=path`.")
    for model in found:
        made = datetime.fromtimestamp(model.created_ms / 1000, UTC)
        accuracy = f"{100 * model.accuracy:.2f} %" if model.accuracy is not None else "?"
        star = "  champion" if model.is_champion else ""
        click.echo(f"{model.version:>4}  {model.bundle_version:24}  {accuracy:>8}  {made:%Y-%m-%d %H:%M}{star}")


@models.command("compare")
@click.argument("challenger")
@click.argument("champion")
@click.option("--name", default=_NAME, show_default=True, help="Registered model.")
@_JSON
@_told_in_one_sentence
def compare_command(challenger: str, champion: str, name: str, *, as_json: bool) -> None:
    """Compare two models, each a registry version, a bundle's version or folder, or `champion`."""
    with ExitStack() as stack:
        found = compare_bundles(_find(challenger, name, stack), _find(champion, name, stack))
    if as_json:
        click.echo(json.dumps(_plain(found), indent=2))
    else:
        _report(found)


@models.command("promote")
@click.argument("version")
@click.option("--name", default=_NAME, show_default=True, help="Registered model.")
@click.option("--force", "reason", metavar="REASON", help="Promote without proof of being better, and record why.")
@_JSON
@_told_in_one_sentence
def promote_command(version: str, name: str, reason: str | None, *, as_json: bool) -> None:
    """Let a model serve from the next start on: a registry version, or a bundle's version or folder."""
    if reason is not None and not reason.strip():
        raise TrainingError("--force wants a reason, which is recorded beside the model.")
    with ExitStack() as stack:
        comparison = promote(_find(version, name, stack), check_parity, reason)
    if comparison and not as_json:
        _report(comparison)
    promoted = open_bundle(champion_folder()).version
    _set_alias(name, promoted)
    if as_json:
        values = {"champion": promoted, "folder": str(champion_folder())}
        click.echo(json.dumps(values | {"comparison": _plain(comparison) if comparison else None}, indent=2))
        return
    click.echo(f"{promoted} is the champion; the next `make up` serves it from {champion_folder()}.")


def _plain(found: Comparison) -> dict[str, object]:
    """The comparison, and what follows from it, for programs."""
    values = asdict(found) | {"calibration_change": found.calibration_change.model_dump()}
    return values | {"is_better": found.is_better, "calibration_is_worse": found.calibration_is_worse}


def _report(found: Comparison) -> None:
    click.echo(f"on {found.images} test images of both:      challenger   champion")
    click.echo(
        f"  accuracy            {100 * found.challenger_accuracy:9.2f} %  {100 * found.champion_accuracy:9.2f} %"
    )
    click.echo(f"  calibration error   {found.challenger_calibration:11.4f}  {found.champion_calibration:11.4f}")
    click.echo(f"  right where the other is wrong   {found.only_challenger}, {found.only_champion}")
    click.echo(f"  McNemar's exact test: p = {found.p_value:.4g}; better: {'yes' if found.is_better else 'not shown'}")
    click.echo(f"  calibration worse: {'yes' if found.calibration_is_worse else 'no'}")


def _find(wanted: str, name: str, stack: ExitStack) -> Path:
    """Find a bundle's folder; one out of the registry is fetched for as long as `stack` lives."""
    if wanted == "champion":
        if folder := current_champion():
            return folder
        raise TrainingError("There is no champion yet: nothing was promoted and no model is shipped.")
    for folder in (Path(wanted), Path("build/bundle")):
        if (folder / MANIFEST_FILE).is_file() and (str(folder) == wanted or open_bundle(folder).version == wanted):
            return folder
    from training.tracking import download_bundle, list_models  # noqa: PLC0415 (MLflow takes seconds to import)

    for model in list_models(name):
        if wanted in (model.version, model.bundle_version):
            return download_bundle(model, Path(stack.enter_context(tempfile.TemporaryDirectory())))
    raise TrainingError(
        f"{wanted!r} is neither a folder of a bundle nor a version of {name}; see `pawqueue models list`."
    )


def _set_alias(name: str, bundle_version: str) -> None:
    """Tell the registry too; it only mirrors what the folder says, so its absence is no failure."""
    from training.tracking import list_models, set_champion  # noqa: PLC0415 (MLflow takes seconds to import)

    try:
        for model in list_models(name):
            if model.bundle_version == bundle_version:
                return set_champion(name, model.version)
    except TrainingError as error:
        click.echo(f"Note: the alias `champion` was not set in MLflow: {error}", err=True)
    return None
