"""`pawqueue models import`: makes a bundle from a Keras image classifier. TensorFlow runs in a process of its own."""

import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import click

from bundle.locate import CHAMPION
from bundle.manifest import NAME
from contract.settings import SettingsError, load_settings
from importer.request import ImportFailedError, Request
from importer.trained import add_bundle, excess_options, is_bundle

#: An interrupted import may take so long to delete its files.
_INTERRUPTED_S = 10
_SIZE = re.compile(r"(\d+)[xX](\d+)|(\d+)")


@click.command("import")
@click.argument("source")
@click.option("--name", help="Name of the model: lowercase letters, digits, and . _ -  A bundle has one already.")
@click.option("--labels", metavar="A,B|FILE", help="Labels in the order of the outputs, or a file with them.")
@click.option("--labels-from", metavar="FOLDER", help="Training folder with a subfolder for each label.")
@click.option(
    "--scale",
    metavar="SCALE",
    help="Pixel values that the network takes: none, 0..1, -1..1, imagenet, caffe, or MEAN/STD in units of 0..255.",
)
@click.option("--resize", type=click.Choice(["squash", "crop", "pad"]), help="How images get the shape of the input.")
@click.option("--filter", "filter_", type=click.Choice(["bilinear", "bicubic", "nearest", "area"]), help="Resampling.")
@click.option("--size", metavar="HxW", help="Size of the input, if the network accepts any.")
@click.option("--output", metavar="NAME", help="Which output to use, if there are several.")
@click.option("--signature", metavar="NAME", help="Which signature of a SavedModel to use.")
@click.option(
    "--multi-label/--single-label", "multi_label", default=None, help="Whether an image can have several labels."
)
@click.option("--module", "modules", multiple=True, metavar="FILE", help="Python file with custom layers. It is run.")
@click.option("--trust-code", is_flag=True, help="Run code in the file, such as Lambda layers.")
@click.option("--check", metavar="FOLDER", help="Labeled images: prints the accuracy, and options that improve it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_command(  # noqa: PLR0913 - one argument for each option
    *,
    source: str,
    name: str | None,
    labels: str | None,
    labels_from: str | None,
    scale: str | None,
    resize: Any,
    filter_: Any,
    size: str | None,
    output: str | None,
    signature: str | None,
    modules: tuple[str, ...],
    check: str | None,
    multi_label: bool | None,
    trust_code: bool,
    as_json: bool,
) -> int:
    """Make a bundle from a Keras image classifier, and put it into the model store.

    SOURCE is a .keras or .h5 file of Keras 2 or 3, a SavedModel folder, a folder or zip from Teachable Machine,
    hf://OWNER/NAME, or a bundle that `make train` wrote. Nothing in it is run, unless you pass --trust-code.

    \b
    Examples:
      pawqueue models import pets.keras --name pets --labels cat,dog
      pawqueue models import old.h5 --name pets --labels class_indices.json --scale 0..1
      pawqueue models import teachable.zip --name pets
      pawqueue models import pets.keras --name pets --labels-from photos/train --check photos/test
      pawqueue models import build/bundle --name pets

    Exit code: 0 if it was imported, 2 if not.
    """  # noqa: D301 - click needs the character
    request = Request(
        source=source,
        name=_checked_name(name, source),
        store=_store(),
        labels=labels,
        labels_from=labels_from,
        scale=scale,
        resize=resize,
        filter=filter_,
        size=_parse_size(size),
        output=output,
        signature=signature,
        multi_label=multi_label,
        modules=list(modules),
        trust_code=trust_code,
        check=check,
    )
    result = _add_bundle(request) if is_bundle(source) else _run(request, as_json=as_json)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return 0
    click.echo(f"Imported {result['name']} {result['version']}.")
    trust = "PAWQUEUE_TRUST_BUNDLE_CODE=true " if result["unsafe_operations"] else ""
    model = f"{result['name']}@{result['version']}"
    click.echo(f"Try it: {trust}make up, and then .venv/bin/pawqueue predict IMAGE --model {model}")
    return 0


def _add_bundle(request: Request) -> dict[str, Any]:
    if excess := excess_options(request):
        raise _Failure(f"{request.source} is a bundle, so {', '.join(excess)} cannot be changed. Omit it.")
    with tempfile.TemporaryDirectory(prefix="pawqueue-import-") as cache:
        try:
            return add_bundle(Path(request.source), request.name or None, request.store, Path(cache))
        except ImportFailedError as error:
            raise _Failure(str(error)) from error


def _run(request: Request, *, as_json: bool) -> dict[str, Any]:
    """Do the import in a process of its own; returns its result."""
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory(prefix="pawqueue-import-") as folder:
        with subprocess.Popen(  # noqa: S603 - fixed words, and a folder that is ours
            [sys.executable, "-m", "importer", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        ) as process:
            try:
                found = _follow(process, request, as_json=as_json)
            except BaseException:
                process.terminate()  # it deletes what it has written to the model store
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_INTERRUPTED_S)
                process.kill()
                raise
        if found is None:
            errors.seek(0)
            raise _Failure(_end_of(process.returncode, errors))
    if "error" in found:
        raise _Failure(found["error"])
    result: dict[str, Any] = found["result"]
    return result


def _follow(process: "subprocess.Popen[str]", request: Request, *, as_json: bool) -> dict[str, Any] | None:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(json.dumps(request.to_dict()) + "\n")
    process.stdin.close()
    is_quiet = as_json and not sys.stderr.isatty()
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        if "topic" not in message:
            return message
        if not is_quiet:
            click.echo(f"{message['topic']:<9}{message['text']}", err=as_json)
    return None


def _end_of(status: int, errors: IO[bytes]) -> str:
    """Why the process ended without an answer."""
    if status < 0:
        return f"The import was ended by signal {-status}. The network may need more memory than there is."
    lines = errors.read().decode("utf-8", "replace").strip().splitlines() or ["no message"]
    return f"The import failed unexpectedly ({lines[-1][:300]}). Report this, with the file if you can."


class _Failure(click.ClickException):
    exit_code = 2


def _store() -> str:
    try:
        return load_settings(os.environ).model_store_address()
    except SettingsError as error:
        raise _Failure(str(error)) from error


def _checked_name(name: str | None, source: str) -> str:
    """The name of the model; empty for that of a bundle."""
    if name is None:
        if is_bundle(source):
            return ""
        raise _Failure("Missing option '--name'.")
    if not re.fullmatch(NAME, name):
        raise _Failure(f"--name {name}: use lowercase letters, digits, and . _ -")
    if name == CHAMPION:
        raise _Failure(f"--name {name}: this name is reserved. Choose another one.")
    return name


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    if not found:
        raise _Failure(f"--size {text}: expected HEIGHTxWIDTH, such as 224x224.")
    return (int(found[1]), int(found[2])) if found[1] else (int(found[3]), int(found[3]))
