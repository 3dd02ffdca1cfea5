"""Reads the results of a submission while it is running, each of them exactly once."""

import json
from collections.abc import Iterator
from itertools import islice

from contract.result_row import ResultRow
from pawqueue.bulk.state import RunState
from pawqueue.client.deadline import Deadline
from pawqueue.client.submissions import ResultLine, Submissions

_BATCH = 500


class ResultReader:
    """Reads the results of one submission in the order of finishing; `state` stores the cursor reached.

    A gateway of version 0.1 sends no cursors: the position stays at 0, and results are read again and skipped.
    """

    def __init__(self, submissions: Submissions, submission_id: str, state: RunState, deadline: Deadline) -> None:
        self.submission_id = submission_id
        self._submissions = submissions
        self._state = state
        self._deadline = deadline
        # Absent in files of version 0.1: the results are then read from the start, and known ones are skipped.
        self._cursor = int(state.get_note("cursor") or 0)
        self._labels: set[str] = set(json.loads(state.get_note("labels") or "[]"))

    def read_new(self, finished: int) -> Iterator[tuple[int, ResultRow]]:
        """Yield index and row of each file that has finished since the last call.

        `finished` is the submission's number of finished images. After an error, results that were already yielded are
        not read again.
        """
        if finished == self._cursor:
            return
        lines = self._submissions.results(self.submission_id, self._deadline, {"cursor": self._cursor})
        while batch := list(islice(lines, _BATCH)):
            self._record_labels(batch)
            self._cursor = batch[-1].cursor or self._cursor
            yield from self._state.record([(line.job.file, line.row) for line in batch], self._cursor)

    def read_all(self) -> Iterator[tuple[int, ResultRow]]:
        """Read everything again and yield the results that the run does not have.

        Results can be missing after Redis was restored from a backup, because cursors then restart at a lower number.
        """
        self._cursor = 0
        yield from self.read_new(-1)

    def _record_labels(self, lines: list[ResultLine]) -> None:
        results = [line.job.result for line in lines]
        predictions = [result.prediction for result in results if result and result.prediction]
        new = {label for prediction in predictions for label in prediction.probabilities} - self._labels
        if new:
            self._labels |= new
            self._state.set_note("labels", json.dumps(sorted(self._labels)))
