#!/usr/bin/env python3
"""Asks a deployed gateway for a real prediction, by `/predict` and by `/v1`; ends with 1 when anything is wrong.

Standard library only, so that it runs on any machine with Python 3.8 or newer:

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
    """Something is not as it should be; the text says what."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any


class Gateway:
    """Sends requests to one address until a common deadline."""

    def __init__(self, url: str, api_key: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._ends_s = time.monotonic() + timeout_s

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Return the answer, whatever its status; SmokeError when there is none."""
        request = urllib.request.Request(  # noqa: S310 - the address is the caller's
            self.url + path, body, {**self._headers, **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=max(1.0, self.left_s())) as answer:  # noqa: S310
                return Answer(answer.status, _parsed(answer.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _parsed(error.read()))
        except (OSError, ValueError) as error:
            raise SmokeError(f"{self.url}{path} gives no answer ({error})") from error

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self._ends_s - time.monotonic()


def check_health(gateway: Gateway) -> str:
    """Wait until a model is served."""
    while True:
        try:
            answer = gateway.ask("GET", "/health")
            if answer.status == 200 and answer.body.get("model_loaded"):
                return f"version {answer.body.get('version')}, a model is served"
            why = f"/health answers {answer.status} {answer.body}: no model is served"
        except SmokeError as error:
            why = str(error)
        if gateway.left_s() < _POLL_S:
            raise SmokeError(why)
        time.sleep(_POLL_S)


def check_predict(gateway: Gateway) -> str:
    """The endpoint of the replaced system: image in, class out."""
    head = 'Content-Disposition: form-data; name="file"; filename="smoke.png"\r\nContent-Type: image/png'
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (_BOUNDARY.encode(), head.encode(), image(), _BOUNDARY.encode())
    answer = gateway.ask("POST", "/predict", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})
    if answer.status != 200:
        raise SmokeError(f"/predict answers {answer.status}: {answer.body}")
    shares = {name: value for name, value in answer.body.items() if name.endswith("_probability")}
    _check_shares(shares, answer.body["confidence"])
    return f"{answer.body['class']} with confidence {answer.body['confidence']:.3f}"


def check_jobs(gateway: Gateway) -> str:
    """The queue: an image becomes a job, and the job ends with a prediction."""
    headers = {"Content-Type": "application/octet-stream", "Prefer": "wait=10"}
    answer = gateway.ask("POST", "/v1/jobs?file=smoke.png", image(), headers)
    while answer.status in (200, 202) and answer.body["status"] not in _FINAL:
        if gateway.left_s() < _POLL_S:
            raise SmokeError(f"job {answer.body['id']} is still {answer.body['status']}")
        time.sleep(_POLL_S)
        answer = gateway.ask("GET", f"/v1/jobs/{answer.body['id']}", headers={"Prefer": "wait=10"})
    if answer.status not in (200, 202) or answer.body["status"] != "succeeded":
        raise SmokeError(f"/v1/jobs answers {answer.status}: {answer.body}")
    prediction = answer.body["prediction"]
    _check_shares(prediction["probabilities"], prediction["confidence"])
    return f"{prediction['label']} with confidence {prediction['confidence']:.3f}, job {answer.body['id']}"


def check_refusal(gateway: Gateway) -> str:
    """What is no image is refused with a reason, and stored nowhere."""
    answer = gateway.ask("POST", "/v1/jobs", b"no image", {"Content-Type": "application/octet-stream"})
    if answer.status != 415:
        raise SmokeError(f"/v1/jobs takes a text for an image: {answer.status} {answer.body}")
    return f"{answer.status} {answer.body.get('code')}"


def image(side: int = 64) -> bytes:
    """A PNG of coloured stripes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(v for x in range(side) for v in (4 * x % 256, 2 * y, 128)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _check_shares(shares: dict[str, float], confidence: float) -> None:
    if not shares or abs(sum(shares.values()) - 1) > 0.01 or abs(max(shares.values()) - confidence) > 0.01:
        raise SmokeError(f"the probabilities make no sense: {shares}, confidence {confidence}")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")[:200]


_CHECKS: list[tuple[str, str, Callable[[Gateway], str]]] = [
    ("health", "", check_health),
    ("/predict", "predict", check_predict),
    ("/v1/jobs", "v1", check_jobs),
    ("refusal", "v1", check_refusal),
]


def main(words: list[str] | None = None) -> int:
    """Run the checks; 0 when all is well."""
    parser = argparse.ArgumentParser(description="Ask a deployed gateway for a real prediction.")
    parser.add_argument("--url", required=True, help="the gateway, such as http://127.0.0.1:8000")
    parser.add_argument("--api", choices=("both", "predict", "v1"), default="both", help="which interface to try")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for everything (default: %(default)s)")
    options = parser.parse_args(words)
    gateway = Gateway(options.url, os.environ.get("PAWQUEUE_API_KEY", ""), options.timeout)
    for name, api, check in _CHECKS:
        if api and options.api not in ("both", api):
            continue
        try:
            print(f"ok    {name}: {check(gateway)}")
        except (SmokeError, AttributeError, KeyError, TypeError) as error:
            print(f"FAIL  {name}: {error if isinstance(error, SmokeError) else f'an unknown answer ({error!r})'}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
