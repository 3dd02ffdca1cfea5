"""Sends many files at once and yields a row for each as it comes; memory does not grow with their number.

Threads, each with one connection and one picture under way: a request then costs a third of the CPU that it costs with
httpx on an event loop. The gateway holds the answer to an upload back until the job has ended: most files take one
request.
"""

import threading
from collections.abc import Iterator
from queue import SimpleQueue

from contract.job import Job
from pawqueue.client import BULK
from pawqueue.deadline import Deadline
from pawqueue.errors import ClientError, RefusedError, TimedOutError
from pawqueue.files import FoundFile
from pawqueue.jobs import LONG_POLL_S, Jobs, file_body
from pawqueue.results import REFUSED, UNREADABLE, Row, row_of

Result = tuple[FoundFile, Row]

#: Refusals that would meet every file alike: API key, permission, wrong address.
_FOR_ALL_STATUSES = frozenset({401, 403, 404, 405})


class _Stop:
    """In place of a result: `stop` was called."""


class FolderRun:
    """One run over many files. It gives up when nothing has gone forward for `give_up_after_s` seconds."""

    def __init__(self, jobs: Jobs, *, concurrency: int, give_up_after_s: float) -> None:
        self._jobs = jobs
        self._concurrency = concurrency
        self._deadline = Deadline(give_up_after_s)
        self._lock = threading.Lock()
        # Unlike `Queue`, it may be put into by a signal handler. The threads fill it far slower than it is emptied.
        self._arrived: SimpleQueue[Result | Exception | _Stop | None] = SimpleQueue()

    def results(self, files: Iterator[FoundFile]) -> Iterator[Result]:
        """Send the files and yield what came of each, in the order in which they end; once a run.

        Raises:
            ClientError: the gateway could not be reached or stayed busy for too long, or refuses this caller.
            KeyboardInterrupt: `stop` was called; what had arrived was yielded before.
        """
        try:
            for number in range(self._concurrency):
                threading.Thread(target=self._work, args=(files,), name=f"sender-{number}", daemon=True).start()
            yield from self._collect()
        finally:
            self._deadline.cancel()

    def stop(self) -> None:
        """End the run; may be called by a signal handler."""
        self._deadline.cancel()
        self._arrived.put(_Stop())

    def _collect(self) -> Iterator[Result]:
        ending = None
        working = self._concurrency
        while working and ending is None:
            item = self._arrived.get()
            if item is None:
                working -= 1
            elif isinstance(item, tuple):
                yield item
            else:
                ending = item
        if ending is not None:
            yield from self._leftovers()
            raise KeyboardInterrupt if isinstance(ending, _Stop) else ending

    def _leftovers(self) -> Iterator[Result]:
        """What arrived behind the reason to end."""
        while not self._arrived.empty():
            item = self._arrived.get()
            if isinstance(item, tuple):
                yield item

    def _work(self, files: Iterator[FoundFile]) -> None:
        try:
            while (file := self._next(files)) is not None:
                self._arrived.put((file, self._row(file)))
        # Whatever it is, the thread that waits for results must hear of it.
        except Exception as error:  # noqa: BLE001
            self._arrived.put(error)
        finally:
            self._arrived.put(None)

    def _next(self, files: Iterator[FoundFile]) -> FoundFile | None:
        with self._lock:
            return None if self._deadline.canceled else next(files, None)

    def _row(self, file: FoundFile) -> Row:
        try:
            job = self._submit(file)
        except OSError as error:
            return Row(file.name, status=UNREADABLE, error_code=UNREADABLE, error=error.strerror or str(error))
        except RefusedError as error:
            if error.retryable or error.status in _FOR_ALL_STATUSES:
                raise
            return Row(file.name, status=REFUSED, error_code=error.code, error=error.detail)
        return self._end_of(file, job)

    def _submit(self, file: FoundFile) -> Job:
        job = self._jobs.submit(file_body(file.path), file.name, BULK, self._deadline, LONG_POLL_S)
        self._deadline.renew()
        return job

    def _end_of(self, file: FoundFile, job: Job) -> Row:
        try:
            for seen in self._jobs.follow(job, self._deadline):
                job = seen
                # A long queue in front of this run is no reason to give up, as long as somebody works on it.
                if job.status.is_final or self._jobs.is_served(self._deadline):
                    self._deadline.renew()
        except RefusedError as error:
            if error.retryable:
                raise
            return Row(file.name, status="failed", error_code=error.code, error=error.detail, job_id=job.id)
        except TimedOutError as error:
            raise ClientError(self._silence()) from error
        return row_of(file.name, job)

    def _silence(self) -> str:
        patience_s = self._deadline.patience_s
        return f"The gateway took pictures, but for {patience_s:g} s no answer came; is a worker running?"
