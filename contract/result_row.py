"""A finished job as one flat row: the columns of every CSV file of results, and how a cell is written safely.

Standard library only, so that clients may use it.
"""

from dataclasses import dataclass, fields

from contract.job import Job, JobStatus

#: A spreadsheet runs a cell that starts with one of these as a formula; the apostrophe is here so that adding one can
#: be undone. File names come from strangers.
_RISKY = (*"=+-@'\x7f", *map(chr, range(32)))


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One job and its result; the fields are the columns of the CSV file, in this order."""

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

    @classmethod
    def of(cls, job: Job) -> "ResultRow":
        """The row of a job."""
        result = job.result
        prediction, error, model = (result.prediction, result.error, result.model) if result else (None, None, None)
        return cls(
            job.file,
            label=prediction.label if prediction else "",
            confidence=prediction.confidence if prediction else None,
            status=str(job.status),
            error_code=error.code if error else "",
            error=error.detail if error else "",
            job_id=job.id,
            latency_ms=None if job.finished_ms is None else max(0, job.finished_ms - job.created_ms),
            model=f"{model.name}@{model.version}" if model else "",
        )

    @property
    def succeeded(self) -> bool:
        """Whether it has a prediction."""
        return self.status == JobStatus.SUCCEEDED

    def cells(self) -> list[str]:
        """The row as the cells of a CSV file."""
        return [csv_cell(getattr(self, name)) for name in CSV_COLUMNS]


CSV_COLUMNS = tuple(field.name for field in fields(ResultRow))


def csv_cell(value: str | float | None) -> str:
    """A value as a CSV cell; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_RISKY) else value
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def text_of_cell(cell: str) -> str:
    """Undo the apostrophe of `csv_cell`."""
    return cell.removeprefix("'")
