"""The state of a data source, and the texts that pages show when it fails."""

from dataclasses import dataclass, replace

import httpx


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source responds. Times are Unix times in seconds."""

    #: As written in the middle of a sentence.
    name: str
    #: Time of its last response; None before the first one.
    read_at_s: float | None = None
    #: Time of the first failure since then; None while it responds.
    failed_since_s: float | None = None
    #: What is wrong and what to do, as one or two sentences.
    problem: str = ""
    #: The setting that contains its address, if any.
    setting: str = ""

    @property
    def is_down(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed_since_s is not None

    def succeeded(self, now_s: float) -> "SourceState":
        """The state after a response."""
        return SourceState(self.name, now_s, setting=self.setting)

    def failed(self, now_s: float, problem: str) -> "SourceState":
        """The state after a failure."""
        since_s = now_s if self.failed_since_s is None else self.failed_since_s
        return replace(self, failed_since_s=since_s, problem=problem)


GATEWAY = SourceState("the gateway", setting="PAWQUEUE_GATEWAY_URL")
GATEWAY_METRICS = SourceState("the gateway's metrics endpoint", setting="PAWQUEUE_GATEWAY_METRICS_PORT")
WORKERS = SourceState("the workers' metrics endpoint")
PROMETHEUS = SourceState("Prometheus", setting="PAWQUEUE_PROMETHEUS_URL")
REDIS = SourceState("Redis")
BUNDLE = SourceState("the bundle")
MLFLOW = SourceState("MLflow", setting="PAWQUEUE_MLFLOW_TRACKING_URI")


class SourceError(Exception):
    """A source responds but cannot be used. Pages show the message."""


def describe(source: SourceState, error: Exception) -> str:
    """What is wrong with a source, and what to do. Never contains its URL, which may include a password."""
    subject = source.name[:1].upper() + source.name[1:]
    address = f"its address ({source.setting})" if source.setting else "its address"
    if isinstance(error, SourceError):
        return str(error)
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return f"{subject} responds with status {status}. Check its log, and that {address} is correct."
    if isinstance(error, httpx.HTTPError):
        return f"{subject} does not respond. Check that it is running and that {address} is correct."
    return f"{subject} returns an unexpected response. Check that {address} is correct."
