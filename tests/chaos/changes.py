"""Changes the live version of a model again and again during a chaos run."""

import threading
from contextlib import suppress
from datetime import datetime
from itertools import cycle
from typing import Any

import httpx
import redis

from contract.ledger import keys
from tests.chaos.models import CHANGING, NAMED

_PAUSE_S = 0.5


class Changes:
    """A thread that promotes the versions of a model in turn; requests may fail, because services do."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as http:
            for version in cycle(reversed(NAMED[CHANGING])):
                with suppress(httpx.HTTPError):
                    http.patch(f"/v1/models/{CHANGING}", json={"live": version}, headers={"Prefer": "wait=10"})
                if self._stopping.wait(_PAUSE_S):
                    return


def history(redis_url: str) -> list[tuple[int, str]]:
    """When each version of the model became live, in milliseconds."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        entries = client.xrange(keys.MODEL_CHANGES)
    return [
        (int(entry_id.split("-")[0]), entry["version"])
        for entry_id, entry in entries
        if (entry["model"], entry["action"]) == (CHANGING, "live")
    ]


def was_live(result: dict[str, Any], changes: list[tuple[int, str]]) -> bool:
    """Whether the version of a result was live when its job was claimed."""
    claimed_ms = round(datetime.fromisoformat(result["started_at"]).timestamp() * 1000)
    before = [version for at_ms, version in changes if at_ms < claimed_ms]
    at_once = [version for at_ms, version in changes if at_ms == claimed_ms]
    return result["model"]["version"] in {*before[-1:], *at_once}
