"""A client of the gateway's HTTP API. Requests for a viewer carry the viewer's API key."""

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
    """A job as the gateway returns it, or an error code and its text."""

    job: Mapping[str, Any] | None = None
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

    def _request(self, method: str, path: str, headers: Mapping[str, str], data: bytes | None = None) -> Answer:
        try:
            response = self._client.request(method, path, content=data, headers=dict(headers))
            found = response.json()
        except (httpx.HTTPError, ValueError) as error:
            return Answer(code=UNAVAILABLE, problem=describe(GATEWAY, error))
        if response.is_success:
            return Answer(job=found)
        return Answer(code=str(found.get("code", "")), problem=str(found.get("detail") or found.get("title") or ""))


def _credential(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
