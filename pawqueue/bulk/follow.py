"""Reads the results of a submission while it is running, each of them exactly once."""

import json
from collections.abc import Iterator

from contract.result_row import ResultRow
from pawqueue.bulk.state import RunState
from pawqueue.client.deadline import Deadline
from pawqueue.client.submissions import ResultLine, Submissions

_BATCH = 500
_UNFINISHED = ("queued", "running")
_EVERYTHING = 2**31


class ResultReader:
    """Reads the results of one submission; `state` stores the position reached.

    Results are listed in the order of acceptance, but jobs finish in any order. The position is the number of images
    from the start that have all finished. Results after it are read again and skipped.
    """

    def __init__(
        self,
        submissions: Submissions,
        submission_id: str,
        state: RunState,
        deadline: Deadline,
        max_ahead: int = 1000,
    ) -> None:
        self.submission_id = submission_id
        self._submissions = submissions
        self._state = state
        self._deadline = deadline
        #: If there are more results than this after the position, the first unfinished image is looked up.
        self._max_ahead = max_ahead
        # Stored under the name `place`, which earlier versions used.
        self._position = int(state.get_note("place") or 0)
        self._ahead: set[int] = set()
        self._labels: set[str] = set(json.loads(state.get_note("labels") or "[]"))

    def read_new(self, finished: int) -> Iterator[tuple[int, ResultRow]]:
        """Yield index and row of each file that has finished since the last call.

        `finished` is the submission's number of finished images. It limits the request, so that the gateway does not
        scan the queued images as well. After an error, results that were already yielded are not read again.
        """
        limit = finished - self._position
        if limit <= len(self._ahead):
            return
        finished_to = self._first_unfinished() - 1 if len(self._ahead) > self._max_ahead else self._position
        lines: list[ResultLine] = []
        for line in self._submissions.results(self.submission_id, self._deadline, self._position, limit=limit):
            if line.n not in self._ahead:
                lines.append(line)
            if len(lines) == _BATCH:
                yield from self._record(lines)
                lines = []
        self._move_to(finished_to)
        yield from self._record(lines)

    def read_all(self) -> Iterator[tuple[int, ResultRow]]:
        """Read everything again and yield the results that `read_new` has missed."""
        self._position, self._ahead = 0, set()
        yield from self.read_new(_EVERYTHING)

    def _record(self, lines: list[ResultLine]) -> list[tuple[int, ResultRow]]:
        self._ahead.update(line.n for line in lines)
        while self._position + 1 in self._ahead:
            self._position += 1
            self._ahead.remove(self._position)
        self._record_labels(lines)
        return self._state.record([(line.job.file, line.row) for line in lines], self._position)

    def _first_unfinished(self) -> int:
        lines = self._submissions.results(self.submission_id, self._deadline, self._position, _UNFINISHED, limit=1)
        first = next((line.n for line in lines), max(self._ahead) + 1)
        lines.close()
        return first

    def _move_to(self, position: int) -> None:
        if position > self._position:
            self._position = position
            self._ahead = {n for n in self._ahead if n > position}

    def _record_labels(self, lines: list[ResultLine]) -> None:
        results = [line.job.result for line in lines]
        predictions = [result.prediction for result in results if result and result.prediction]
        new = {label for prediction in predictions for label in prediction.probabilities} - self._labels
        if new:
            self._labels |= new
            self._state.set_note("labels", json.dumps(sorted(self._labels)))
