"""`pawqueue predict`: classifies a few images and waits for the results."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click
from rich.console import Console

from contract.job import Job
from contract.result_row import ResultRow
from pawqueue.cli.display import results_table, warning_text
from pawqueue.cli.options import gateway_options, model_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import JobFailedError, RefusedError
from pawqueue.client.submissions import REFUSED, UNREADABLE

#: Images in progress at the same time.
_CONCURRENCY = 8
_STDIN = "-"
#: Statuses caused by the API key or the address rather than by the image.
_CALLER_REJECTED = (401, 403, 404, 405)


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The row of an image, and its job if it has one."""

    row: ResultRow
    job: Job | None = None

    def to_dict(self) -> dict[str, Any]:
        """The job object, or its main members if the image has no job."""
        if self.job:
            return self.job.to_dict() | {"file": self.row.file}
        error = {"code": self.row.error_code, "detail": self.row.error}
        return {"file": self.row.file, "status": self.row.status, "prediction": None, "error": error}


@click.command(short_help="Classify a few images and print their labels.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="Seconds per image.",
)
@model_options
@gateway_options
def predict(
    files: tuple[str, ...],
    timeout_s: float,
    model: str,
    top_k: int | None,
    url: str,
    api_key: str | None,
    *,
    as_json: bool,
) -> int:
    """Classify a few images and wait for the results; - reads one image from standard input.

    They are processed before images in the bulk queue, the default queue of `pawqueue submit`.

    Exit code: 0 if every image has a prediction, 1 if some have none, 2 if the gateway is unreachable or rejects the
    API key.

    \b
    Examples:
      pawqueue predict cat.jpg
      pawqueue predict cat.jpg dog.png --json | jq -r '.[].prediction.label'
      pawqueue predict bird.jpg --model birds --top-k 3 --json
      curl -s https://example.org/cat.jpg | pawqueue predict -
    """  # noqa: D301 - click needs the character
    with Pawqueue(url, api_key, timeout_s=timeout_s) as client:
        results = list(_results(partial(client.predict, model=model, top_k=top_k), files))
    if as_json:
        click.echo(json.dumps([result.to_dict() for result in results], indent=2))
    else:
        Console().print(results_table([result.row for result in results]))
        for row in (result.row for result in results if not result.row.succeeded):
            click.echo(f"{row.file}: {row.error} ({row.error_code or row.status})", err=True)
        for row in (result.row for result in results):
            for code in row.warnings.split():
                click.echo(f"{row.file}: warning, {warning_text(code)}", err=True)
    return 0 if all(result.row.succeeded for result in results) else 1


def _results(predict_one: Callable[..., Job], files: tuple[str, ...]) -> Iterator[ImageResult]:
    with ThreadPoolExecutor(min(_CONCURRENCY, len(files))) as pool:
        yield from pool.map(lambda file: _result(predict_one, file), files)


def _result(predict_one: Callable[..., Job], file: str) -> ImageResult:
    try:
        job = predict_one(sys.stdin.buffer if file == _STDIN else file)
    except JobFailedError as error:
        job = error.job
    except RefusedError as error:
        if error.retryable or error.status in _CALLER_REJECTED:
            raise
        return ImageResult(ResultRow(file, status=REFUSED, error_code=error.code, error=error.detail))
    except OSError as error:
        return ImageResult(
            ResultRow(file, status=UNREADABLE, error_code=UNREADABLE, error=error.strerror or str(error))
        )
    return ImageResult(replace(ResultRow.of(job), file=file), job)
