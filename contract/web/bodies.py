"""Memory for request bodies: room is reserved before a body is read, and released once its bytes are handed on."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from contract.errors import UnavailableError
from contract.web.connections import caller_of
from contract.web.limits import Refusal, Refusals, WebLimits
from contract.web.turns import yield_turn

#: WSGI environ keys: the `Body` of the request, and the API key that sent it, if known.
BODY, CALLER = "pawqueue.body", "pawqueue.caller"
#: Room for a body of unknown size. A body that needs more gets as much as its request may keep.
STEP_BYTES = 1_000_000
#: How long a body that already arrives waits for more room.
_GROW_WAIT_S = 60.0
#: Maximum number of bodies that wait for room.
_WAITING_MAX = 256
_RETRY_AFTER_S = 5


def unpacks(environ: dict[str, Any], max_bytes: int, *, counts_packed: bool = False) -> Callable[[int], None]:
    """`Body.unpacks` for the request; returns its `keep`."""
    body: Body | None = environ.get(BODY)
    if body is None:
        return lambda _: None  # another server
    body.unpacks(max_bytes, counts_packed=counts_packed)
    return body.keep


def handed_on(environ: dict[str, Any]) -> None:
    """`Body.handed_on` for the request."""
    if body := environ.get(BODY):
        body.handed_on()


def release(environ: dict[str, Any]) -> None:
    """`Body.release` for the request."""
    if body := environ.get(BODY):
        body.release()


@dataclass(slots=True, eq=False)
class _Waiting:
    caller: str
    size: int
    spare: int
    granted: threading.Event = field(default_factory=threading.Event)


class BodyBudget:
    """Divides the memory for bodies among callers. Thread-safe.

    Bodies that begin leave room for the largest one. Only bodies that grow may use it, so those that have begun always
    get what they need in turn, however many arrive at the same time.
    """

    def __init__(self, limits: WebLimits, refusals: Refusals) -> None:
        self._limits = limits
        self._refusals = refusals
        self._lock = threading.Lock()
        self._total = 0
        self._by_caller: dict[str, int] = {}
        self._waiting: deque[_Waiting] = deque()

    @property
    def used_bytes(self) -> int:
        """The room that is reserved now."""
        return self._total

    def reserve(self, caller: str, size: int, *, grows: bool = False) -> None:
        """Reserve room, after waiting for it a short time.

        Raises:
            UnavailableError: there is no room.
        """
        spare = 0 if grows else self._limits.spare_bytes
        with self._lock:
            if self._fits(caller, size, spare):
                self._take(caller, size)
                return
            if len(self._waiting) >= _WAITING_MAX:
                raise self._no_room()
            waiting = _Waiting(caller, size, spare)
            self._waiting.append(waiting)
        if waiting.granted.wait(_GROW_WAIT_S if grows else self._limits.room_wait_s):
            return
        with self._lock:
            if waiting.granted.is_set():
                return
            self._waiting.remove(waiting)
        raise self._no_room()

    def release(self, caller: str, size: int) -> None:
        """Return room, which bodies that wait get in order."""
        with self._lock:
            self._total -= size
            left = self._by_caller[caller] - size
            if left:
                self._by_caller[caller] = left
            else:
                del self._by_caller[caller]
            if self._waiting:
                for waiting in list(self._waiting):
                    if self._fits(waiting.caller, waiting.size, waiting.spare):
                        self._take(waiting.caller, waiting.size)
                        self._waiting.remove(waiting)
                        waiting.granted.set()

    def _fits(self, caller: str, size: int, spare: int) -> bool:
        return (
            self._total + size <= self._limits.bodies_max_bytes - spare
            and self._by_caller.get(caller, 0) + size <= self._limits.caller_max_bytes - spare
        )

    def _take(self, caller: str, size: int) -> None:
        self._total += size
        self._by_caller[caller] = self._by_caller.get(caller, 0) + size

    def _no_room(self) -> UnavailableError:
        self._refusals.count(Refusal.BODY_NO_ROOM)
        return UnavailableError(
            "Other uploads use all memory for request bodies. Try again, and send fewer at the same time.",
            retry_after_s=_RETRY_AFTER_S,
        )


class Body:
    """The `wsgi.input` of one request. Reserves room at the first read, when the API key is known.

    A body of known size reserves that. Other bodies, and those that `unpacks` announces, reserve a first step and get
    all that their request may keep once they need more.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        length: int | None,
        environ: dict[str, Any],
        budget: BodyBudget,
        *,
        max_bytes: int,
        begin: Callable[[], None],
    ) -> None:
        """A body that is not yet read.

        Args:
            read: Reads up to a number of bytes; returns fewer only at the end.
            length: The Content-Length; None for a chunked body.
            environ: The WSGI environ of the request.
            budget: The room for all bodies.
            max_bytes: What the request may keep in memory at once.
            begin: Called before the first read, when there is room.
        """
        self._read = read
        #: Size of the body, as far as it is known and kept as a whole.
        self._length = length
        #: Bytes of the Content-Length that are not read yet.
        self.left_bytes = length or 0
        self._environ = environ
        self._budget = budget
        self._max_bytes = max_bytes
        self._begin = begin
        self._caller = ""
        self._reserved = self._kept = 0
        self._is_begun = False
        self._is_counted = True
        #: Whether reading failed, so that the next request cannot be found.
        self.is_broken = False

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end.

        Raises:
            UnavailableError: there is no room for the body.
            OSError: the client is too slow, or sends malformed chunks.
        """
        if self._length == 0:
            return b""
        try:
            if self._is_begun:
                yield_turn()  # the body is larger than one read
            else:
                self._start()
            data = self._read(size)
            self.left_bytes -= len(data)
            if self._is_counted:
                self.keep(len(data))
        except (OSError, UnavailableError):
            self.is_broken = True
            raise
        return data

    def unpacks(self, max_bytes: int, *, counts_packed: bool = False) -> None:
        """Announce that the request keeps parts of the body rather than all of it, and at most `max_bytes` at once.

        Unless `counts_packed`, the reader calls `keep` for what it unpacks. Call it before the first read.
        """
        self._length = None if self._length else self._length
        self._max_bytes = min(self._max_bytes, max_bytes)
        self._is_counted = counts_packed

    def keep(self, size: int) -> None:
        """Count bytes that the request keeps in memory.

        Raises:
            UnavailableError: there is no room for more.
        """
        self._kept += size
        if self._kept > self._reserved < self._max_bytes:
            self._budget.reserve(self._caller, self._max_bytes - self._reserved, grows=True)
            self._reserved = self._max_bytes

    def handed_on(self) -> None:
        """Register that all bytes read so far are stored elsewhere."""
        self._kept = 0
        self._shrink(STEP_BYTES)

    def release(self) -> None:
        """Return all room: the body is read and its bytes are stored elsewhere, or the request is finished."""
        self._kept = 0
        self._shrink(0)

    def _start(self) -> None:
        self._is_begun = True
        self._caller = self._environ.get(CALLER) or caller_of(self._environ.get("REMOTE_ADDR", ""))
        size = min(STEP_BYTES if self._length is None else self._length, self._max_bytes)
        self._budget.reserve(self._caller, size)
        self._reserved = size
        self._begin()

    def _shrink(self, size: int) -> None:
        if self._reserved > size:
            self._budget.release(self._caller, self._reserved - size)
            self._reserved = size
