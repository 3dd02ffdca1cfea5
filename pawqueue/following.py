"""Reads the results of a submission as they come: each once, however often the reading has to begin anew."""

import json
from collections.abc import Iterator
from typing import Any

from pawqueue.deadline import Deadline
from pawqueue.results import Row, row_of_line
from pawqueue.run_state import RunState
from pawqueue.submissions import ResultLine, Submissions

_AT_ONCE = 500
#: So many results may lie behind one that is still missing before it is asked which one that is.
_MOST_AHEAD = 1000
_NOT_ENDED = ("queued", "running")
_EVERYTHING = 2**31


class Following:
    """The place up to which the results of one submission were read, kept in `state`.

    Results come in the order of acceptance, but end in any: the place is behind the last image before which all
    have ended, and what was read ahead of it is passed over the next time.
    """

    def __init__(self, submissions: Submissions, state: RunState, submission_id: str, deadline: Deadline) -> None:
        self.submission_id = submission_id
        self._submissions = submissions
        self._state = state
        self._deadline = deadline
        self._place = int(state.noted("place") or 0)
        self._ahead: set[int] = set()
        self._labels: set[str] = set(json.loads(state.noted("labels") or "[]"))

    def news(self, ended: int) -> Iterator[tuple[int, Row]]:
        """Yield what has ended since the last time, each with its place among the files of the run.

        `ended` is how many have ended in all, so that the gateway need not look through those that wait. Raises what
        `Wire.send` raises; what was yielded before is remembered.
        """
        limit = ended - self._place
        if limit <= len(self._ahead):
            return
        known_to = self._first_missing() - 1 if len(self._ahead) > _MOST_AHEAD else self._place
        lines: list[ResultLine] = []
        for line in self._submissions.results(self.submission_id, self._deadline, self._place, limit=limit):
            if line.n not in self._ahead:
                lines.append(line)
            if len(lines) == _AT_ONCE:
                yield from self._record(lines)
                lines = []
        self._move_to(known_to)
        yield from self._record(lines)

    def read_again(self) -> Iterator[tuple[int, Row]]:
        """Yield what `news` has missed, by reading everything."""
        self._place, self._ahead = 0, set()
        yield from self.news(_EVERYTHING)

    def _record(self, lines: list[ResultLine]) -> list[tuple[int, Row]]:
        self._ahead.update(line.n for line in lines)
        while self._place + 1 in self._ahead:
            self._place += 1
            self._ahead.remove(self._place)
        self._note_labels(lines)
        return self._state.record([(line.custom_id, row_of_line(line.values)) for line in lines], self._place)

    def _first_missing(self) -> int:
        """The first image that has not ended; everything before it has."""
        lines = self._submissions.results(self.submission_id, self._deadline, self._place, _NOT_ENDED, limit=1)
        first = next((line.n for line in lines), max(self._ahead) + 1)
        lines.close()
        return first

    def _move_to(self, place: int) -> None:
        if place > self._place:
            self._place = place
            self._ahead = {n for n in self._ahead if n > place}

    def _note_labels(self, lines: list[ResultLine]) -> None:
        found = {label for line in lines for label in _labels_of(line.values)} - self._labels
        if found:
            self._labels |= found
            self._state.note("labels", json.dumps(sorted(self._labels)))


def _labels_of(values: dict[str, Any]) -> dict[str, float]:
    prediction = values.get("prediction") or {}
    return prediction.get("probabilities") or {}
