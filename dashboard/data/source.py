"""The state of a data source, and what to tell people when it fails."""

from dataclasses import dataclass

import httpx


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source responds; times are Unix time in seconds."""

    #: As it appears within a sentence.
    name: str
    #: Time of its last response; None before the first one.
    read_at_s: float | None = None
    #: Time of the first failure since then; None while it responds.
    failed_since_s: float | None = None
    #: What is wrong and what to do, as one or two sentences.
    problem: str = ""

    @property
    def is_down(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed_since_s is not None

    def succeeded(self, now_s: float) -> "SourceState":
        """The state after a response."""
        return SourceState(self.name, now_s)

    def failed(self, now_s: float, problem: str) -> "SourceState":
        """The state after a failure."""
        since_s = now_s if self.failed_since_s is None else self.failed_since_s
        return SourceState(self.name, self.read_at_s, since_s, problem)


class SourceError(Exception):
    """A source responds but cannot be used; the message is shown to people."""


def describe(name: str, error: Exception) -> str:
    """What is wrong with a source, for people; leaves out its address, which may contain a password."""
    subject = name[:1].upper() + name[1:]
    if isinstance(error, SourceError):
        return str(error)
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status in (401, 403):
            return f"{subject} requires an API key. Set PAWQUEUE_METRICS_KEY to a key with the scope `read`."
        return f"{subject} responds with status {status}."
    if isinstance(error, httpx.HTTPError):
        return f"{subject} does not respond. Check that it is running and that its address is correct."
    return f"{subject} returns an unexpected response. Check that its address is correct."
