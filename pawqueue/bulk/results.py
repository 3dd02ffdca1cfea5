"""Results files: one row per image, as CSV or NDJSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from contract.csv_text import csv_line, read_records
from contract.result_row import CSV_COLUMNS, ResultRow


def part_of(path: Path) -> Path:
    """The path under which a results file is written until it is complete."""
    return path.with_name(f"{path.name}.part")


def is_ndjson(path: Path) -> bool:
    """Whether a file name ends in `.ndjson` or `.jsonl`."""
    return path.suffix.lower() in {".ndjson", ".jsonl"}


class ResultsFile:
    """Writes `NAME.part` and moves it to `NAME` on exit.

    An existing file is kept if no row was added, or if a row could not be written, for example on a full disk.
    """

    def __init__(self, path: Path, *, ndjson: bool | None = None) -> None:
        self.path = path
        self.rows = 0
        self._is_torn = False
        self._part = part_of(path)
        self._file = self._part.open("w", encoding="utf-8", newline="")
        self._writer = RowWriter(self._file, ndjson=is_ndjson(path) if ndjson is None else ndjson)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()  # writes the rows that are still buffered
            if self.rows and not self._is_torn:
                self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)

    def add(self, row: ResultRow) -> None:
        """Append a row; raises OSError if the disk is full."""
        try:
            self._writer.add(row)
        except OSError:
            self._is_torn = True
            raise
        self.rows += 1


class RowWriter:
    """Writes rows to an open file, as CSV with a header or as NDJSON."""

    def __init__(self, file: TextIO, *, ndjson: bool) -> None:
        self._file, self._ndjson = file, ndjson
        if not ndjson:
            self._file.write(csv_line(CSV_COLUMNS))

    def add(self, row: ResultRow) -> None:
        """Append a row."""
        if self._ndjson:
            self._file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
        else:
            self._file.write(csv_line(row.cells()))


def read_rows(path: Path) -> Iterator[ResultRow]:
    """Read a CSV results file; raises OSError if it cannot be read."""
    with path.open(encoding="utf-8", newline="") as file:
        for cells in read_records(file):
            texts = {name: cells.get(name, "") for name in CSV_COLUMNS}
            confidence, latency_ms, familiarity = (
                texts.pop(name) for name in ("confidence", "latency_ms", "familiarity")
            )
            yield ResultRow(
                **texts,
                confidence=float(confidence) if confidence else None,
                latency_ms=int(latency_ms) if latency_ms else None,
                familiarity=float(familiarity) if familiarity else None,
            )
