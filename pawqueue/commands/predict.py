"""`pawqueue predict`: a few images in, their labels out at once."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from contract.job import Job
from pawqueue.client import Pawqueue
from pawqueue.commands.options import gateway_options
from pawqueue.display import results_table
from pawqueue.errors import JobFailedError, RefusedError
from pawqueue.results import REFUSED, UNREADABLE, Row, row_of

#: Images under way at once.
_AT_ONCE = 8
_STDIN = "-"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an image: its row, and its job if there is one."""

    row: Row
    job: Job | None = None

    def to_dict(self) -> dict[str, Any]:
        """The job object; of an image that became no job, what is known."""
        if self.job:
            return self.job.to_dict() | {"file": self.row.file}
        error = {"code": self.row.error_code, "detail": self.row.error}
        return {"file": self.row.file, "status": self.row.status, "prediction": None, "error": error}


@click.command(short_help="Classify a few images and print their labels.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds for each."
)
@gateway_options
def predict(files: tuple[str, ...], timeout_s: float, url: str, api_key: str | None, *, as_json: bool) -> int:
    """Classify the images FILE... at once, ahead of folders; - reads one from standard input.

    Exit code: 0 when every image has a prediction, 1 when some have not, 2 when the gateway cannot be asked.

    \b
    Examples:
      pawqueue predict cat.jpg
      pawqueue predict cat.jpg dog.png --json | jq -r '.[].prediction.label'
      curl -s https://example.org/cat.jpg | pawqueue predict -
    """  # noqa: D301 - click needs the character
    with Pawqueue(url, api_key, timeout_s=timeout_s) as client:
        answers = list(_answers(client, files))
    if as_json:
        click.echo(json.dumps([answer.to_dict() for answer in answers], indent=2))
    else:
        Console().print(results_table([answer.row for answer in answers]))
        _explain(answers)
    return 0 if all(answer.row.succeeded for answer in answers) else 1


def _answers(client: Pawqueue, files: tuple[str, ...]) -> Iterator[Answer]:
    with ThreadPoolExecutor(min(_AT_ONCE, len(files))) as pool:
        yield from pool.map(lambda file: _answer(client, file), files)


def _answer(client: Pawqueue, file: str) -> Answer:
    try:
        job = client.predict(sys.stdin.buffer if file == _STDIN else file)
    except JobFailedError as error:
        job = error.job
    except RefusedError as error:
        if error.retryable or error.status in (401, 403, 404, 405):
            raise
        return Answer(Row(file, status=REFUSED, error_code=error.code, error=error.detail))
    except OSError as error:
        return Answer(Row(file, status=UNREADABLE, error_code=UNREADABLE, error=error.strerror or str(error)))
    return Answer(row_of(file, job), job)


def _explain(answers: list[Answer]) -> None:
    for answer in answers:
        if not answer.row.succeeded:
            click.echo(
                f"{answer.row.file}: {answer.row.error} ({answer.row.error_code or answer.row.status})", err=True
            )
