"""The limits of the web server, and the counts of what it refused because of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from contract.log import get_logger
from contract.settings import Settings

_log = get_logger(__name__)

#: Interval between log lines about refused requests: one line each would let a client fill the disk.
_LOG_INTERVAL_S = 5.0
#: Share of the memory for bodies that one caller may use.
_CALLER_SHARE = 0.5
#: The memory for bodies is at least this many times the largest body; otherwise such a body would never fit.
_BODIES_MIN = 4


class Refusal(StrEnum):
    """Why the server refused a request or closed a connection."""

    HEAD_TOO_LARGE = "head_too_large"
    HEAD_TOO_SLOW = "head_too_slow"
    MALFORMED = "malformed"
    IDLE_CLOSED = "idle_closed"
    TOO_MANY_REQUESTS = "too_many_requests"
    BODY_TOO_SLOW = "body_too_slow"
    BODY_NO_ROOM = "body_no_room"
    READER_TOO_SLOW = "reader_too_slow"


@dataclass(frozen=True)
class WebLimits:
    """What the server accepts."""

    #: Bytes that a request may keep in memory at once.
    body_max_bytes: int
    #: Bytes that all bodies may keep in memory, and those of one caller.
    bodies_max_bytes: int
    caller_max_bytes: int
    #: Bytes that bodies leave free when they begin, for those that grow; enough for one to reach its maximum.
    spare_bytes: int = 0
    #: How long a body waits for room in memory before the request is refused.
    room_wait_s: float = 5.0
    #: Open connections, and those from one address.
    connections: int = 4000
    connections_per_address: int = 2000
    #: Bytes of a request line and all header fields, and the time for them to arrive.
    head_max_bytes: int = 16_384
    head_s: float = 10.0
    #: How long a connection may be idle between requests.
    idle_s: float = 75.0
    #: A body must arrive at `body_bytes_per_s`, except for pauses of `body_pause_s` in all since it last kept up.
    body_pause_s: float = 12.0
    body_bytes_per_s: float = 1000.0
    #: It may take `body_s` in all, plus 1 s for every `body_average_bytes_per_s` bytes received.
    body_s: float = 120.0
    body_average_bytes_per_s: float = 20_000.0

    @classmethod
    def of(cls, settings: Settings, body_max_bytes: int) -> "WebLimits":
        """The limits of a service whose requests keep at most `body_max_bytes` in memory."""
        bodies = max(settings.bodies_max_bytes, _BODIES_MIN * body_max_bytes)
        return cls(
            body_max_bytes,
            bodies,
            int(bodies * _CALLER_SHARE),
            spare_bytes=body_max_bytes,
            connections_per_address=settings.connections_per_address,
        )


@dataclass
class Refusals:
    """Counts what was refused, and logs the counts every few seconds."""

    counts: dict[Refusal, int] = field(default_factory=lambda: dict.fromkeys(Refusal, 0))
    clock: Callable[[], float] = time.monotonic
    _logged: dict[Refusal, int] = field(default_factory=lambda: dict.fromkeys(Refusal, 0))
    _next_log_s: float = 0.0

    def count(self, reason: Refusal) -> None:
        """Count one refusal."""
        self.counts[reason] += 1

    def log(self) -> None:
        """Log what was refused since the last line, unless that was a moment ago."""
        if self.counts == self._logged or self.clock() < self._next_log_s:
            return
        new = {reason.value: count - self._logged[reason] for reason, count in self.counts.items()}
        _log.warning("Refused requests or closed connections", **{name: count for name, count in new.items() if count})
        self._logged = dict(self.counts)
        self._next_log_s = self.clock() + _LOG_INTERVAL_S
