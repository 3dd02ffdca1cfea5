"""Brings the files of a run into its memory, and finds out what an interrupted run has still to send."""

import itertools
from collections.abc import Iterable

from pawqueue.files import FoundFile
from pawqueue.image import sha256_of, stamp_of
from pawqueue.results import UNREADABLE
from pawqueue.run_state import Known, RunState

_AT_ONCE = 1000


def remember(state: RunState, files: Iterable[FoundFile]) -> None:
    """Add the files of a run that begins."""
    found = iter(files)
    while several := list(itertools.islice(found, _AT_ONCE)):
        state.add((file.path, file.name) for file in several)


def compare(state: RunState, files: Iterable[FoundFile]) -> None:
    """Go through the files of an interrupted run again.

    What holds the same as when it was sent is not sent again, whatever its dates say; what holds something else, and
    what could not be read, is. A new file that holds what another one held takes over that one's result.
    """
    for file in files:
        known = state.known(file.path)
        try:
            if known is None:
                _take_in(state, file)
            else:
                _look_again(state, file, known)
        except OSError:
            # It is sent, or was: the sender will say what is wrong with it, or the result that is there counts.
            continue


def _take_in(state: RunState, file: FoundFile) -> None:
    state.add([(file.path, file.name)])
    known, result = state.known(file.path), state.result_of(sha256_of(file.path))
    if known and result:
        state.ended(known.index, result)


def _look_again(state: RunState, file: FoundFile, known: Known) -> None:
    if known.status == UNREADABLE:
        state.send_again(known.index)
        return
    if known.stamp is None or known.stamp == (stamp := stamp_of(file.path)):
        return
    sha256 = sha256_of(file.path)
    if sha256 == known.sha256:
        state.restamp(known.index, stamp)
    else:
        state.send_again(known.index, sha256)
