"""Sends the files of a run from a few threads, up to a hundred images in one request."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from contract.result_row import ResultRow
from pawqueue.bulk.files import FileContent, read_file
from pawqueue.bulk.state import Entry, RunState
from pawqueue.client.deadline import Deadline, retry_pause_s
from pawqueue.client.errors import ClientError, RefusedError
from pawqueue.client.submissions import REFUSED, UNREADABLE, Added, Submissions

#: Limits of one request; a larger image is sent alone.
REQUEST_MAX_IMAGES, REQUEST_MAX_BYTES = 100, 8_000_000
#: Statuses that reject the content of a request; some of its images may still be acceptable.
_CONTENT_REJECTED = frozenset({400, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class _Upload:
    entry: Entry
    file: FileContent


class Sender:
    """The sending threads of one run; they record in `state` whether each file was accepted."""

    def __init__(
        self,
        submissions: Submissions,
        submission_id: str,
        state: RunState,
        deadline: Deadline,
        is_served: Callable[[], bool],
    ) -> None:
        self._submissions = submissions
        self._submission_id = submission_id
        self._state = state
        self._deadline = deadline
        self._is_served = is_served
        self._lock = threading.Lock()
        self._position = 0
        self._finished: list[tuple[int, ResultRow]] = []
        self._threads: list[threading.Thread] = []
        #: While the queue is full, no thread sends before this has passed.
        self._hold = Deadline(0)
        #: The exception that stopped a thread; the others stop too.
        self.error: Exception | None = None

    def start(self, threads: int) -> None:
        """Start sending."""
        self._threads = [threading.Thread(target=self._run, name=f"sender-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to stop, for at most `timeout_s`."""
        end = Deadline(timeout_s)
        for thread in self._threads:
            thread.join(end.remaining_s())

    @property
    def is_done(self) -> bool:
        """Whether every thread has stopped."""
        return not any(thread.is_alive() for thread in self._threads)

    def take_finished(self) -> list[tuple[int, ResultRow]]:
        """The rows of rejected and unreadable files since the last call."""
        with self._lock:
            finished, self._finished = self._finished, []
        return finished

    def _run(self) -> None:
        try:
            while self.error is None and (entries := self._next_entries()):
                for uploads in self._requests(entries):
                    self._send(uploads)
        # `BulkRun` reraises it in its own thread.
        except Exception as error:  # noqa: BLE001
            self.error = error

    def _next_entries(self) -> list[Entry]:
        with self._lock:
            if self._deadline.canceled:
                return []
            entries = self._state.to_send(self._position, REQUEST_MAX_IMAGES)
            self._position = entries[-1].index if entries else self._position
            return entries

    def _requests(self, entries: Sequence[Entry]) -> Iterator[list[_Upload]]:
        """Read the files and group them into requests."""
        uploads: list[_Upload] = []
        for entry in entries:
            if entry.address:
                upload = _Upload(entry, FileContent(b"", hashlib.sha256(entry.address.encode()).digest(), ""))
                if uploads and not uploads[-1].entry.address:
                    yield uploads
                    uploads = []
                uploads.append(upload)
                continue
            try:
                upload = _Upload(entry, read_file(entry.path))
            except OSError as error:
                row = ResultRow("", status=UNREADABLE, error_code=UNREADABLE, error=error.strerror or str(error))
                self._finish(entry, row)
                continue
            size = sum(len(item.file.content) for item in uploads) + len(upload.file.content)
            if uploads and (size > REQUEST_MAX_BYTES or uploads[-1].entry.address):
                yield uploads
                uploads = []
            uploads.append(upload)
        if uploads:
            yield uploads

    def _send(self, uploads: list[_Upload]) -> None:
        # Before sending: after a crash, the next run must know which files may have been accepted.
        self._state.begin_sending((item.entry.index, item.file.stamp, item.file.sha256) for item in uploads)
        tries = 0
        while uploads and self._may_send():
            try:
                added = self._add(uploads)
            except RefusedError as error:
                self._split_rejected(uploads, error)
                return
            left = self._record(uploads, added)
            tries = 0 if len(left) < len(uploads) else tries + 1
            if left:
                self._hold_back(retry_pause_s(max(tries, 1), added.retry_after_s), added)
            uploads = left

    def _add(self, uploads: list[_Upload]) -> Added:
        if uploads[0].entry.address:
            addresses = [(item.entry.custom_id, item.entry.address) for item in uploads]
            return self._submissions.add_addresses(self._submission_id, addresses, self._deadline)
        images = [(item.entry.custom_id, item.file.content) for item in uploads]
        return self._submissions.add(self._submission_id, images, self._deadline)

    def _may_send(self) -> bool:
        """Wait while the queue is full; False if the run has stopped."""
        held_s = self._hold.remaining_s()
        if held_s:
            self._deadline.pause(held_s)
        return not self._deadline.canceled and self.error is None

    def _hold_back(self, seconds: float, added: Added) -> None:
        """Pause all threads, because the queue is full; raises ClientError after too long without a worker."""
        if self._is_served():
            self._deadline.renew()
        if seconds >= self._deadline.remaining_s():
            raise ClientError(f"The gateway stayed busy for too long: {added.reason or 'it accepted no images.'}")
        self._hold = Deadline(seconds)

    def _record(self, uploads: list[_Upload], added: Added) -> list[_Upload]:
        """Record the accepted and rejected files; returns the rest, which must be resent."""
        self._state.mark_sent(item.entry.index for item in uploads if item.entry.custom_id in added.accepted)
        left = []
        for item in uploads:
            if rejected := added.rejected.get(item.entry.custom_id):
                self._reject(item.entry, rejected.code, rejected.detail)
            elif item.entry.custom_id not in added.accepted:
                left.append(item)
        if len(left) < len(uploads):
            self._deadline.renew()
        return left

    def _split_rejected(self, uploads: list[_Upload], error: RefusedError) -> None:
        """Send the halves of a rejected request, until the rejected image is found."""
        if error.status not in _CONTENT_REJECTED:
            raise error
        if len(uploads) > 1:
            self._send(uploads[: len(uploads) // 2])
            self._send(uploads[len(uploads) // 2 :])
        else:
            self._reject(uploads[0].entry, error.code, error.detail)

    def _reject(self, entry: Entry, code: str, detail: str) -> None:
        self._finish(entry, ResultRow("", status=REFUSED, error_code=code, error=detail))

    def _finish(self, entry: Entry, row: ResultRow) -> None:
        if named := self._state.finish(entry.index, row):
            with self._lock:
                self._finished.append((entry.index, named))
        self._deadline.renew()
