#!/usr/bin/env python3
"""Requests a real prediction from a deployed gateway, with `/predict` and with `/v1`; exits with 1 on any failure.

Standard library only, for any machine with Python 3.8 or newer:

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
_FINAL = ("succeeded", "failed", "canceled", "expired")


class SmokeError(Exception):
    """A check failed."""


class Answer(NamedTuple):
    """Status and parsed body of a response."""

    status: int
    body: Any


class Gateway:
    """Sends requests to one URL, with one deadline for all."""

    def __init__(self, url: str, api_key: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._ends_s = time.monotonic() + timeout_s

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """The response, whatever its status; raises SmokeError if there is none."""
        request = urllib.request.Request(  # noqa: S310 - the caller's URL
            self.url + path, body, {**self._headers, **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=max(1.0, self.left_s())) as answer:  # noqa: S310
                return Answer(answer.status, _parsed(answer.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _parsed(error.read()))
        except (OSError, ValueError) as error:
            raise SmokeError(f"{self.url}{path} does not answer ({error})") from error

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self._ends_s - time.monotonic()


def check_status(gateway: Gateway) -> str:
    """Wait until the gateway accepts jobs and has a worker."""

    def status() -> str:
        ready = gateway.ask("GET", "/readyz")
        if ready.status != 200:
            raise SmokeError(f"/readyz returned {ready.status}: {ready.body}")
        answer = gateway.ask("GET", "/v1/status")
        if answer.status in (401, 403):
            return "accepts jobs; the status needs another API key"
        if answer.status != 200 or not answer.body["ready"] or not answer.body["workers"]:
            raise SmokeError(f"/v1/status returned {answer.status}: {answer.body}")
        return f"accepts jobs, {len(answer.body['workers'])} worker(s)"

    return _retried(gateway, status)


def check_health(gateway: Gateway) -> str:
    """The old pipeline's health endpoint reports a model."""

    def health() -> str:
        answer = gateway.ask("GET", "/health")
        if answer.status != 200 or not answer.body["model_loaded"]:
            raise SmokeError(f"/health returned {answer.status}: {answer.body}")
        return f"version {answer.body.get('version')}, a model is loaded"

    return _retried(gateway, health)


def check_predict(gateway: Gateway) -> str:
    """The old pipeline's prediction endpoint."""
    head = 'Content-Disposition: form-data; name="file"; filename="smoke.png"\r\nContent-Type: image/png'
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (_BOUNDARY.encode(), head.encode(), image(), _BOUNDARY.encode())
    answer = gateway.ask("POST", "/predict", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})
    if answer.status != 200:
        raise SmokeError(f"/predict returned {answer.status}: {answer.body}")
    shares = {name: value for name, value in answer.body.items() if name.endswith("_probability")}
    _check_shares(shares, answer.body["confidence"])
    return f"{answer.body['class']} with confidence {answer.body['confidence']:.3f}"


def check_jobs(gateway: Gateway) -> str:
    """An image becomes a job, and the job succeeds."""
    headers = {"Content-Type": "application/octet-stream", "Prefer": "wait=10"}
    answer = gateway.ask("POST", "/v1/jobs?file=smoke.png", image(), headers)
    while answer.status in (200, 202) and answer.body["status"] not in _FINAL:
        if gateway.left_s() < _POLL_S:
            raise SmokeError(f"job {answer.body['id']} is still {answer.body['status']}")
        time.sleep(_POLL_S)
        answer = gateway.ask("GET", f"/v1/jobs/{answer.body['id']}", headers={"Prefer": "wait=10"})
    if answer.status not in (200, 202) or answer.body["status"] != "succeeded":
        raise SmokeError(f"/v1/jobs returned {answer.status}: {answer.body}")
    prediction = answer.body["prediction"]
    _check_shares(prediction["probabilities"], prediction["confidence"])
    return f"{prediction['label']} with confidence {prediction['confidence']:.3f}, job {answer.body['id']}"


def check_rejection(gateway: Gateway) -> str:
    """A text file is rejected."""
    answer = gateway.ask("POST", "/v1/jobs", b"no image", {"Content-Type": "application/octet-stream"})
    if answer.status != 415:
        raise SmokeError(f"/v1/jobs returned {answer.status} for a text file: {answer.body}")
    return f"{answer.status} {answer.body.get('code')}"


def image(side: int = 64) -> bytes:
    """A PNG with coloured stripes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(v for x in range(side) for v in (4 * x % 256, 2 * y, 128)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _retried(gateway: Gateway, check: Callable[[], str]) -> str:
    """The result of a check, repeated until it passes or the deadline is near."""
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


def main(words: list[str] | None = None) -> int:
    """Run the checks; returns 0 if all pass."""
    parser = argparse.ArgumentParser(description="Request a real prediction from a deployed gateway.")
    parser.add_argument("--url", required=True, help="URL of the gateway, such as http://127.0.0.1:8000")
    parser.add_argument("--api", choices=("both", "predict", "v1"), default="both", help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for all checks (default: %(default)s)")
    options = parser.parse_args(words)
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
