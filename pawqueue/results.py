"""The results of a run: a row for each file, written to a CSV file as it comes."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from contract.job import Job, JobStatus
from pawqueue.text import cell, from_cell

#: A file that the gateway did not accept, and one that could not be opened; other states are those of its job.
REFUSED, UNREADABLE = "refused", "unreadable"


@dataclass(frozen=True, slots=True)
class Row:
    """One file and what came of it; the fields are the columns of the CSV file, in this order."""

    #: Relative to the folder, with `/` between parts.
    file: str
    label: str = ""
    #: Probability of `label`, 0..1.
    confidence: float | None = None
    status: str = ""
    error_code: str = ""
    error: str = ""
    job_id: str = ""
    #: From acceptance to outcome, by the clocks of the service.
    latency_ms: int | None = None
    #: `name@version`.
    model: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status == JobStatus.SUCCEEDED


COLUMNS = tuple(field.name for field in fields(Row))


def row_of(file: str, job: Job) -> Row:
    """Lay a job flat."""
    outcome = job.outcome
    prediction = outcome.prediction if outcome else None
    error = outcome.error if outcome else None
    model = outcome.model if outcome else None
    return Row(
        file,
        label=prediction.label if prediction else "",
        confidence=prediction.confidence if prediction else None,
        status=str(job.status),
        error_code=error.code if error else "",
        error=error.detail if error else "",
        job_id=job.id,
        latency_ms=None if job.finished_ms is None else max(0, job.finished_ms - job.created_ms),
        model=f"{model.name}@{model.version}" if model else "",
    )


def part_of(path: Path) -> Path:
    """Where the results lie until they are complete."""
    return path.with_name(f"{path.name}.part")


class ResultsFile:
    """A CSV file that grows beside its place as `NAME.part` and is moved there when closed.

    Each row is handed to the system at once, so that a killed run leaves what it received in the `.part` file. A run
    that received nothing leaves an older file in its place. Text that a spreadsheet would run as a formula gets an
    apostrophe before it; `read_rows` takes it off again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._part = part_of(path)
        self._file = self._part.open("w", encoding="utf-8", newline="")
        self._write(COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self.rows:
            self._part.replace(self.path)
        else:
            self._part.unlink()

    def add(self, row: Row) -> None:
        """Append one row; OSError when the disk is full."""
        self._write([_to_cell(getattr(row, name)) for name in COLUMNS])
        self.rows += 1

    def _write(self, cells: list[str] | tuple[str, ...]) -> None:
        line = io.StringIO()
        # The module quotes the characters of its line end; with "\r\n" both, whichever a file name holds.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self._file.write(line.getvalue().removesuffix("\r\n") + "\n")
        self._file.flush()


def read_rows(path: Path) -> Iterator[Row]:
    """Read what `ResultsFile` wrote; OSError when it cannot be read."""
    with path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            texts = {name: from_cell(cells[name] or "") for name in COLUMNS}
            confidence, latency_ms = texts.pop("confidence"), texts.pop("latency_ms")
            yield Row(
                **texts,
                confidence=float(confidence) if confidence else None,
                latency_ms=int(latency_ms) if latency_ms else None,
            )


def _to_cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return cell(value)
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
