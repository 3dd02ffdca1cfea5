#!/usr/bin/env python3
"""Requests a real prediction from a deployed gateway, through `/predict` and `/v1`; exits with 1 on any failure.

It needs only Python 3.8 or newer:

    python deploy/smoke_test.py --url http://127.0.0.1:8000
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from typing import Any, Callable, NamedTuple  # noqa: UP035 - this file also runs on 3.8

_BOUNDARY = "pawqueue-smoke-test"
_POLL_S = 0.5
_FINISHED = ("succeeded", "failed", "canceled", "expired")


class SmokeError(Exception):
    """A check failed."""


class Response(NamedTuple):
    """The status and parsed body of a response."""

    status: int
    body: Any


class Gateway:
    """Sends requests to a gateway; one deadline applies to all of them."""

    def __init__(self, url: str, api_key: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._deadline_s = time.monotonic() + timeout_s

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        """Send a request; returns the response with any status, and raises SmokeError if there is none."""
        request = urllib.request.Request(  # noqa: S310 - the caller's URL
            self.url + path, body, {**self._headers, **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=max(1.0, self.left_s())) as response:  # noqa: S310
                return Response(response.status, _parsed(response.read()))
        except urllib.error.HTTPError as error:
            return Response(error.code, _parsed(error.read()))
        except (OSError, ValueError) as error:
            raise SmokeError(f"{self.url}{path} does not respond ({error})") from error

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self._deadline_s - time.monotonic()


def check_status(gateway: Gateway) -> str:
    """The gateway accepts jobs and a worker is running."""

    def status() -> str:
        ready = gateway.send("GET", "/readyz")
        if ready.status != 200:
            raise SmokeError(f"/readyz returned {ready.status}: {ready.body}")
        response = gateway.send("GET", "/v1/status")
        if response.status in (401, 403, 404):  # 404: gateway 0.1; `check_health` checks its worker
            return "accepts jobs; the status cannot be read"
        if response.status != 200 or not response.body["ready"] or not response.body["workers"]:
            raise SmokeError(f"/v1/status returned {response.status}: {response.body}")
        return f"accepts jobs, {len(response.body['workers'])} worker(s)"

    return _retried(gateway, status)


def check_health(gateway: Gateway) -> str:
    """The old pipeline's health endpoint reports a model."""

    def health() -> str:
        response = gateway.send("GET", "/health")
        if response.status != 200 or not response.body.get("model_loaded"):
            raise SmokeError(f"/health returned {response.status}: {response.body}")
        return f"version {response.body.get('version')}, a model is loaded"

    return _retried(gateway, health)


def check_predict(gateway: Gateway) -> str:
    """The old pipeline's prediction endpoint returns a prediction."""
    header = 'Content-Disposition: form-data; name="file"; filename="smoke.png"\r\nContent-Type: image/png'
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (_BOUNDARY.encode(), header.encode(), image(), _BOUNDARY.encode())
    response = gateway.send("POST", "/predict", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})
    if response.status != 200:
        raise SmokeError(f"/predict returned {response.status}: {response.body}")
    shares = {name: value for name, value in response.body.items() if name.endswith("_probability")}
    _check_shares(shares, response.body["confidence"])
    return f"{response.body['class']} with confidence {response.body['confidence']:.3f}"


def check_jobs(gateway: Gateway) -> str:
    """An image is accepted as a job, and the job succeeds."""
    headers = {"Content-Type": "application/octet-stream", "Prefer": "wait=10"}
    response = gateway.send("POST", "/v1/jobs?file=smoke.png", image(), headers)
    while response.status in (200, 202) and response.body["status"] not in _FINISHED:
        if gateway.left_s() < _POLL_S:
            raise SmokeError(f"job {response.body['id']} is still {response.body['status']}")
        time.sleep(_POLL_S)
        response = gateway.send("GET", f"/v1/jobs/{response.body['id']}", headers={"Prefer": "wait=10"})
    if response.status not in (200, 202) or response.body["status"] != "succeeded":
        raise SmokeError(f"/v1/jobs returned {response.status}: {response.body}")
    prediction = response.body["prediction"]
    _check_shares(prediction["probabilities"], prediction["confidence"])
    return f"{prediction['label']} with confidence {prediction['confidence']:.3f}, job {response.body['id']}"


def check_rejection(gateway: Gateway) -> str:
    """A text file is rejected."""
    response = gateway.send("POST", "/v1/jobs", b"not an image", {"Content-Type": "application/octet-stream"})
    if response.status != 415:
        raise SmokeError(f"/v1/jobs returned {response.status} for a text file: {response.body}")
    return f"{response.status} {response.body.get('code')}"


def image(side: int = 64) -> bytes:
    """A PNG with a color gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(v for x in range(side) for v in (4 * x % 256, 2 * y, 128)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _retried(gateway: Gateway, check: Callable[[], str]) -> str:
    """Repeat a check until it passes or the deadline is near; returns its result."""
    while True:
        try:
            return check()
        except SmokeError:
            if gateway.left_s() < _POLL_S:
                raise
        time.sleep(_POLL_S)


def _check_shares(shares: dict[str, float], confidence: float) -> None:
    if not shares or abs(sum(shares.values()) - 1) > 0.01 or abs(max(shares.values()) - confidence) > 0.01:
        raise SmokeError(f"invalid probabilities: {shares}, confidence {confidence}")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")[:200]


_CHECKS: list[tuple[str, str, Callable[[Gateway], str]]] = [
    ("/v1/status", "v1", check_status),
    ("/health", "predict", check_health),
    ("/predict", "predict", check_predict),
    ("/v1/jobs", "v1", check_jobs),
    ("rejection", "v1", check_rejection),
]


def main(argv: list[str] | None = None) -> int:
    """Run the checks; returns 0 if all pass."""
    parser = argparse.ArgumentParser(description="Request a real prediction from a deployed gateway.")
    parser.add_argument("--url", required=True, help="URL of the gateway, such as http://127.0.0.1:8000")
    parser.add_argument("--api", choices=("both", "predict", "v1"), default="both", help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for all checks (default: %(default)s)")
    options = parser.parse_args(argv)
    gateway = Gateway(options.url, os.environ.get("PAWQUEUE_API_KEY", ""), options.timeout)
    for name, api, check in _CHECKS:
        if options.api not in ("both", api):
            continue
        try:
            print(f"ok    {name}: {check(gateway)}")
        except (SmokeError, AttributeError, KeyError, TypeError) as error:
            print(f"FAIL  {name}: {error if isinstance(error, SmokeError) else f'an unexpected response ({error!r})'}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
