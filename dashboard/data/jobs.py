"""Finished jobs as rows, and the filters in the URL of the Predictions page."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import cast
from urllib.parse import parse_qs, urlencode

from contract.job import Features, Job, Timings, is_job_id
from contract.result_row import ResultRow


@dataclass(frozen=True, slots=True)
class JobRow(ResultRow):
    """A finished job: its result, plus what only the dashboard shows."""

    #: Id of the API key that submitted it.
    owner: str = ""
    queue: str = ""
    #: Unix time in seconds.
    finished_s: float = 0.0
    attempts: int = 0
    probabilities: Mapping[str, float] = field(default_factory=dict)
    batch_size: int | None = None
    timings: Timings | None = None
    features: Features | None = None


def build_row(job: Job) -> JobRow:
    """The row of a finished job."""
    result = job.result
    return replace(
        cast("JobRow", JobRow.of(job)),
        owner=job.owner,
        queue=job.queue,
        finished_s=(job.finished_ms or job.created_ms) / 1000,
        attempts=job.attempts,
        probabilities=result.prediction.probabilities if result and result.prediction else {},
        batch_size=result.batch_size if result else None,
        timings=result.timings if result else None,
        features=result.features if result else None,
    )


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs to show. The field names are the parameters in the URL; an empty string matches every job."""

    label: str = ""
    status: str = ""
    model: str = ""
    #: Minimum and maximum confidence in per cent.
    least: int = 0
    most: int = 100
    #: Show only jobs that finished in the last `minutes`; 0 shows all.
    minutes: int = 0

    def match(self, row: JobRow, now_s: float) -> bool:
        """Whether to show a job."""
        texts = ((self.label, row.label), (self.status, row.status), (self.model, row.model))
        if any(wanted and wanted != found for wanted, found in texts):
            return False
        if self.minutes and row.finished_s < now_s - 60 * self.minutes:
            return False
        if self.least <= 0 and self.most >= 100:
            return True
        return row.confidence is not None and self.least <= row.confidence * 100 <= self.most


_TEXT_MAX = 200


def parse_filters(query: str) -> Filters:
    """Parse a query such as `?label=cat&least=50`. Ignores invalid values."""
    parameters = {name: values[-1] for name, values in parse_qs(query.lstrip("?")).items()}
    least, most = sorted((_number(parameters, "least", 0, 100), _number(parameters, "most", 100, 100)))
    texts = {name: parameters.get(name, "")[:_TEXT_MAX] for name in ("label", "status", "model")}
    return Filters(**texts, least=least, most=most, minutes=_number(parameters, "minutes", 0, 100_000))


def parse_job_id(query: str) -> str:
    """The job id in a query; empty if it is missing or invalid."""
    job_id = parse_qs(query.lstrip("?")).get("job", [""])[-1]
    return job_id if is_job_id(job_id) else ""


def format_query(filters: Filters, job_id: str = "") -> str:
    """Format filters, and the id of the open job, as a query without defaults. The reverse of the functions above."""
    defaults = asdict(Filters())
    parameters = {name: value for name, value in asdict(filters).items() if value != defaults[name]}
    query = urlencode(parameters | ({"job": job_id} if job_id else {}))
    return f"?{query}" if query else ""


def _number(parameters: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    text = parameters.get(name, "")
    return min(int(text), maximum) if text.isascii() and text.isdigit() and len(text) < 9 else default
