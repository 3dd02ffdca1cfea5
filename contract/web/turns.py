"""Turns of the event loop: a request with much work lets the others go first every few milliseconds.

gevent switches only when a request waits for a socket. One that unpacks an archive, or reads a large body that is
already there, would otherwise delay all others until it is finished.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent.hub import Waiter, get_hub

#: How long the loop may work before those that call `yield_turn` let others go first.
_TURN_S = 0.002


class _Turns:
    """Gives turns in order, after all that is ready in one iteration of the loop."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._waiting: deque[Waiter[None]] = deque()
        self._began_s = time.monotonic()
        self._after_poll = hub.loop.check(ref=False)
        self._before_poll = hub.loop.prepare(ref=False)
        #: While active, the loop does not wait for sockets.
        self._no_wait = hub.loop.idle(ref=False)
        self._after_poll.start(self._begin)
        self._before_poll.start(self._give)

    def yield_turn(self) -> None:
        if time.monotonic() - self._began_s < _TURN_S:
            return
        waiter: Waiter[None] = Waiter(self._hub)
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            self._no_wait.start(lambda: None)
        waiter.get()

    def _begin(self) -> None:
        self._began_s = time.monotonic()

    def _give(self) -> None:
        if not self._waiting:
            return
        self._begin()
        while self._waiting and time.monotonic() - self._began_s < _TURN_S:
            self._waiting.popleft().switch(None)
        if not self._waiting:
            self._no_wait.stop()


_turns: _Turns | None = None


def start_turns() -> None:
    """Divide the event loop of this thread; the server calls it in the process that serves requests."""
    global _turns  # noqa: PLW0603 - a process has one event loop that serves requests
    _turns = _Turns(get_hub())


def yield_turn() -> None:
    """Let other requests go first if the event loop has worked for some time. Returns at once outside the server."""
    if _turns:
        _turns.yield_turn()


def off_loop(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function that waits for the disk in a thread, so that the event loop can serve other requests meanwhile.

    Outside the server, the calling thread runs it.
    """
    if _turns:
        get_hub().threadpool.apply(function, arguments)
    else:
        function(*arguments)
