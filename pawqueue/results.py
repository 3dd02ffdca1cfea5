"""The results of a run: a row for each file, and the files that hold them."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from contract.errors import ConflictError, UploadError, error_classes
from contract.job import Job, JobStatus
from pawqueue.text import cell, from_cell

#: A file that the gateway did not accept, and one that could not be opened; other states are those of its job.
REFUSED, UNREADABLE = "refused", "unreadable"
#: Errors by which a gateway refuses an image; none of them is the result of a job.
_REFUSALS = frozenset(code for code, kind in error_classes().items() if issubclass(kind, UploadError | ConflictError))


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
    #: From acceptance to result, by the clocks of the service.
    latency_ms: int | None = None
    #: `name@version`.
    model: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status == JobStatus.SUCCEEDED


COLUMNS = tuple(field.name for field in fields(Row))


def row_of(file: str, job: Job) -> Row:
    """Lay a job flat."""
    result = job.result
    prediction = result.prediction if result else None
    error = result.error if result else None
    model = result.model if result else None
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


def row_of_line(values: dict[str, Any]) -> Row:
    """Lay a line of a submission's results flat."""
    prediction, error, model = (values.get(name) or {} for name in ("prediction", "error", "model"))
    refused = error.get("code") in _REFUSALS
    return Row(
        values["custom_id"],
        label=prediction.get("label", ""),
        confidence=prediction.get("confidence"),
        status=REFUSED if refused else values["status"],
        error_code=error.get("code", ""),
        error=error.get("detail", ""),
        job_id="" if refused else values.get("job_id") or "",
        # No work was done: the same row as is made of the refusal's own answer, whichever of the two comes first.
        latency_ms=None if refused else _latency_ms(values.get("created_at"), values.get("finished_at")),
        model=f"{model['name']}@{model['version']}" if model else "",
    )


def _latency_ms(created_at: str | None, finished_at: str | None) -> int | None:
    if not created_at or not finished_at:
        return None
    took = datetime.fromisoformat(finished_at) - datetime.fromisoformat(created_at)
    return max(0, round(took.total_seconds() * 1000))


def part_of(path: Path) -> Path:
    """Where the results lie until they are complete."""
    return path.with_name(f"{path.name}.part")


def is_ndjson(path: Path) -> bool:
    """Whether a file by that name holds a JSON object a line."""
    return path.suffix.lower() in {".ndjson", ".jsonl"}


class ResultsFile:
    """A file of rows that grows beside its place as `NAME.part` and is moved there when closed: CSV or NDJSON.

    A run that received nothing leaves an older file in its place. In a CSV file, text that a spreadsheet would run as
    a formula gets an apostrophe before it; `read_rows` takes it off again.
    """

    def __init__(self, path: Path, *, ndjson: bool | None = None) -> None:
        self.path = path
        self.rows = 0
        self._part = part_of(path)
        self._file = self._part.open("w", encoding="utf-8", newline="")
        self._writer = RowWriter(self._file, ndjson=is_ndjson(path) if ndjson is None else ndjson)

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
        self._writer.add(row)
        self.rows += 1


class RowWriter:
    """Writes rows to an open file, in CSV with a line of names first, or in NDJSON."""

    def __init__(self, file: TextIO, *, ndjson: bool) -> None:
        self._file, self._ndjson = file, ndjson
        if not ndjson:
            self._write(COLUMNS)

    def add(self, row: Row) -> None:
        """Append one row."""
        if self._ndjson:
            self._file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
        else:
            self._write([_to_cell(getattr(row, name)) for name in COLUMNS])

    def _write(self, cells: list[str] | tuple[str, ...]) -> None:
        line = io.StringIO()
        # The module quotes the characters of its line end; with "\r\n" both, whichever a file name holds.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self._file.write(line.getvalue().removesuffix("\r\n") + "\n")


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
