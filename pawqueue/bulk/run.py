"""One bulk run: sends files as one submission and yields events until every file has a result."""

import itertools
import json
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from contract.result_row import ResultRow
from contract.submission import SubmissionStatus
from pawqueue.bulk.files import FoundFile, sha256_of, stamp_of
from pawqueue.bulk.follow import ResultReader
from pawqueue.bulk.send import Sender
from pawqueue.bulk.state import KnownFile, RunState
from pawqueue.client.connection import Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.errors import ClientError, RefusedError
from pawqueue.client.jobs import JobOptions
from pawqueue.client.status import is_served
from pawqueue.client.submissions import UNREADABLE, Submission, Submissions

#: Pauses between two reads of the results while images are being sent.
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.05, 1.0
#: Duration of a long poll once everything is sent, in seconds.
_LONG_POLL_S = 1
_FILES_PER_TRANSACTION = 1000
_LOST_BATCH = 500
#: How long a stopped run waits for requests in progress.
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """The options of a run."""

    #: The submission's name.
    name: str = ""
    #: The options of its jobs.
    jobs: JobOptions = field(default_factory=lambda: JobOptions("bulk"))
    #: The run fails after this time without progress.
    give_up_after_s: float = 120.0
    #: Requests in progress at the same time.
    concurrency: int = 4


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that already has a result from an interrupted run."""

    index: int
    row: ResultRow


@dataclass(frozen=True, slots=True)
class Result:
    """A finished file: it has a prediction or an error, or it was rejected."""

    #: Position in the order found, from 1.
    index: int
    row: ResultRow


@dataclass(frozen=True, slots=True)
class Progress:
    """The results were read again; `accepted` is the number of files accepted so far."""

    accepted: int


Event = Skipped | Result | Progress
_Rows = Iterator[tuple[int, ResultRow]]


class BulkRun:
    """A run over many files; use it as a context manager: `add` the files, then iterate over `events`.

    With a `state_file` an interrupted run can resume. The file is deleted on exit if the run is complete, or if nothing
    was sent.
    """

    def __init__(self, connection: Connection, state_file: Path | None, options: BulkOptions) -> None:
        self._connection = connection
        self._submissions = Submissions(connection)
        self._state = RunState(state_file)
        self._options = options
        self._deadline = Deadline(options.give_up_after_s)
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.submission_id is None or (error is None and self._state.is_complete()):
            self._state.delete()
        else:
            self._state.close()

    def add(self, files: Iterable[FoundFile]) -> int:
        """Add files and return their total number; when resuming, also schedule changed files again.

        Files that were touched but not changed are not resent; files that could not be read are. A new file with
        the same content as a finished one gets a copy of its result.
        """
        if self._state.total():
            for file in files:
                self._add_resumed(file)
        else:
            found = iter(files)
            while batch := list(itertools.islice(found, _FILES_PER_TRANSACTION)):
                self._state.add((file.key, file.name) for file in batch)
        return self._state.total()

    def events(self) -> Iterator[Event]:
        """Send the files and yield events as they happen; a `Progress` follows each read of the results.

        Raises:
            ClientError: the gateway was unreachable, busy or without workers for too long, or denied access, or the
                submission was canceled.
            KeyboardInterrupt: `stop` was called.
        """
        for entry, row in self._state.rows():
            yield Skipped(entry.index, row)
        self._deadline.renew()
        try:
            yield from self._finish_earlier_submission()
            if not self._state.is_complete():
                yield from self._send_and_follow(self._open_submission())
        except ClientError:
            if self._stopped:
                raise KeyboardInterrupt from None
            raise
        finally:
            self._deadline.cancel()

    def stop(self) -> None:
        """Stop the run; safe in a signal handler."""
        self._stopped = True
        self._deadline.cancel()

    def rows(self) -> Iterator[tuple[Path, ResultRow]]:
        """Path and row of every file with a result, in the order found."""
        return ((entry.path, row) for entry, row in self._state.rows())

    @property
    def submission_id(self) -> str | None:
        """Id of the run's submission; None before anything was sent."""
        return self._state.get_note("submission")

    @property
    def labels(self) -> list[str]:
        """The labels of the model; empty before the first prediction."""
        labels: list[str] = json.loads(self._state.get_note("labels") or "[]")
        return labels

    def _add_resumed(self, file: FoundFile) -> None:
        known = self._state.find(file.key)
        try:
            if file.address:
                self._state.add([(file.key, file.name)])  # whether its image has changed is not known here
            elif known is None:
                self._add_new(file)
            else:
                self._compare(file, known)
        except OSError:
            # The sender reports unreadable files, and a stored result stays valid.
            return

    def _add_new(self, file: FoundFile) -> None:
        self._state.add([(file.path, file.name)])
        added, row = self._state.find(file.path), self._state.prediction_of(sha256_of(file.path))
        if added and row:
            self._state.finish(added.index, row)

    def _compare(self, file: FoundFile, known: KnownFile) -> None:
        if known.status == UNREADABLE:
            self._state.resend(known.index)
            return
        if known.stamp is None or known.stamp == (stamp := stamp_of(file.path)):
            return
        sha256 = sha256_of(file.path)
        if sha256 == known.sha256:
            self._state.restamp(known.index, stamp)
        else:
            self._state.resend(known.index, sha256)

    def _finish_earlier_submission(self) -> Iterator[Event]:
        """Read the results that arrived since the interrupted run, so that nothing is sent twice."""
        if self.submission_id is None:
            return
        try:
            submission = self._submissions.get(self.submission_id, self._deadline)
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._start_over()
            return
        reader = self._reader(submission.id)
        yield from _results(reader.read_new(submission.ended))
        if submission.status is not SubmissionStatus.OPEN:
            yield from self._until_complete(reader, None)
            if self._state.to_send(0, 1):
                self._start_over()

    def _start_over(self) -> None:
        self._state.resend_unfinished()
        self._state.begin_submission(str(uuid.uuid4()))

    def _open_submission(self) -> str:
        submission_id = self.submission_id
        if submission_id is None:
            submission_id = str(uuid.uuid4())
            self._state.begin_submission(submission_id)
        self._submissions.open(submission_id, self._options.name, self._options.jobs, self._deadline)
        return submission_id

    def _send_and_follow(self, submission_id: str) -> Iterator[Event]:
        sender = Sender(self._submissions, submission_id, self._state, self._deadline, self._is_served)
        sender.start(self._options.concurrency)
        try:
            yield from self._until_complete(self._reader(submission_id), sender)
        finally:
            self._deadline.cancel()
            sender.join(_JOIN_S)

    def _until_complete(self, reader: ResultReader, sender: Sender | None) -> Iterator[Event]:
        """Read results until every file that was sent, or is still being sent, has one."""
        closed = sender is None
        pause_s = _FIRST_PAUSE_S
        while True:
            started_s = time.monotonic()
            all_sent = sender is None or sender.is_done
            if sender:
                yield from _results(sender.take_finished())
                if sender.error:
                    raise sender.error
            if all_sent and not closed:
                self._submissions.close(reader.submission_id, self._deadline)
                closed = True
            submission = yield from self._read_results(reader, _LONG_POLL_S if closed else 0)
            if all_sent and not self._state.waiting(1):
                return
            yield Progress(self._state.sent_count())
            if submission and submission.status.is_final and all_sent:
                yield from _results(reader.read_all())
                yield from _results(self._fail_lost())
                continue
            pause_s = min(pause_s * 1.5, _MAX_PAUSE_S)
            self._pause(pause_s - (time.monotonic() - started_s if closed else 0))

    def _read_results(self, reader: ResultReader, wait_s: float) -> Generator[Event, None, Submission | None]:
        """Yield new results and return the submission, or None after a temporary failure."""
        try:
            submission = self._submissions.get(reader.submission_id, self._deadline, wait_s)
            for result in _results(reader.read_new(submission.ended)):
                self._deadline.renew()
                yield result
        except ClientError as error:
            if not error.retryable or not self._deadline.remaining_s():
                raise
            return None
        return submission

    def _pause(self, pause_s: float) -> None:
        """Pause before the next read of the results; raises ClientError after too long without progress."""
        if self._stopped:
            raise KeyboardInterrupt
        # Waiting behind a long queue is fine as long as a worker is running.
        limit_s = self._deadline.limit_s
        if self._deadline.remaining_s() < limit_s / 2 and self._is_served():
            self._deadline.renew()
        if pause_s > 0 and not self._deadline.pause(min(pause_s, limit_s / 4)) and not self._stopped:
            raise ClientError(
                f"Images were accepted, but no result arrived for {limit_s:g} s. Check that a worker is running."
            )

    def _fail_lost(self) -> _Rows:
        """Fail the files whose results the service has already deleted."""
        error = "The service no longer has the result of this image."
        row = ResultRow("", status="failed", error_code="not_found", error=error)
        while entries := self._state.waiting(_LOST_BATCH):
            for entry in entries:
                if named := self._state.finish(entry.index, row):
                    yield entry.index, named

    def _is_served(self) -> bool:
        return is_served(self._connection, self._deadline)

    def _reader(self, submission_id: str) -> ResultReader:
        return ResultReader(self._submissions, submission_id, self._state, self._deadline)


def _results(rows: Iterable[tuple[int, ResultRow]]) -> Iterator[Event]:
    return (Result(index, row) for index, row in rows)
