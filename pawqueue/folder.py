"""A run over many files: one submission, sent by a few threads, its results read as they come.

Memory does not grow with the number of files: what there is to know of them lies in the run's state.
"""

import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from pawqueue.deadline import Deadline
from pawqueue.errors import ClientError, RefusedError
from pawqueue.following import Following
from pawqueue.jobs import Jobs
from pawqueue.results import Row
from pawqueue.run_state import RunState
from pawqueue.sending import Sending
from pawqueue.submission import Submission, SubmissionStatus
from pawqueue.submissions import Submissions

#: A file's place in the order found, from 1, and what came of it.
Result = tuple[int, Row]

_NOT_FOUND = 404
#: Pauses between two looks for results while images are being sent.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
#: Longest that the gateway holds its answer back once all is sent, in seconds.
_LAST_WAIT_S = 1
_AT_ONCE = 500
#: How long answers that are on their way are waited for when a run is broken off.
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is to go."""

    #: Of the submission, for people.
    name: str
    #: `bulk` or `interactive`.
    queue: str
    #: The run ends when nothing has gone forward for so long.
    give_up_after_s: float = 120.0
    #: Requests under way at once.
    senders: int = 4


class FolderRun:
    """Sends the files of `state` and collects their results there."""

    def __init__(self, submissions: Submissions, state: RunState, plan: Plan) -> None:
        self._submissions = submissions
        self._state = state
        self._plan = plan
        self._deadline = Deadline(plan.give_up_after_s)
        self._is_served = Jobs(submissions.wire).is_served
        self._stopped = False
        #: Files that the gateway has.
        self.sent = 0

    def results(self) -> Iterator[Result | None]:
        """Yield what came of each file that has no result yet, in the order in which they end; once a run.

        After each look for results comes a None, so that the caller can show that the run lives.

        Raises:
            ClientError: the gateway could not be reached or stayed busy for too long, or refuses this caller, or the
                submission was canceled.
            KeyboardInterrupt: `stop` was called; what had arrived was yielded before.
        """
        try:
            yield from self._finish_earlier()
            if self._state.to_send(0, 1) or self._state.waiting(1):
                yield from self._finish(self._open())
        except ClientError:
            if self._stopped:
                raise KeyboardInterrupt from None
            raise
        finally:
            self._deadline.cancel()

    def stop(self) -> None:
        """End the run; may be called by a signal handler."""
        self._stopped = True
        self._deadline.cancel()

    def _finish_earlier(self) -> Iterator[Result | None]:
        """Read what an interrupted run has got meanwhile, so that nothing of it is sent twice."""
        submission_id = self._state.noted("submission")
        if submission_id is None:
            return
        try:
            submission = self._submissions.get(submission_id, self._deadline)
        except RefusedError as error:
            if error.status != _NOT_FOUND:
                raise
            self._start_over()
            return
        following = self._following(submission_id)
        yield from following.news(submission.ended)
        if submission.status is not SubmissionStatus.OPEN:
            yield from self._until_over(following, None)
            if self._state.to_send(0, 1):
                self._start_over()

    def _start_over(self) -> None:
        self._state.forget_sent()
        self._state.begin_submission(str(uuid.uuid4()))

    def _open(self) -> str:
        submission_id = self._state.noted("submission")
        if submission_id is None:
            submission_id = str(uuid.uuid4())
            self._state.begin_submission(submission_id)
        self._submissions.open(submission_id, self._plan.name, self._plan.queue, self._deadline)
        return submission_id

    def _finish(self, submission_id: str) -> Iterator[Result | None]:
        sending = Sending(self._submissions, self._state, submission_id, self._deadline, self._is_served)
        sending.start(self._plan.senders)
        try:
            yield from self._until_over(self._following(submission_id), sending)
        finally:
            self._deadline.cancel()
            sending.join(_JOIN_S)

    def _until_over(self, following: Following, sending: Sending | None) -> Iterator[Result | None]:
        """Read results until every file that was sent, or is being sent, has one."""
        closed = sending is None
        pause_s = _FIRST_PAUSE_S
        while True:
            started_s = time.monotonic()
            all_sent = sending is None or sending.is_over
            if sending:
                yield from sending.news()
                if sending.fault:
                    raise sending.fault
            if all_sent and not closed:
                self._submissions.close(following.submission_id, self._deadline)
                closed = True
            submission = yield from self._look(following, _LAST_WAIT_S if closed else 0)
            if all_sent and not self._state.waiting(1):
                return
            self.sent = self._state.sent_count()
            yield None
            if submission and submission.status.is_final and all_sent:
                yield from following.read_again()
                yield from self._give_up_lost()
                continue
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
            self._rest(pause_s - (time.monotonic() - started_s if closed else 0))

    def _look(self, following: Following, wait_s: int) -> Generator[Result, None, Submission | None]:
        """Yield what is new, and return the submission; a reading that breaks off is gone on with the next time."""
        try:
            submission = self._submissions.get(following.submission_id, self._deadline, wait_s)
            for result in following.news(submission.ended):
                self._deadline.renew()
                yield result
        except ClientError as error:
            if not error.retryable or not self._deadline.remaining_s():
                raise
            return None
        return submission

    def _rest(self, pause_s: float) -> None:
        """Let time pass until it makes sense to look again."""
        if self._stopped:
            raise KeyboardInterrupt
        # A long queue in front of this run is no reason to give up, as long as somebody works on it.
        patience_s = self._deadline.patience_s
        if self._deadline.remaining_s() < patience_s / 2 and self._is_served(self._deadline):
            self._deadline.renew()
        if pause_s > 0 and not self._deadline.pause(min(pause_s, patience_s / 4)) and not self._stopped:
            raise ClientError(f"The gateway took images, but for {patience_s:g} s no answer came; is a worker running?")

    def _give_up_lost(self) -> Iterator[Result]:
        """Every image has ended, but some results are not there any more."""
        row = Row("", status="failed", error_code="not_found", error="The service has no result of it any more.")
        while entries := self._state.waiting(_AT_ONCE):
            for entry in entries:
                if named := self._state.ended(entry.index, row):
                    yield entry.index, named

    def _following(self, submission_id: str) -> Following:
        return Following(self._submissions, self._state, submission_id, self._deadline)
