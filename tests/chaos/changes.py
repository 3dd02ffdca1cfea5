"""Changes the live version, the canary and the shadow of a model again and again during a chaos run."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from typing import Any

import httpx
import redis

from contract.ledger import keys
from tests.chaos.models import CHANGING, NAMED

_PAUSE_S = 0.5
#: The share of a canary.
_PERCENT = 50


class Changes:
    """A thread that makes the versions of a model live, shadows and canaries in turn; its requests may fail."""

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
            for change in _changes():
                with suppress(httpx.HTTPError):
                    http.patch(f"/v1/models/{CHANGING}", json=change, headers={"Prefer": "wait=10"})
                if self._stopping.wait(_PAUSE_S):
                    return


def _changes() -> Iterator[dict[str, Any]]:
    """A version is a canary and becomes live, then the other one is a shadow and a canary and ends."""
    first, second = NAMED[CHANGING]
    for version, other in cycle([(second, first), (first, second)]):
        yield {"canary": {"version": version, "percent": _PERCENT}}
        yield {"live": version}
        yield {"shadow": {"version": other, "sample": 1}}
        yield {"canary": {"version": other, "percent": _PERCENT, "auto_rollback": True}}
        yield {"canary": None}


@dataclass(frozen=True)
class Served:
    """Which versions processed jobs from a moment on."""

    at_ms: int
    live: str
    canary: str = ""


def history(redis_url: str) -> list[Served]:
    """Which versions of the model processed jobs, after each of its changes."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        entries = client.xrange(keys.MODEL_CHANGES)
    found, live, canary = [], "", ""
    for entry_id, entry in entries:
        if entry["model"] != CHANGING:
            continue
        match entry["action"]:
            case "live":
                live = entry["version"]
            case "canary":
                canary = entry["version"]
            case "canary_ended" | "canary_taken_back":
                canary = ""
            case _:
                continue
        found.append(Served(int(entry_id.split("-")[0]), live, canary))
    return found


def served_at(result: dict[str, Any], changes: list[Served]) -> list[Served]:
    """What was served when the job of a result was claimed: more than one entry if it changed in that millisecond."""
    claimed_ms = round(datetime.fromisoformat(result["started_at"]).timestamp() * 1000)
    before = [served for served in changes if served.at_ms < claimed_ms]
    at_once = [served for served in changes if served.at_ms == claimed_ms]
    return [*before[-1:], *at_once]


def was_served(result: dict[str, Any], changes: list[Served]) -> bool:
    """Whether the version of a result was live or the canary when its job was claimed."""
    return result["model"]["version"] in {
        version for served in served_at(result, changes) for version in (served.live, served.canary) if version
    }
