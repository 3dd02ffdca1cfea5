"""The state of a job or submission as server-sent events, each time it changes.

A stream costs no Redis command while nothing happens: `Waiters` receives the ids of all that changes from the one
subscription of the gateway and passes them to `Events`. What finished is read at once. For everything else, one thread
reads all that changed and has a stream, at most twice a second. A stream keeps only the newest state, so a slow reader
misses intermediate states and holds no memory.
"""

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Generic, TypeVar

from contract.errors import UnavailableError
from contract.job import Job
from contract.ledger.ledger import Ledger
from contract.ledger.types import Change
from contract.log import get_logger
from contract.submission import COUNTED, Submission
from contract.web.turns import yield_turn

Record = TypeVar("Record", Job, Submission)

_log = get_logger(__name__)

#: Pause between two reads of what changed.
_PAUSE_S = 0.5
#: Records read from the ledger in one call.
_READ_MAX = 500
#: Time without an event after which a comment shows that the connection is alive, and detects that it is not.
_COMMENT_S = 15.0
#: When a client reconnects, and by how much later at random if the gateway stops: not all clients do it at once.
_RETRY_MS, _RETRY_SPREAD_MS = 1000, 4000
#: Share of the streams that one caller may have.
_CALLER_SHARE = 0.5
_BUSY_RETRY_S = 5


def event_id(record: Job | Submission) -> str:
    """Identifies the state of a record, so that a client that reconnects gets it only if it is new."""
    if isinstance(record, Job):
        return f"{record.created_ms}-{record.status}-{record.attempts}"
    counts = ".".join(str(getattr(record.counts, name)) for name in COUNTED)
    return f"{record.created_ms}-{record.status}-{counts}"


def is_last(record: Job | Submission) -> bool:
    """Whether a record has finished, so that no event follows."""
    return record.finished_ms is not None


def format_event(record: Job | Submission, values: dict[str, Any]) -> str:
    """One event: `finished` if it is the last one, else `progress`."""
    name = "finished" if is_last(record) else "progress"
    data = json.dumps(values, separators=(",", ":"))  # without line ends
    return f"event: {name}\nid: {event_id(record)}\ndata: {data}\n\n"


class Follower(Generic[Record]):
    """The newest state of a record, for one stream; None if the record was purged or has expired."""

    __slots__ = ("changed", "record")

    def __init__(self, record: Record) -> None:
        self.record: Record | None = record
        self.changed = threading.Event()

    def update(self, record: Record | None) -> None:
        """Set a new state. A read that began before the record finished may end after it."""
        if self.record is not None and not is_last(self.record):
            self.record = record
            self.changed.set()


class _Followed(Generic[Record]):
    """The streams of jobs, or of submissions."""

    def __init__(self, read: Callable[[Sequence[str]], Sequence[Record | None]]) -> None:
        self._read: Callable[[Sequence[str]], Sequence[Record | None]] = read
        self._lock = threading.Lock()
        self._followers: dict[str, list[Follower[Record]]] = {}
        #: The ids of records that changed and have not been read since.
        self._changed: set[str] = set()

    def add(self, record_id: str, follower: Follower[Record]) -> None:
        with self._lock:
            self._followers.setdefault(record_id, []).append(follower)

    def remove(self, record_id: str, follower: Follower[Record]) -> None:
        with self._lock:
            followers = self._followers[record_id]
            followers.remove(follower)
            if not followers:
                del self._followers[record_id]

    def mark(self, ids: Collection[str] | None) -> bool:
        """Register that records changed, with None all of them; returns whether one of them has a stream."""
        with self._lock:
            found = self._followers.keys() if ids is None else self._followers.keys() & ids
            self._changed |= found
            return bool(found)

    def read_changed(self) -> None:
        """Read all marked records. If that fails, they stay marked."""
        with self._lock:
            ids, self._changed = list(self._changed), set()
        for start in range(0, len(ids), _READ_MAX):
            try:
                self.read(ids[start : start + _READ_MAX])
            except BaseException:
                self.mark(ids[start:])
                raise

    def read(self, ids: Collection[str]) -> None:
        """Read records, as far as they have a stream, and pass their state on."""
        with self._lock:
            wanted = list(self._followers.keys() & ids)
        for record_id, record in zip(wanted, self._read(wanted) if wanted else (), strict=True):
            with self._lock:
                followers = list(self._followers.get(record_id, ()))
            for follower in followers:
                follower.update(record)

    def wake(self) -> None:
        """Wake all streams."""
        with self._lock:
            followers = [follower for followers in self._followers.values() for follower in followers]
        for follower in followers:
            follower.changed.set()


class Events:
    """The event streams of one gateway process."""

    def __init__(
        self, ledger: Ledger, max_streams: int, max_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Stream the records of a ledger.

        Args:
            ledger: Where the records are read.
            max_streams: Maximum number of streams; one caller may have half of them.
            max_s: Maximum duration of a stream.
            clock: The time in seconds.
        """
        self.max_s = max_s
        self.clock = clock
        #: Whether streams end, because the gateway stops.
        self.ended = False
        self._jobs: _Followed[Job] = _Followed(ledger.get)
        self._submissions: _Followed[Submission] = _Followed(ledger.read_submissions)
        self._max_streams = max_streams
        self._lock = threading.Lock()
        self._by_caller: Counter[str] = Counter()
        self._is_due = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    @property
    def count(self) -> int:
        """The number of open streams."""
        with self._lock:
            return self._by_caller.total()

    def start(self) -> None:
        """Start the reading thread; call it after the process has forked."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._is_due.set()
        self._thread.join()

    def end_streams(self) -> None:
        """End all streams, and those that would begin from now on; their clients reconnect."""
        self.ended = True
        self._jobs.wake()
        self._submissions.wake()

    def note(self, change: Change | None) -> None:
        """Pass on a change; with None, any record may have changed.

        Raises:
            UnavailableError: what finished cannot be read; call this with None later.
        """
        if change is not None and change.finished:
            self._jobs.read(change.ids)
            self._submissions.read(change.ids)
        else:
            ids = change.ids if change else None
            have_streams = [followed.mark(ids) for followed in (self._jobs, self._submissions)]
            if any(have_streams):
                self._is_due.set()

    def of_job(self, job: Job, caller: str, known_id: str, body: Callable[[Job], dict[str, Any]]) -> "Stream[Job]":
        """Open the stream of a job that was just read.

        Args:
            job: Its state.
            caller: Whose stream it is.
            known_id: The id of the last event that the client has; empty for none.
            body: Makes the data of an event.

        Raises:
            UnavailableError: there are too many streams.
        """
        return self._open(self._jobs, job, caller, known_id, body)

    def of_submission(
        self, submission: Submission, caller: str, known_id: str, body: Callable[[Submission], dict[str, Any]]
    ) -> "Stream[Submission]":
        """Open the stream of a submission; the arguments and errors are those of `of_job`."""
        return self._open(self._submissions, submission, caller, known_id, body)

    def _open(
        self,
        followed: _Followed[Record],
        record: Record,
        caller: str,
        known_id: str,
        body: Callable[[Record], dict[str, Any]],
    ) -> "Stream[Record]":
        self._reserve(caller)
        follower = Follower(record)
        followed.add(record.id, follower)
        followed.mark([record.id])  # it may have changed since it was read
        self._is_due.set()

        def close() -> None:
            followed.remove(record.id, follower)
            self._release(caller)

        return Stream(self, follower, known_id, body, close)

    def _reserve(self, caller: str) -> None:
        with self._lock:
            is_full = self._by_caller.total() >= self._max_streams
            if is_full or self._by_caller[caller] >= max(1, int(self._max_streams * _CALLER_SHARE)):
                raise UnavailableError(
                    "The gateway has as many event streams as it accepts, or as it accepts from one client "
                    "(PAWQUEUE_EVENTS_MAX_STREAMS). Close some, or read the job or submission with `Prefer: wait`.",
                    retry_after_s=_BUSY_RETRY_S,
                )
            self._by_caller[caller] += 1

    def _release(self, caller: str) -> None:
        with self._lock:
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]

    def _run(self) -> None:
        while True:
            self._is_due.wait()
            if self._stopped.is_set():
                return
            self._is_due.clear()
            try:
                self._jobs.read_changed()
                self._submissions.read_changed()
            except UnavailableError:
                self._is_due.set()
            # Keep the thread alive: without it, no stream shows progress.
            except Exception:  # noqa: BLE001
                if not self._stopped.is_set():
                    _log.exception("Reading the state of jobs and submissions for event streams failed")
                self._is_due.set()
            self._stopped.wait(_PAUSE_S)


class Stream(Generic[Record]):
    """The events of one record, as text; `close` it even if it was never read."""

    def __init__(
        self,
        events: Events,
        follower: Follower[Record],
        known_id: str,
        body: Callable[[Record], dict[str, Any]],
        close: Callable[[], None],
    ) -> None:
        self._events = events
        self._follower: Follower[Record] = follower
        self._known_id = known_id
        self._body: Callable[[Record], dict[str, Any]] = body
        self._close: Callable[[], None] | None = close

    def __iter__(self) -> Iterator[str]:
        """Yield the state, unless the client has it, and then each newer one."""
        events, follower = self._events, self._follower
        end_s, comment_s = events.clock() + events.max_s, 0.0
        yield f"retry: {_RETRY_MS}\n\n"
        while not events.ended and events.clock() < end_s:
            follower.changed.clear()
            record = follower.record
            if record is None:
                return
            yield_turn()  # thousands of streams may have an event at once
            if event_id(record) != self._known_id:
                self._known_id = event_id(record)
                yield format_event(record, self._body(record))
                comment_s = events.clock() + _COMMENT_S
            elif events.clock() >= comment_s:
                yield ":\n\n"
                comment_s = events.clock() + _COMMENT_S
            if is_last(record):
                return
            follower.changed.wait(max(0.0, min(comment_s, end_s) - events.clock()))
        if events.ended:
            yield f"retry: {_RETRY_MS + secrets.randbelow(_RETRY_SPREAD_MS)}\n\n"

    def close(self) -> None:
        """End the stream."""
        if self._close:
            self._close()
            self._close = None
