"""An ended job as the dashboard keeps it, and the filters that stand in the address of a page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from contract.job import Features, Job, Timings, is_job_id


@dataclass(frozen=True, slots=True)
class JobRow:
    """One ended job; times are Unix time in seconds."""

    id: str
    owner: str
    file: str
    queue: str
    status: str
    created_s: float
    ended_s: float
    attempts: int
    label: str
    #: None without a prediction.
    confidence: float | None
    probabilities: Mapping[str, float]
    model: str
    batch_size: int | None
    timings: Timings | None
    features: Features | None
    error_code: str
    error_detail: str

    @property
    def latency_ms(self) -> float:
        """From acceptance to the end."""
        return max(0.0, (self.ended_s - self.created_s) * 1000)


def row_of(job: Job) -> JobRow:
    """Lay a job flat."""
    result = job.result
    prediction, error = (result.prediction, result.error) if result else (None, None)
    model = result.model if result else None
    return JobRow(
        id=job.id,
        owner=job.owner,
        file=job.file,
        queue=job.queue,
        status=str(job.status),
        created_s=job.created_ms / 1000,
        ended_s=(job.finished_ms or job.created_ms) / 1000,
        attempts=job.attempts,
        label=prediction.label if prediction else "",
        confidence=prediction.confidence if prediction else None,
        probabilities=prediction.probabilities if prediction else {},
        model=f"{model.name} {model.version}" if model else "",
        batch_size=result.batch_size if result else None,
        timings=result.timings if result else None,
        features=result.features if result else None,
        error_code=error.code if error else "",
        error_detail=error.detail if error else "",
    )


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs are shown; an empty text stands for all."""

    label: str = ""
    status: str = ""
    model: str = ""
    #: Confidence in per cent.
    least: int = 0
    most: int = 100
    #: Jobs that ended in the last so many minutes; 0: all.
    minutes: int = 0

    def keep(self, row: JobRow, now_s: float) -> bool:
        """Whether a job is shown."""
        if any(wanted and wanted != found for wanted, found in self._texts(row)):
            return False
        if self.minutes and row.ended_s < now_s - 60 * self.minutes:
            return False
        if self.least <= 0 and self.most >= 100:
            return True
        return row.confidence is not None and self.least <= row.confidence * 100 <= self.most

    def _texts(self, row: JobRow) -> Iterable[tuple[str, str]]:
        return (self.label, row.label), (self.status, row.status), (self.model, row.model)


_TEXT_MAX = 200


def filters_of(search: str) -> Filters:
    """Read filters out of a query such as `?label=cat&least=50`; what cannot be read is left out."""
    given = {name: values[-1] for name, values in parse_qs(search.lstrip("?")).items()}
    least, most = sorted((_number(given, "least", 0, 100), _number(given, "most", 100, 100)))
    texts = {name: given.get(name, "")[:_TEXT_MAX] for name in ("label", "status", "model")}
    return Filters(**texts, least=least, most=most, minutes=_number(given, "minutes", 0, 100_000))


def search_of(filters: Filters, job_id: str = "") -> str:
    """Undo `filters_of` and `job_id_of`; what is not filtered by is left out."""
    default = Filters()
    values = {name: getattr(filters, name) for name in Filters.__dataclass_fields__}
    given = {name: value for name, value in values.items() if value != getattr(default, name)}
    text = urlencode({**given, **({"job": job_id} if job_id else {})})
    return f"?{text}" if text else ""


def job_id_of(search: str) -> str:
    """The job that an address names; empty if none, or if it is no id."""
    given = parse_qs(search.lstrip("?")).get("job", [""])[-1]
    return given if is_job_id(given) else ""


def _number(given: Mapping[str, str], name: str, default: int, largest: int) -> int:
    text = given.get(name, "")
    return min(int(text), largest) if text.isascii() and text.isdigit() and len(text) < 9 else default
