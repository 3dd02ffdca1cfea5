"""What is kept of a run while its rows go by: counts, a sample of the rows, the first failures."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contract.job import JobStatus
from pawqueue.results import Row

#: Most rows of a table on the terminal.
TABLE_ROWS = 20


@dataclass(slots=True)
class Tally:
    """Counts over the rows of a run of `total` files."""

    total: int
    statuses: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    #: Of files without a prediction, by error code.
    codes: Counter[str] = field(default_factory=Counter)
    #: Rows by their file's place in the order found, spread evenly over all files.
    sample: dict[int, Row] = field(default_factory=dict)
    failures: list[Row] = field(default_factory=list)
    #: Files that the gateway has.
    sent: int = 0
    #: Files done before this run went on.
    earlier: int = 0
    #: Of the submission that this run sent.
    submission_id: str = ""
    _started_s: float = field(default_factory=time.monotonic)

    def add(self, index: int, row: Row) -> None:
        """Count the row of the file that was found at this place, from 1."""
        self.statuses[row.status] += 1
        place = index - 1
        if _share(place, self.total) > _share(place - 1, self.total) and len(self.sample) < TABLE_ROWS:
            self.sample[place] = row
        if row.succeeded:
            self.labels[row.label] += 1
        else:
            self.codes[row.error_code or row.status] += 1
            if len(self.failures) < TABLE_ROWS:
                self.failures.append(row)

    def begin(self) -> None:
        """Start the clock; what is in already is of an earlier run."""
        self.earlier = self.done
        self._started_s = time.monotonic()

    @property
    def done(self) -> int:
        return self.statuses.total()

    @property
    def succeeded(self) -> int:
        return self.statuses[JobStatus.SUCCEEDED]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def rate(self) -> float:
        """Files per second of this run."""
        return (self.done - self.earlier) / max(self.seconds, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds left at the rate so far; None before there is one."""
        return (self.total - self.done) / self.rate if self.rate else None

    @property
    def exit_code(self) -> int:
        """0: every file has a prediction; 1: some have; 2: none has."""
        if not self.succeeded:
            return 2
        return 0 if self.succeeded == self.total else 1

    def to_dict(self, out: Path) -> dict[str, Any]:
        """The summary for programs; `failures` holds the first only."""
        return {
            "out": str(out),
            "submission": self.submission_id,
            "files": self.total,
            "done": self.done,
            "done_earlier": self.earlier,
            **{status: self.statuses[status] for status in ("succeeded", "failed", "refused", "unreadable")},
            "canceled": self.statuses[JobStatus.CANCELED],
            "expired": self.statuses[JobStatus.EXPIRED],
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.rate, 1),
            "labels": dict(self.labels),
            "errors": dict(self.codes),
            "failures": [asdict(row) for row in self.failures],
        }


def _share(index: int, total: int) -> int:
    """Which of the table's rows a place belongs to; the first place of each is shown."""
    return index * TABLE_ROWS // total
