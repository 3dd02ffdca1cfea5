"""A client of the gateway's HTTP API. Requests for a viewer carry the viewer's API key."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from dashboard.data.source import GATEWAY, SourceState, describe

_TIMEOUT = httpx.Timeout(30.0, connect=2.0)
_HEALTH_S = 2.0
#: Error code if there is no usable response. The gateway returns the same code while Redis is down.
UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway returns: an object such as a job, or an error code and its text."""

    values: Mapping[str, Any] | None = None
    code: str = ""
    problem: str = ""


class GatewayClient:
    """A client of one gateway. Thread-safe."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport, trust_env=False)

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
        if response.is_success:
            return Answer(found)
        return Answer(code=str(found.get("code", "")), problem=str(found.get("detail") or found.get("title") or ""))


def _credential(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
