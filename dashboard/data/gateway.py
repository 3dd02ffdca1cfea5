"""A client of the gateway's HTTP API. Requests for a viewer carry the viewer's API key."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote

import httpx

from dashboard.data.source import GATEWAY, SourceState, describe

_TIMEOUT = httpx.Timeout(30.0, connect=2.0)
_HEALTH_S = 2.0
#: The gateway sends a comment every 15 s into a stream of events.
_EVENTS_TIMEOUT = httpx.Timeout(30.0, connect=2.0)
#: Interval at which a stream without events is checked: its reader may have left, or the dashboard stops.
_CHECK_S = 5.0
#: Each job that is followed has a connection of its own.
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=20)
#: Error code if there is no usable response. The gateway returns the same code while Redis is down.
UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway returns: an object such as a job, or an error code and its text."""

    values: Mapping[str, Any] | None = None
    code: str = ""
    problem: str = ""


#: A job id and a state of the job, or None when its stream has ended; without an id, the reader ends.
_Found = tuple[str, Answer | None]


class GatewayClient:
    """A client of one gateway. Thread-safe."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=url, timeout=_TIMEOUT, transport=transport, trust_env=False, limits=_LIMITS
        )
        self._streams: set[SimpleQueue[_Found]] = set()

    def check(self, before: SourceState, now_s: float) -> SourceState:
        """Request `/healthz`; returns the new state of the gateway."""
        try:
            self._client.get("/healthz", timeout=_HEALTH_S).raise_for_status()
        except httpx.HTTPError as error:
            return before.failed(now_s, describe(before, error))
        return before.succeeded(now_s)

    def submit(self, data: bytes, name: str, api_key: str) -> Answer:
        """Upload an image."""
        headers = {"Content-Type": "application/octet-stream", **_credential(api_key)}
        return self._request("POST", f"/v1/jobs?file={quote(name)}", headers, data)

    def job(self, job_id: str, api_key: str) -> Answer:
        """Read a job."""
        return self._request("GET", f"/v1/jobs/{quote(job_id, safe='')}", _credential(api_key))

    def follow(self, job_ids: Sequence[str], api_key: str) -> Iterator[tuple[str, Answer] | None]:
        """Yield jobs in their current state and after each change, as (id, answer), until all streams have ended.

        Yields None every few seconds without a change.
        """
        found: SimpleQueue[_Found] = SimpleQueue()
        has_left = threading.Event()
        for job_id in job_ids:
            arguments = (job_id, api_key, found.put, has_left)
            threading.Thread(target=self._read_events, args=arguments, daemon=True).start()
        self._streams.add(found)
        left = set(job_ids)
        try:
            while left:
                try:
                    job_id, answer = found.get(timeout=_CHECK_S)
                except Empty:
                    yield None
                    continue
                if answer is not None:
                    yield job_id, answer
                elif job_id:
                    left.discard(job_id)
                else:
                    return
        finally:
            self._streams.discard(found)
            has_left.set()

    def end_streams(self) -> None:
        """End all iterators of `follow`, because the dashboard stops."""
        for found in list(self._streams):
            found.put(("", None))

    def _read_events(self, job_id: str, api_key: str, put: Callable[[_Found], None], has_left: threading.Event) -> None:
        """Put each state of a job into a queue, and None at the end. Notices that the reader left at the next line."""
        path = f"/v1/jobs/{quote(job_id, safe='')}/events"
        try:
            with self._client.stream("GET", path, headers=_credential(api_key), timeout=_EVENTS_TIMEOUT) as response:
                if not response.is_success:
                    response.read()
                    put((job_id, _answer(response, response.json())))
                    return
                for line in response.iter_lines():
                    if has_left.is_set():
                        return
                    if line.startswith("data: "):
                        put((job_id, Answer(json.loads(line.removeprefix("data: ")))))
        except (httpx.HTTPError, ValueError) as error:
            put((job_id, Answer(code=UNAVAILABLE, problem=describe(GATEWAY, error))))
        finally:
            put((job_id, None))

    def change_model(self, name: str, body: Mapping[str, Any], api_key: str) -> Answer:
        """Begin to change a model, without waiting for workers."""
        return self._send("PATCH", f"/v1/models/{quote(name, safe='')}", body, api_key)

    def feedback(self, job_id: str, label: str, api_key: str) -> Answer:
        """Report the right label of a job."""
        return self._send("POST", f"/v1/jobs/{quote(job_id, safe='')}/feedback", {"label": label}, api_key)

    def claim_review(self, reviewer: str, api_key: str, job_id: str = "") -> Answer:
        """Get an image to review: the one with this id, or the next one."""
        body = {"reviewer": reviewer} | ({"job_id": job_id} if job_id else {})
        return self._send("POST", "/v1/review/claims", body, api_key)

    def label_review(self, job_id: str, reviewer: str, label: str | None, api_key: str) -> Answer:
        """Record what an image shows; None to skip it."""
        body = {"reviewer": reviewer, "label": label}
        return self._send("POST", f"/v1/review/{quote(job_id, safe='')}/label", body, api_key)

    def review_image(self, job_id: str, api_key: str) -> bytes | None:
        """Read an image that is kept for review; None if it cannot be read."""
        path = f"/v1/review/{quote(job_id, safe='')}/image"
        try:
            response = self._client.get(path, headers=_credential(api_key))
        except httpx.HTTPError:
            return None
        return response.content if response.is_success else None

    def _send(self, method: str, path: str, body: Mapping[str, Any], api_key: str, **headers: str) -> Answer:
        """Send a JSON object."""
        sent = {"Content-Type": "application/json", **headers, **_credential(api_key)}
        return self._request(method, path, sent, json.dumps(body).encode())

    def _request(self, method: str, path: str, headers: Mapping[str, str], data: bytes | None = None) -> Answer:
        try:
            response = self._client.request(method, path, content=data, headers=dict(headers))
            found = response.json()
        except (httpx.HTTPError, ValueError) as error:
            return Answer(code=UNAVAILABLE, problem=describe(GATEWAY, error))
        return _answer(response, found)


def _answer(response: httpx.Response, found: Any) -> Answer:
    if response.is_success:
        return Answer(found)
    return Answer(code=str(found.get("code", "")), problem=str(found.get("detail") or found.get("title") or ""))


def _credential(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
