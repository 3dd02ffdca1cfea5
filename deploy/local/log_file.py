"""The log files of the services: rotated, and safe on a full disk.

supervisord's own log handler raises when a log cannot be written, which stops supervisord and every service.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

from supervisor import loggers


def use_safe_log_files() -> None:
    """Make supervisord write every log with `LogFile`. Call it before supervisord starts."""
    # supervisord has no setting for this. Cached, because a restarted service continues the log of its predecessor.
    loggers.RotatingFileHandler = cache(LogFile)


class LogFile(loggers.Handler):  # type: ignore[misc]
    """Appends to a file. At `max_bytes` the file is renamed to `NAME.1`; `backups` (at least 1) such files are kept.

    Output that cannot be written is dropped. The next output that can be written follows a line with the number of
    lines that were lost.
    """

    def __init__(self, path: str, _mode: str, max_bytes: int, backups: int) -> None:
        super().__init__()
        self._path, self._max_bytes, self._backups = Path(path), max_bytes, backups
        self._file: FileIO | None = None
        self._size = 0
        self._lost_lines = 0
        self._error = ""
        #: Whether the file, and the output so far, end inside a line.
        self._is_torn = self._is_cut = False
        self._write(b"")  # an empty log shows that the service started
        self._error = ""

    def emit(self, record: Any) -> None:
        """Append the message of `record`; never raises."""
        data = record.msg if isinstance(record.msg, bytes) else (self.fmt % record.asdict()).encode(errors="replace")
        if self._error:
            if self._write(self._notice()):
                self._drop(data)
                return
            self._error, self._lost_lines = "", 0
            if self._is_cut:  # its beginning was dropped
                data = data.partition(b"\n")[2]
        self._drop(self._write(data))
        if self._size >= self._max_bytes > 0:
            self._rotate()

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Close the file; the next output opens it again."""
        if self._file:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def reopen(self) -> None:
        """Close the file, because it may have been renamed."""
        self.close()

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        with suppress(OSError):
            self._path.unlink()

    def _write(self, data: bytes) -> bytes:
        """Append `data`; returns the part that could not be written."""
        try:
            if self._file is None:
                self._file = FileIO(self._path, "a")
                self._size = self._path.stat().st_size
            while data:
                written = self._file.write(data)
                self._size += written
                self._is_torn = not data[:written].endswith(b"\n")
                data = data[written:]
        except OSError as error:
            self._error = error.strerror or str(error)
            self.close()  # a file that was deleted to make room would otherwise stay open and keep its space
        return data

    def _drop(self, data: bytes) -> None:
        if data:
            self._lost_lines += data.count(b"\n")
            self._is_cut = not data.endswith(b"\n")

    def _notice(self) -> bytes:
        notice = {
            "event": "Log lines were lost because they could not be written",
            "lines": self._lost_lines + self._is_cut,
            "error": self._error,
            "level": "warning",
            "timestamp": datetime.now(UTC).isoformat(),
        }
        return (b"\n" if self._is_torn else b"") + json.dumps(notice).encode() + b"\n"

    def _rotate(self) -> None:
        self.close()
        for number in range(self._backups, 0, -1):
            newer = self._backup(number - 1) if number > 1 else self._path
            with suppress(OSError):
                newer.replace(self._backup(number))

    def _backup(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
