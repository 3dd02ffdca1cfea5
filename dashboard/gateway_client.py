"""The dashboard's way to the gateway: HTTP, with the API key of whoever looks at the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from contract.errors import UnavailableError

_TIMEOUT = httpx.Timeout(30.0, connect=2.0)
_HEALTH_S = 2.0
_GONE = "It does not answer; see that it runs and that its address is right."


@dataclass(frozen=True, slots=True)
class Answer:
    """A job as the gateway tells it, or why there is none, in its own words."""

    job: Mapping[str, Any] | None = None
    code: str = ""
    problem: str = ""


class GatewayClient:
    """Asks one gateway; safe to share between threads."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport, trust_env=False)

    def health(self) -> Mapping[str, Any]:
        """What it says of itself.

        Raises:
            UnavailableError: it does not answer.
        """
        try:
            answer = self._client.get("/health", timeout=_HEALTH_S)
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(_GONE) from error
        return found if isinstance(found, dict) else {}

    def submit(self, data: bytes, name: str, api_key: str) -> Answer:
        """Send an image."""
        headers = {"Content-Type": "application/octet-stream", **_credential(api_key)}
        return self._ask("POST", f"/v1/jobs?file={quote(name)}", headers, data)

    def job(self, job_id: str, api_key: str) -> Answer:
        """Read a job."""
        return self._ask("GET", f"/v1/jobs/{quote(job_id, safe='')}", _credential(api_key))

    def _ask(self, method: str, path: str, headers: Mapping[str, str], data: bytes | None = None) -> Answer:
        try:
            answer = self._client.request(method, path, content=data, headers=dict(headers))
            found = answer.json()
        except httpx.HTTPError:
            return Answer(code="unavailable", problem=f"The gateway: {_GONE}")
        except ValueError:
            return Answer(code="unavailable", problem=f"Something else than the gateway answers at {self.url}.")
        if answer.is_success:
            return Answer(job=found)
        return Answer(code=str(found.get("code", "")), problem=str(found.get("detail") or found.get("title") or ""))


def _credential(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
