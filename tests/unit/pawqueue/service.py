"""Runs the real gateway in this process with a real Redis and a simulated worker, and simulates network failures."""

import io
import tarfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis

from contract.job import JobError, JobResult, ModelRef, Prediction, Timings
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat
from contract.settings import load_settings
from gateway.app import create_app
from gateway.services import build_services
from pawqueue import Pawqueue
from pawqueue.client.connection import Connection
from tests.support.images import draw
from tests.support.ledger import claim_jobs

URL = "http://gateway.localhost"
_TTL_S = 600
_HEARTBEAT = Heartbeat("w", "h", "cats-dogs", "1.0", ["cat", "dog"], "fake", "float32", 0, "", 0, 0)


def predicted(label: str = "cat", confidence: float = 0.75) -> JobResult:
    """The result of a job with a prediction."""
    other = {"cat": "dog", "dog": "cat"}[label]
    return JobResult(
        prediction=Prediction(label, confidence, {label: confidence, other: 1 - confidence}),
        model=ModelRef("cats-dogs", "1.0"),
        batch_size=4,
        timings=Timings(1, 2, 3, 4),
    )


def failed(code: str = "undecodable_image") -> JobResult:
    """The result of a job with an error."""
    return JobResult(error=JobError(code, "The image is broken."))


@dataclass(frozen=True)
class Request:
    """A request that reached the gateway."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Service:
    """The gateway's application and a simulated worker.

    The worker finishes each job with the result that `results` has for its file name, by default with the label `cat`.
    It does not finish jobs whose file name is in `held`.
    """

    def __init__(self, redis_url: str, images: Path, **settings: str) -> None:
        chosen = {"redis_url": redis_url, "image_store_url": str(images), "upload_max_bytes": "100000", **settings}
        loaded = load_settings({f"PAWQUEUE_{name.upper()}": value for name, value in chosen.items()})
        services = build_services(loaded)
        self._app, self.images = create_app(services), services.images
        self._redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self.ledger = Ledger(self._redis)
        self.reset()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="simulated worker")
        self._thread.start()

    def close(self) -> None:
        """Stop the worker."""
        self._closing.set()
        self._thread.join()
        self._redis.close()

    def reset(self) -> None:
        """Undo what a test has configured, and start the worker."""
        self.results: dict[str, JobResult] = {}
        self.held: set[str] = set()
        #: Called with the name of each file before its job is finished.
        self.on_job: Callable[[str], object] = lambda _name: None
        self.requests: list[Request] = []
        self.start_worker()

    def start_worker(self) -> None:
        """Send a heartbeat."""
        self.ledger.beat(_HEARTBEAT, _TTL_S * 1000)

    def stop_worker(self) -> None:
        """Remove the heartbeat; jobs are still finished unless they are held."""
        self.ledger.retire("w")

    def delete_records(self) -> None:
        """Delete every record, as if it had expired."""
        self._redis.flushall()
        self.start_worker()

    def delete_job(self, submission_id: str, name: str) -> None:
        """Finish a job of a submission, then delete its record."""
        ids = self.ledger.submission_job_ids(submission_id, 0, 1000)
        (job_id,) = [job.id for job in self.ledger.get(ids) if job and job.file == name]
        self._finish([job_id])
        self._redis.delete(keys.job(job_id))

    def transport(self) -> httpx.WSGITransport:
        """A transport to the gateway without a network."""
        return httpx.WSGITransport(app=self.wsgi)

    def connection(self) -> Connection:
        return Connection(URL, transport=self.transport())

    def client(self, **options: Any) -> Pawqueue:
        return Pawqueue(URL, transport=options.pop("transport", None) or self.transport(), **options)

    def wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The gateway's application; records the request."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        headers = {name[5:].replace("_", "-").lower(): environ[name] for name in environ if name.startswith("HTTP_")}
        self.requests.append(Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], headers, body))
        result: Iterable[bytes] = self._app(environ | {"wsgi.input": io.BytesIO(body)}, start_response)
        return result

    def sent(self) -> list[tuple[str, bytes]]:
        """`custom_id` and content of every image that was sent as part of a submission, including resent ones."""
        images = []
        for request in list(self.requests):
            if request.method == "POST" and request.path.endswith("/jobs"):
                with tarfile.open(fileobj=io.BytesIO(request.body)) as archive:
                    images += [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
        return images

    def sent_names(self) -> list[str]:
        return sorted(name for name, _ in self.sent())

    def uploads(self) -> int:
        """The number of requests that sent images of a submission."""
        return sum(request.method == "POST" and request.path.endswith("/jobs") for request in self.requests)

    def _work(self) -> None:
        while not self._closing.wait(0.01):
            waiting = [
                job_id
                for queue in self.ledger.queue_names()
                for job_id in self._redis.zrange(keys.queued(queue), 0, -1)
            ]
            # Read once, because a test may replace the set while this loop runs.
            held = self.held
            ready = [job for job in self.ledger.get(waiting) if job and job.file not in held]
            for job in ready:
                self.on_job(job.file)
            self._finish([job.id for job in ready])

    def _finish(self, job_ids: list[str]) -> None:
        if job_ids:
            claims = [claim for claim in claim_jobs(self.ledger, job_ids, 60_000, _TTL_S) if claim]
            self.ledger.begin(claims)
            self.ledger.commit([(claim, self.results.get(claim.job.file, predicted())) for claim in claims], _TTL_S)


class Network(httpx.BaseTransport):
    """A network in front of the gateway that can fail.

    `before` is called before the request reaches the gateway, `after` when the gateway has processed it. Both may raise
    an exception or return a response instead.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport,
        before: Callable[[httpx.Request], httpx.Response | None] = lambda _request: None,
        after: Callable[[httpx.Request], httpx.Response | None] = lambda _request: None,
    ) -> None:
        self._inner = inner
        self.before, self.after = before, after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if response := self.before(request):
            return response
        response = self._inner.handle_request(request)
        return self.after(request) or response


class Script(httpx.BaseTransport):
    """A server that returns or raises its steps in order, and then repeats the last one."""

    def __init__(self, *steps: httpx.Response | Exception) -> None:
        self._steps = list(steps)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)


def problem(status: int, code: str, detail: str = "Do something else.", **headers: str) -> httpx.Response:
    """A response with problem details."""
    body = {"type": f"urn:pawqueue:error:{code}", "title": code, "status": status, "detail": detail, "code": code}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers={**given, "content-type": "application/problem+json"})


def write_images(folder: Path, *names: str) -> Path:
    """Write small images, each in a different color, and return the folder."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw((8, 8), (number % 256, number // 256, 90)))
    return folder
