"""A run over many files from the first to the last: what `submit_folder` of the client does."""

from collections.abc import Generator, Iterable
from pathlib import Path

from pawqueue.deadline import Deadline
from pawqueue.errors import TimedOutError
from pawqueue.files import FoundFile
from pawqueue.folder import FolderRun, Plan
from pawqueue.results import Row
from pawqueue.run_state import RunState
from pawqueue.scan import compare, remember
from pawqueue.submissions import Submissions


def run_over(
    submissions: Submissions, plan: Plan, files: Iterable[FoundFile], memory: Path | None, timeout_s: float | None
) -> Generator[Row]:
    """Yield a row for each file: first what an interrupted run that `memory` remembers has got, then as they end.

    Raises what `FolderRun.results` raises; TimedOutError when it all takes longer than `timeout_s` seconds.
    """
    end = Deadline(float("inf") if timeout_s is None else timeout_s)
    with RunState(memory) as state:
        (compare if state.total() else remember)(state, files)
        yield from [row for _, row in state.rows()]
        for result in FolderRun(submissions, state, plan).results():
            if result:
                yield result[1]
            if not end.remaining_s():
                raise TimedOutError(_late(state, end))
        state.remove()


def _late(state: RunState, end: Deadline) -> str:
    submission_id = state.noted("submission")
    return (
        f"Not every image has ended within {end.patience_s:g} s; the service goes on with submission {submission_id}."
    )
