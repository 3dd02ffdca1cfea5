"""A job and its result as one flat row, which is one line of a CSV file.

Standard library only: the client imports this module.
"""

from dataclasses import dataclass, fields

from contract.csv_text import Cell
from contract.job import Job, JobStatus


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One job and its result. The fields are the columns of a results CSV file, in this order."""

    #: Path relative to the submitted folder, with `/` as separator.
    file: str
    label: str = ""
    #: Probability of `label`, 0..1.
    confidence: float | None = None
    status: str = ""
    error_code: str = ""
    error: str = ""
    job_id: str = ""
    #: From acceptance, by the gateway's clock, to the result, by the Redis clock.
    latency_ms: int | None = None
    #: `name@version`.
    model: str = ""
    #: Codes of reasons to doubt the prediction, separated by spaces; `contract/job.py` has their meaning.
    warnings: str = ""
    #: Share of the validation images that differ more from the training images, 0..1.
    familiarity: float | None = None

    @classmethod
    def of(cls, job: Job) -> "ResultRow":
        """Build the row of a job."""
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
            warnings=" ".join(result.warnings) if result else "",
            familiarity=prediction.familiarity if prediction else None,
        )

    @property
    def succeeded(self) -> bool:
        """Whether the job has a prediction."""
        return self.status == JobStatus.SUCCEEDED

    def cells(self) -> list[Cell]:
        """The row as CSV cells."""
        return [getattr(self, name) for name in CSV_COLUMNS]


CSV_COLUMNS = tuple(field.name for field in fields(ResultRow))
