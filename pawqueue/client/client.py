"""The `Pawqueue` class: submits images to one gateway and reads their results."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import httpx

from contract.job import Job, JobStatus
from contract.result_row import ResultRow
from pawqueue.bulk.files import FoundFile, count_skipped, find_files, folder_name, skipped_text
from pawqueue.bulk.run import BulkOptions, BulkRun, Result, Skipped
from pawqueue.client.connection import Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.errors import JobFailedError, RefusedError, TimedOutError
from pawqueue.client.events import SILENCE_S
from pawqueue.client.jobs import LONG_POLL_S, Image, JobOptions, Jobs, load_image
from pawqueue.client.models import Models, ServedModel
from pawqueue.client.renamed import accepts_picture
from pawqueue.client.review import ReviewedImage, Reviews
from pawqueue.client.status import ServiceStatus, read_status
from pawqueue.client.submissions import ACCEPTED, FINISHED, ResultLine, Submission, Submissions
from pawqueue.client.webhooks import Delivery, Webhooks, WebhookSecret

DEFAULT_URL = "http://127.0.0.1:8000"
#: The queue for callers that wait, and the queue for large batches.
INTERACTIVE, BULK = "interactive", "bulk"

_log = logging.getLogger("pawqueue")

#: Pause between two reads of a gateway that does not support long polling.
_POLL_S = 0.5

_Found = TypeVar("_Found", Job, Submission)
_OfJob = TypeVar("_OfJob")
_OfSubmission = TypeVar("_OfSubmission")


class Pawqueue:
    """A client of one gateway; thread-safe.

    Every call has a deadline in seconds: its own `timeout_s`, or else that of the client. Until then, the client
    retries after lost connections and temporary failures (429, 502, 503, 504), but never earlier than `Retry-After`
    allows. A retried upload does not create a second job.

    Calls raise `RefusedError`, `UnreachableError` or `TimedOutError`, all subclasses of `ClientError`; an image file
    that cannot be read raises `OSError`. Only `predict` raises `JobFailedError` for a job without a prediction; after
    other calls, check the status of the job or row.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._connection = Connection(url, api_key, transport)
        self._jobs = Jobs(self._connection)
        self._submissions = Submissions(self._connection)
        self._models = Models(self._connection)
        self._reviews = Reviews(self._connection)
        self._webhooks = Webhooks(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    @accepts_picture
    def submit(
        self,
        image: Image,
        *,
        queue: str = INTERACTIVE,
        model: str = "",
        top_k: int | None = None,
        name: str | None = None,
        webhook: str = "",
        timeout_s: float | None = None,
    ) -> Job:
        """Submit an image and return its job without waiting for the result.

        `image` is a path, bytes, or a file opened in binary mode. `name` is stored with the job (default: the file's
        name). `queue` is `interactive` or `bulk`. `model` is `NAME` or `NAME@VERSION` (default: the default model), and
        `top_k` the number of labels whose probabilities are kept. The URL `webhook` receives an event when the job is
        finished (default: the webhook of the API key, if it has one).
        """
        content, file_name = load_image(image)
        options = JobOptions(queue, model, top_k, webhook)
        return self._jobs.submit(content, file_name if name is None else name, options, self._deadline(timeout_s))

    def get(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Return a job; `RefusedError` with code `not_found` if it does not exist."""
        return self._jobs.get(job_id, self._deadline(timeout_s))

    def find(self, any_id: str, *, timeout_s: float | None = None) -> Job | Submission:
        """Return the job or submission with this id; `RefusedError` with code `not_found` if there is neither."""
        deadline = self._deadline(timeout_s)
        return _either(
            any_id, lambda: self._jobs.get(any_id, deadline), lambda: self._submissions.get(any_id, deadline)
        )

    @overload
    def wait(self, what: Job | str, *, timeout_s: float | None = None) -> Job: ...

    @overload
    def wait(self, what: Submission, *, timeout_s: float | None = None) -> Submission: ...

    def wait(self, what: Job | Submission | str, *, timeout_s: float | None = None) -> Job | Submission:
        """Return a job (or the job with this id) or a submission as soon as it has finished, with or without success.

        Raises:
            TimedOutError: it has not finished within `timeout_s` seconds; the error's `job` or `submission` is its
                last known state.
        """
        deadline = self._deadline(timeout_s)
        if isinstance(what, str):
            what = self._jobs.get(what, deadline, LONG_POLL_S)
        return self._wait_for_submission(what, deadline) if isinstance(what, Submission) else self._wait(what, deadline)

    @overload
    def follow(self, what: Job, *, timeout_s: float | None = None) -> Iterator[Job]: ...

    @overload
    def follow(self, what: Submission, *, timeout_s: float | None = None) -> Iterator[Submission]: ...

    @overload
    def follow(self, what: str, *, timeout_s: float | None = None) -> Iterator[Job | Submission]: ...

    def follow(self, what: Job | Submission | str, *, timeout_s: float | None = None) -> Iterator[Job | Submission]:
        """Yield a job or a submission, or the one with this id, in its current state and then after each change.

        Ends when it has finished. A submission is yielded at most twice a second. Lost connections are resumed.
        `timeout_s` is how long the gateway may be silent, at least 20 s: it sends something every 15 s.
        """
        if isinstance(what, str):
            what = self.find(what, timeout_s=timeout_s)
        deadline = self._deadline(max(SILENCE_S, self.timeout_s if timeout_s is None else timeout_s))
        if isinstance(what, Job):
            yield from self._jobs.follow(what.id, deadline)
        else:
            yield from self._submissions.follow(what.id, deadline)

    @accepts_picture
    def predict(
        self,
        image: Image,
        *,
        model: str = "",
        top_k: int | None = None,
        name: str | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Submit an image, wait for its job, and return it with the prediction; the arguments are those of `submit`.

        Raises:
            JobFailedError: the job finished without a prediction.
        """
        deadline = self._deadline(timeout_s)
        content, file_name = load_image(image)
        options = JobOptions(INTERACTIVE, model, top_k)
        job = self._jobs.submit(content, file_name if name is None else name, options, deadline, LONG_POLL_S)
        job = self._wait(job, deadline)
        if job.status is not JobStatus.SUCCEEDED:
            raise JobFailedError(job)
        return job

    def submit_folder(  # noqa: PLR0913 - the options of a run
        self,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        queue: str = BULK,
        model: str = "",
        top_k: int | None = None,
        memory: str | os.PathLike[str] | None = None,
        give_up_after_s: float = 120.0,
        timeout_s: float | None = None,
        skipped: Counter[str] | None = None,
        webhook: str = "",
    ) -> Generator[ResultRow]:
        """Classify the images of a folder and its subfolders as one submission; yield a row as each one finishes.

        Memory use does not depend on the number of images. `memory` names a file that stores the progress: if it
        exists, the run resumes and sends only the missing images. `name` is stored with the submission (default: the
        folder's name); `queue`, `model` and `top_k` are those of `submit`. `webhook` receives one event when all images
        are finished. To stop early, call `close()` on the generator; images that were already sent are still
        classified.

        Files without an image extension are not sent. They are counted in `skipped` by extension, for
        example `{".txt": 2}`; without `skipped`, a warning is logged. Hidden files are not counted.

        Raises:
            ClientError: no progress for `give_up_after_s` seconds, or the gateway denied access.
            TimedOutError: the run took longer than `timeout_s` seconds (default: no limit).
        """
        root = Path(folder)
        return self.submit_files(
            _images_of(root, skipped),
            name=folder_name(root) if name is None else name,
            queue=queue,
            model=model,
            top_k=top_k,
            memory=memory,
            give_up_after_s=give_up_after_s,
            timeout_s=timeout_s,
            webhook=webhook,
        )

    def submit_files(  # noqa: PLR0913 - the options of a run
        self,
        files: Iterable[str | os.PathLike[str] | FoundFile],
        *,
        name: str = "",
        queue: str = BULK,
        model: str = "",
        top_k: int | None = None,
        memory: str | os.PathLike[str] | None = None,
        give_up_after_s: float = 120.0,
        timeout_s: float | None = None,
        webhook: str = "",
    ) -> Generator[ResultRow]:
        """Classify files as one submission, like `submit_folder`; a file that is named twice is sent once."""
        end = Deadline(float("inf") if timeout_s is None else timeout_s)
        options = BulkOptions(name, JobOptions(queue, model, top_k, webhook), give_up_after_s)
        with BulkRun(self._connection, Path(memory) if memory else None, options) as run:
            run.add(file if isinstance(file, FoundFile) else FoundFile.named(Path(file)) for file in files)
            for event in run.events():
                if isinstance(event, Skipped | Result):
                    yield event.row
                if not end.remaining_s():
                    raise TimedOutError(
                        f"Some images have not finished within {end.limit_s:g} s. "
                        f"The service continues with submission {run.submission_id}."
                    )

    def submission(self, submission_id: str, *, timeout_s: float | None = None) -> Submission:
        """Return a submission; `RefusedError` with code `not_found` if it does not exist."""
        return self._submissions.get(submission_id, self._deadline(timeout_s))

    def submissions(self, limit: int = 20, *, timeout_s: float | None = None) -> list[Submission]:
        """Return the caller's latest submissions, newest first."""
        return self._submissions.latest(limit, self._deadline(timeout_s))

    def results(
        self, submission: Submission | str, *, statuses: Iterable[str] = (), timeout_s: float | None = None
    ) -> Iterator[ResultRow]:
        """Yield a row for each finished image of a submission, or for each image whose status is in `statuses`.

        Rows are streamed: in the order of acceptance, or, while the submission is running, in the order in which the
        images finished. `timeout_s` applies to each row.
        """
        submission_id = submission if isinstance(submission, str) else submission.id
        lines = self._result_lines(submission_id, tuple(statuses), self._deadline(timeout_s))
        return (line.row for line in lines)

    def cancel(self, what: Job | Submission | str, *, timeout_s: float | None = None) -> Job | Submission:
        """Cancel a job, or the unfinished jobs of a submission, given as an object or by id; return its new state."""
        any_id = what if isinstance(what, str) else what.id
        deadline = self._deadline(timeout_s)
        return _either(
            any_id, lambda: self._jobs.cancel(any_id, deadline), lambda: self._submissions.cancel(any_id, deadline)
        )

    def purge(self, what: Job | Submission | str, *, timeout_s: float | None = None) -> None:
        """Remove a job or a submission with its images and results, given as an object or by id.

        Unfinished jobs are canceled first. Raises `RefusedError` with code `not_found` if there is neither, which is
        also the answer to a second purge.
        """
        any_id = what if isinstance(what, str) else what.id
        deadline = self._deadline(timeout_s)
        _either(any_id, lambda: self._jobs.purge(any_id, deadline), lambda: self._submissions.purge(any_id, deadline))

    def dead_jobs(self, *, timeout_s: float | None = None) -> list[Job]:
        """Return the dead-letter list, newest first: jobs that failed because they kept crashing their workers."""
        return self._jobs.dead(self._deadline(timeout_s))

    def retry_dead(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Resubmit the image of a dead job and return the new job."""
        return self._jobs.retry_dead(job_id, self._deadline(timeout_s))

    def drop_dead(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Remove a job and its image from the dead-letter list; return the job."""
        return self._jobs.drop_dead(job_id, self._deadline(timeout_s))

    def models(self, *, timeout_s: float | None = None) -> list[ServedModel]:
        """Return the models that the service has, sorted by name."""
        return self._models.list(self._deadline(timeout_s))

    def promote(
        self, name: str, version: str, *, why: str = "", timeout_s: float | None = None, revision: int | None = None
    ) -> ServedModel:
        """Make a version of a model live, once all its workers have loaded it; needs an API key with scope `admin`.

        With `revision`, it does so only if the model still has this revision; otherwise it raises `RefusedError`.

        Raises:
            RefusedError: the model or version does not exist, or another change is in progress.
            ClientError: a worker cannot load the version. Nothing has changed.
            TimedOutError: the workers have not loaded it within `timeout_s` seconds. They go on.
        """
        values = {"live": version, "why": why, "revision": revision}
        return self._models.change(name, values, self._deadline(timeout_s))

    def rollback(self, name: str, *, why: str = "", timeout_s: float | None = None) -> ServedModel:
        """Make the version live that was live before; raises like `promote`."""
        return self._models.change(name, {"rollback": True, "why": why}, self._deadline(timeout_s))

    def set_shadow(
        self, name: str, version: str | None, *, sample: float = 0.2, why: str = "", timeout_s: float | None = None
    ) -> ServedModel:
        """Let a version predict a share of a model's images after the live version has; None removes the shadow.

        Its results are only compared with those of the live version. Needs an API key with scope `admin`.

        Raises:
            RefusedError: the model or version does not exist, or the version is live.
        """
        shadow = None if version is None else {"version": version, "sample": sample}
        return self._models.patch(name, {"shadow": shadow, "why": why}, self._deadline(timeout_s))

    def canary(
        self,
        name: str,
        version: str,
        percent: float,
        *,
        auto_rollback: bool = False,
        why: str = "",
        timeout_s: float | None = None,
    ) -> ServedModel:
        """Let another version of a model process `percent` of the jobs that name no version.

        With `auto_rollback`, the service ends it if it is worse than the live version. Raises like `promote`.
        """
        canary = {"version": version, "percent": percent, "auto_rollback": auto_rollback}
        return self._models.change(name, {"canary": canary, "why": why}, self._deadline(timeout_s))

    def end_canary(self, name: str, *, why: str = "", timeout_s: float | None = None) -> ServedModel:
        """End the canary of a model at once, if it has one."""
        return self._models.change(name, {"canary": None, "why": why}, self._deadline(timeout_s))

    def feedback(self, job: Job | str, label: str, *, timeout_s: float | None = None) -> bool:
        """Report what the image of a job shows; return whether the prediction was right. The last report counts.

        Raises:
            RefusedError: the job has no prediction (code `conflict`), or the model has no such label (`bad_request`).
        """
        return self._jobs.feedback(job if isinstance(job, str) else job.id, label, self._deadline(timeout_s))

    def reviewed(self, *, unlabeled: bool = False, timeout_s: float | None = None) -> Iterator[ReviewedImage]:
        """Yield the images that are kept for review and have a label; with `unlabeled`, also those without one.

        `timeout_s` applies to each page of them.
        """
        return self._reviews.kept(self._deadline(timeout_s), labeled=not unlabeled)

    def review_image(self, job_id: str, *, timeout_s: float | None = None) -> bytes:
        """Return an image that is kept for review, as it was sent; `RefusedError` if it is no longer kept."""
        return self._reviews.image(job_id, self._deadline(timeout_s))

    def model_feedback(self, name: str, *, days: int = 30, timeout_s: float | None = None) -> dict[str, Any]:
        """Return the accuracy of each version of a model by the feedback, as `GET /v1/models/{name}/feedback` does."""
        return self._models.feedback(name, days, self._deadline(timeout_s))

    def model(self, name: str, *, timeout_s: float | None = None) -> ServedModel:
        """Return one model; its `values` are as documented for `GET /v1/models/{name}`."""
        return self._models.get(name, self._deadline(timeout_s))

    def model_report(self, name: str, *, days: int = 30, timeout_s: float | None = None) -> dict[str, Any]:
        """Return what each version of a model did in the last days, as `GET /v1/models/{name}/report` does."""
        return self._models.report(name, days, self._deadline(timeout_s))

    def model_agreement(self, name: str, *, days: int = 30, timeout_s: float | None = None) -> dict[str, Any]:
        """Return how often a model's shadows agreed with its live versions, as `GET /v1/models/{name}/shadow` does."""
        return self._models.agreement(name, days, self._deadline(timeout_s))

    def model_disagreements(
        self, name: str, *, limit: int = 100, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """Return the latest jobs on which a shadow and the live version differ; needs an API key with scope `admin`."""
        found = self._models.disagreements(name, limit, self._deadline(timeout_s))
        return [dict(row) for row in found["disagreements"]]

    def webhook_secret(self, *, timeout_s: float | None = None) -> WebhookSecret:
        """Return the secret that signs the events of this API key; receivers verify events with it."""
        return self._webhooks.secret(self._deadline(timeout_s))

    def rotate_webhook_secret(self, *, keep_s: int = 86_400, timeout_s: float | None = None) -> WebhookSecret:
        """Create a new secret and return it; for `keep_s` seconds, events are signed with the one before it too.

        The request is not safe to retry: if the response is lost, a second secret may be created.
        """
        return self._webhooks.rotate(keep_s, self._deadline(timeout_s))

    def deliveries(
        self, *, only_dead: bool = False, limit: int = 100, timeout_s: float | None = None
    ) -> list[Delivery]:
        """Return the events that wait for their delivery or are dead, newest first."""
        return self._webhooks.deliveries(limit, self._deadline(timeout_s), only_dead=only_dead)

    def delivery(self, delivery_id: str, *, timeout_s: float | None = None) -> Delivery:
        """Return one of them; `RefusedError` with code `not_found` if it was delivered."""
        return self._webhooks.delivery(delivery_id, self._deadline(timeout_s))

    def redeliver(self, delivery_id: str, *, timeout_s: float | None = None) -> Delivery:
        """Deliver an event again that is dead or waits; its endpoint is switched on if it was off."""
        return self._webhooks.redeliver(delivery_id, self._deadline(timeout_s))

    def service_status(self, *, timeout_s: float | None = None) -> ServiceStatus:
        """Return the status of the whole service: queues, workers and totals."""
        return read_status(self._connection, self._deadline(timeout_s))

    def _result_lines(self, submission_id: str, statuses: Sequence[str], deadline: Deadline) -> Iterator[ResultLine]:
        running = self._submissions.get(submission_id, deadline).finished_s is None
        wants_unfinished = any(not JobStatus(status).is_final for status in statuses)
        place = FINISHED if running and not wants_unfinished else ACCEPTED
        yield from self._submissions.all_results(submission_id, deadline, place, statuses)

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self.timeout_s if timeout_s is None else timeout_s)

    def _wait(self, job: Job, deadline: Deadline) -> Job:
        return _wait_until_final(job, lambda: self._jobs.get(job.id, deadline, LONG_POLL_S), deadline)

    def _wait_for_submission(self, submission: Submission, deadline: Deadline) -> Submission:
        def read() -> Submission:
            return self._submissions.get(submission.id, deadline, LONG_POLL_S)

        return _wait_until_final(submission, read, deadline)


def _wait_until_final(found: _Found, read: Callable[[], _Found], deadline: Deadline) -> _Found:
    """Read a job or submission until its status is final; TimedOutError at the deadline."""
    while not found.status.is_final:
        before_s = deadline.remaining_s()
        if not before_s:
            raise _still_unfinished(found, deadline)
        try:
            found = read()
        except TimedOutError as error:
            raise _still_unfinished(found, deadline) from error
        if not found.status.is_final and before_s - deadline.remaining_s() < _POLL_S:
            deadline.pause(min(_POLL_S, deadline.remaining_s() * 0.9))
    return found


def _still_unfinished(found: Job | Submission, deadline: Deadline) -> TimedOutError:
    state = f"is still {found.status} after {deadline.limit_s:g} s"
    advice = "The service will still process it; read it later by its id."
    if isinstance(found, Job):
        return TimedOutError(f"Job {found.id} {state}. {advice}", job=found)
    finished = f"{found.ended:,} of {found.counts.total:,} finished"
    return TimedOutError(f"Submission {found.id} {state} ({finished}). {advice}", submission=found)


def _images_of(folder: Path, skipped: Counter[str] | None) -> Iterator[FoundFile]:
    """Yield the images of a folder; count the files that are skipped in `skipped`, or log a warning about them."""
    counts: Counter[str] = Counter() if skipped is None else skipped
    yield from find_files([folder], on_skip=partial(count_skipped, counts))
    if skipped is None and counts:
        _log.warning("%s: %s", folder, skipped_text(counts))


def _either(any_id: str, job: Callable[[], _OfJob], submission: Callable[[], _OfSubmission]) -> _OfJob | _OfSubmission:
    """Call `job`; if no job has the id, call `submission`."""
    try:
        return job()
    except RefusedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    try:
        return submission()
    except RefusedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        detail = f"No job or submission with id {any_id}. It may have been purged; finished ones expire after a while."
        raise error.with_detail(detail) from None
