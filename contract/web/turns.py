"""Turns of the event loop: a request with much work lets the others go first every few milliseconds.

gevent switches only when a request waits for a socket. One that unpacks an archive, or reads a large body that is
already there, would otherwise delay all others until it is finished.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent import getcurrent
from gevent.hub import Waiter, get_hub

#: How long the loop may work before those that call `yield_turn` let others go first.
_TURN_S = 0.002
#: The attribute of a greenlet that names the client of its request.
_CLIENT = "pawqueue_client"


class _Turns:
    """Gives turns to the clients in rotation, after all that is ready in one iteration of the loop."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        #: The requests that wait, by client; the client that is next comes first.
        self._waiting: dict[str, deque[Waiter[None]]] = {}
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
        if not self._waiting:
            self._no_wait.start(lambda: None)
        self._waiting.setdefault(getattr(getcurrent(), _CLIENT, ""), deque()).append(waiter)
        waiter.get()

    def _begin(self) -> None:
        self._began_s = time.monotonic()

    def _give(self) -> None:
        if not self._waiting:
            return
        self._begin()
        while self._waiting and time.monotonic() - self._began_s < _TURN_S:
            client = next(iter(self._waiting))
            requests = self._waiting.pop(client)
            waiter = requests.popleft()
            if requests:
                self._waiting[client] = requests
            waiter.switch(None)
        if not self._waiting:
            self._no_wait.stop()


_turns: _Turns | None = None


def start_turns() -> None:
    """Divide the event loop of this thread; the server calls it in the process that serves requests."""
    global _turns  # noqa: PLW0603 - a process has one event loop that serves requests
    _turns = _Turns(get_hub())


def take_turns_of(client: str) -> None:
    """Count the turns of this request as those of `client`: clients get turns in rotation."""
    setattr(getcurrent(), _CLIENT, client)


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
