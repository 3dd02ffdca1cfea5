"""A gateway made of a function, and job objects as a gateway answers them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from pawqueue.deadline import Deadline
from pawqueue.jobs import Jobs
from pawqueue.wire import Wire

JOB_ID = "019abc12-3456-7890-abcd-ef0123456789"
URL = "http://gateway.test"


def job(status: str = "queued", **values: Any) -> dict[str, Any]:
    """A job object; `label` gives it a prediction, `code` an error."""
    label, code = values.pop("label", None), values.pop("code", None)
    ended = "2026-01-01T00:00:01.250Z" if label or code else None
    prediction = {"label": label, "confidence": 0.75, "probabilities": {label: 0.75, "other": 0.25}} if label else None
    return {
        "id": JOB_ID,
        "status": status,
        "queue": "bulk",
        "file": "a.jpg",
        "size_bytes": 3,
        "created_at": "2026-01-01T00:00:01.000Z",
        "started_at": ended,
        "finished_at": ended,
        "attempts": 1,
        "prediction": prediction,
        "error": {"code": code, "detail": f"It is {code}."} if code else None,
        "model": {"name": "cats-dogs", "version": "1.0"} if label else None,
        "batch_size": 4 if label else None,
        "timings": {"queue_ms": 1.0, "batch_wait_ms": 2.0, "decode_ms": 3.0, "predict_ms": 4.0} if label else None,
        "urls": {"self": f"/v1/jobs/{JOB_ID}"},
        **values,
    }


def answer(status: int = 200, body: Any = None, **headers: str) -> httpx.Response:
    """A JSON answer."""
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def problem(status: int, code: str, detail: str = "Do something else.", **headers: str) -> httpx.Response:
    """A refusal."""
    body = {"type": f"urn:pawqueue:error:{code}", "title": code, "status": status, "detail": detail, "code": code}
    headers["content_type"] = "application/problem+json"
    return answer(status, body, **headers)


class FakeGateway(httpx.BaseTransport):
    """Answers with what `script` gives: one answer after another (the last for ever), or one for each request."""

    def __init__(self, *script: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self._script = list(script)
        self._lock = threading.Lock()
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        with self._lock:
            self.requests.append(request)
            step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, Exception):
            raise step
        return (
            httpx.Response(step.status_code, headers=step.headers, content=step.content)
            if isinstance(step, httpx.Response)
            else step(request)
        )

    def jobs(self) -> Jobs:
        return Jobs(Wire(URL, transport=self))


def by_name(results: dict[str, dict[str, Any]]) -> Callable[[httpx.Request], httpx.Response]:
    """Answer each upload with the job object of its file name."""

    def respond(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return answer(200, {"status": "alive", "model_loaded": True})
        name = request.url.params["file"]
        return answer(200, results.get(name, job("succeeded", label="cat")) | {"file": name})

    return respond


def write_images(folder: Path, *names: str) -> Path:
    """Files of three bytes, enough where no server looks at them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"jpg")
    return folder


def deadline(seconds: float = 5.0) -> Deadline:
    """Plenty of time, unless said otherwise."""
    return Deadline(seconds)
