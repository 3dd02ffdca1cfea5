"""The gateway's HTTP API, used with the API key of the viewer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from dashboard.data.source import SourceState, describe

_TIMEOUT = httpx.Timeout(30.0, connect=2.0)
_HEALTH_S = 2.0
#: Stands for every failure to get a response; the API uses the same code.
UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """A job as the gateway returns it, or the code and text of its error."""

    job: Mapping[str, Any] | None = None
    code: str = ""
    problem: str = ""


class GatewayClient:
    """A client of one gateway; safe to share between threads."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport, trust_env=False)

    def check(self, before: SourceState, now_s: float) -> SourceState:
        """Whether the gateway responds."""
        try:
            self._client.get("/healthz", timeout=_HEALTH_S).raise_for_status()
        except httpx.HTTPError as error:
            return before.failed(now_s, describe(before.name, error))
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
            return Answer(code=UNAVAILABLE, problem=describe("the gateway", error))
        if response.is_success:
            return Answer(job=found)
        return Answer(code=str(found.get("code", "")), problem=str(found.get("detail") or found.get("title") or ""))


def _credential(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
