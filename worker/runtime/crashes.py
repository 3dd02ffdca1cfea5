"""Finds out which versions of models crash workers, across restarts.

A crash in native code, or a lack of memory, ends the whole process. So a worker writes into a file what it loads and
what it predicts with. A worker that finds the file of a dead one counts a crash of that version. What a shadow does is
written separately: it is to blame for a crash, whatever else its worker did.
"""

import fcntl
import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from contract.job import ModelRef
from contract.log import get_logger

_log = get_logger(__name__)

#: A version that crashed this many workers in a row is paused. A single death may have another cause.
_DEATHS = 2
#: The first pause in seconds. Each further crash doubles it.
_PAUSE_S = 10.0
_PAUSE_MAX_S = 600.0
#: Bytes of a process's file for the shadow that it loads, the one that predicts, the version that it loads, and the one
#: that predicts. All four can happen at the same time.
_SLOT = 512
_LOADING_SHADOW, _SHADOWING, _LOADING, _PREDICTING = _SLOTS = 0, _SLOT, 2 * _SLOT, 3 * _SLOT
_COUNTS = "counts.json"


class Crashes(NamedTuple):
    """Crashes of a version since its last batch."""

    in_a_row: int = 0
    #: Unix time of the last crash in seconds.
    at_s: float = 0.0

    @property
    def pause_end_s(self) -> float:
        """Until when the version must not be loaded, as Unix time in seconds."""
        if self.in_a_row < _DEATHS:
            return 0.0
        return self.at_s + min(_PAUSE_MAX_S, _PAUSE_S * 2.0 ** min(self.in_a_row - _DEATHS, 30))


class CrashRecorder:
    """Records what this process does with which version, and reads what dead processes did.

    The workers of a state folder share `folder`. The file of a process is mapped into memory: writing to it takes no
    system call, and the content outlives the process. A lock on the file shows that its process is alive.
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        """Start to record in `folder`; without effect if it is None or cannot be written."""
        self._folder = folder
        self._clock = clock
        self._counts: dict[str, Crashes] = {}
        self._slots: mmap.mmap | bytearray = bytearray(len(_SLOTS) * _SLOT)
        self._own: Path | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(folder):
                # The file stays open, and therefore locked, until the process ends.
                self._handle, name = tempfile.mkstemp(dir=folder, suffix=".worker")
                fcntl.flock(self._handle, fcntl.LOCK_EX)
            os.ftruncate(self._handle, len(self._slots))
            self._slots, self._own = mmap.mmap(self._handle, len(self._slots)), Path(name)
        except OSError as error:
            _log.warning("Crashes of models cannot be recorded", folder=str(folder), reason=error.strerror)

    def close(self) -> None:
        """Stop recording: the process ends, but no model crashed it."""
        if self._own:
            self._own.unlink(missing_ok=True)

    @contextmanager
    def loading(self, ref: ModelRef) -> Iterator[None]:
        """Record that a version is being loaded."""
        with self._record(_LOADING, _name(ref)):
            yield

    @contextmanager
    def predicting(self, ref: ModelRef) -> Iterator[None]:
        """Record that a version predicts a batch. If the process survives it, the version's crashes are forgotten."""
        with self._record(_PREDICTING, _name(ref)):
            yield
        if self._counts and _name(ref) in self._counts:
            self._update(forget=_name(ref))

    @contextmanager
    def loading_shadow(self, ref: ModelRef, revision: int) -> Iterator[None]:
        """Record that the shadow that was set at a revision of its model is being loaded."""
        with self._record(_LOADING_SHADOW, _shadow_name(ref, revision)):
            yield

    @contextmanager
    def shadowing(self, ref: ModelRef, revision: int) -> Iterator[None]:
        """Record that the shadow that was set at a revision of its model predicts."""
        with self._record(_SHADOWING, _shadow_name(ref, revision)):
            yield

    def has_crashed(self, ref: ModelRef, revision: int) -> bool:
        """Whether the shadow that was set at a revision of its model crashed a worker, as of the last `refresh`."""
        return _shadow_name(ref, revision) in self._counts

    def forget(self, ref: ModelRef, revision: int) -> None:
        """Forget the crash of a shadow, because it is stopped."""
        self._update(forget=_shadow_name(ref, revision))

    def crashes(self, ref: ModelRef) -> Crashes:
        """The crashes of a version since its last batch, as of the last `refresh`."""
        return self._counts.get(_name(ref), Crashes())

    def refresh(self) -> None:
        """Count the crashes of processes that have died, and read what other processes have counted."""
        self._update()

    @contextmanager
    def _record(self, slot: int, name: str) -> Iterator[None]:
        self._slots[slot : slot + _SLOT] = name.encode()[:_SLOT].ljust(_SLOT, b"\0")
        try:
            yield
        finally:
            self._slots[slot] = 0

    def _update(self, forget: str = "") -> None:
        if self._own is None:
            return
        try:
            with _locked(self._own.parent) as folder:
                before = _read_counts(folder)
                counts = {name: crashes for name, crashes in before.items() if name != forget}
                for name in self._take_dead(folder):
                    counts[name] = Crashes(counts.get(name, Crashes()).in_a_row + 1, self._clock())
                    _log.error("A model crashed its worker", model=name, in_a_row=counts[name].in_a_row)
                if counts != before:
                    _write_counts(folder, counts)
        except OSError as error:
            _log.warning("Crashes of models cannot be read", folder=str(self._folder), reason=error.strerror)
        else:
            self._counts = counts

    def _take_dead(self, folder: Path) -> Iterator[str]:
        """Remove the files of dead processes; yields the shadow of each, or what it loaded, or predicted with."""
        for path in folder.glob("*.worker"):
            if path == self._own:
                continue
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # it is alive
                content = file.read()
            path.unlink()
            for slot in _SLOTS:
                if name := content[slot : slot + _SLOT].partition(b"\0")[0]:
                    yield name.decode(errors="replace")
                    break


def _name(ref: ModelRef) -> str:
    return f"{ref.name}@{ref.version}"


def _shadow_name(ref: ModelRef, revision: int) -> str:
    return f"{_name(ref)} shadow {revision}"


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Only one process at a time may change the files of the folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(handle)


def _read_counts(folder: Path) -> dict[str, Crashes]:
    try:
        return {name: Crashes(*row) for name, row in json.loads((folder / _COUNTS).read_bytes()).items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _write_counts(folder: Path, counts: dict[str, Crashes]) -> None:
    new = folder / f".{_COUNTS}"
    new.write_text(json.dumps(counts), encoding="utf-8")
    new.replace(folder / _COUNTS)
