"""Looks after a stack while it runs: says when a service was started again, and gives up on one that keeps dying."""

import json
import time
import urllib.request
from collections import Counter
from contextlib import suppress

from deploy.local.errors import LocalError
from deploy.local.stack import Service, Stack, tail_of
from deploy.local.steps import show
from deploy.local.stopping import Stop

_LOOK_S = 0.2
_ANSWER_S = 5.0
_READY_S = 300.0
#: A service that ends this often before it was ever ready will not become so.
_STARTS_BEFORE_READY = 3


class Watch:
    """One look after the other at the services of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._started_s: dict[str, int] = {}
        self._starts: Counter[str] = Counter()
        self.ready = False

    def look(self) -> None:
        """Take note of what has changed.

        Raises:
            LocalError: a service keeps ending.
        """
        for service in self._stack.services():
            if service.started_s and service.started_s != self._started_s.get(service.name):
                self._note_start(service)
            if service.given_up or (not self.ready and self._starts[service.name] > _STARTS_BEFORE_READY):
                log = self._stack.places.log_of(service.name)
                raise LocalError(f"{service.name} keeps ending; the last lines of {log}:\n{tail_of(log)}")

    def _note_start(self, service: Service) -> None:
        if self.ready and service.name in self._started_s:
            log = self._stack.places.log_of(service.name)
            print(f"{service.name} had ended and was started again; its log is {log}", flush=True)
        self._started_s[service.name] = service.started_s
        self._starts[service.name] += 1


def wait_until_ready(url: str, watch: Watch, stop: Stop) -> bool:
    """Wait until the gateway serves a model; False if it was time to stop before.

    Raises:
        LocalError: a service keeps ending, or it takes far too long.
    """
    started_s = time.monotonic()
    try:
        while not is_ready(url):
            if stop.wait(_LOOK_S):
                return False
            watch.look()
            _show_waiting(time.monotonic() - started_s)
        watch.ready = True
    finally:
        show("")
    print(f"Services started: {time.monotonic() - started_s:.0f} s", flush=True)
    return True


def _show_waiting(waited_s: float) -> None:
    show(f"Starting the services ... {waited_s:.0f} s")
    if waited_s > _READY_S:
        raise LocalError(f"No model was served within {_READY_S:.0f} s; the logs are in the state folder.")


def is_ready(url: str) -> bool:
    """Whether the gateway accepts jobs and a worker with a model serves them."""
    with suppress(OSError, ValueError):
        _get(f"{url}/readyz")
        return bool(json.loads(_get(f"{url}/health"))["model_loaded"])
    return False


def _get(url: str) -> bytes:
    # A proxy named in the environment has no business with an address of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_ANSWER_S) as answer:
        body: bytes = answer.read()
    return body
