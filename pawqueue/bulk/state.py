"""The state of a bulk run in an SQLite file: its files, which of them were sent, and the results so far.

The file lets a killed run resume, and keeps memory use independent of the number of files.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contract.fetch import is_address
from contract.result_row import CSV_COLUMNS, ResultRow
from pawqueue.bulk.files import path_of
from pawqueue.client.errors import ClientError

#: Version of the file format; files of other versions are rejected.
_SCHEMA = "1"
_TABLES = """
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    custom_id TEXT NOT NULL UNIQUE,
    stamp TEXT,
    sha256 BLOB,
    state INTEGER NOT NULL DEFAULT 0,
    row TEXT
);
CREATE INDEX to_send ON files (id) WHERE state = 0;
CREATE INDEX waiting ON files (id) WHERE state = 1;
CREATE INDEX by_content ON files (sha256) WHERE state = 2;
"""
#: Values of `files.state`. Queries spell them out where a partial index must apply.
_TO_SEND, _SENT, _DONE = 0, 1, 2
_CUSTOM_ID_MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the run."""

    #: Position in the order found, from 1.
    index: int
    path: Path
    #: Its name in the results.
    name: str
    #: Its name in the submission.
    custom_id: str
    #: As in `FoundFile`.
    address: str = ""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What an interrupted run stored about a file."""

    index: int
    #: Stamp and hash of the version that was sent, or may have been sent.
    stamp: str | None
    sha256: bytes | None
    #: Status of its result; None if it has no result.
    status: str | None


class RunState:
    """The state of one run, thread-safe; without a path it is temporary.

    Raises:
        ClientError: the file is in use by another run or is not a run's state; also by methods that change the state:
            the file cannot be written. The state is then as before the call.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._closed = False
        self._connection = sqlite3.connect(path or "", timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except ClientError:
            self.close()
            raise
        except sqlite3.DatabaseError as error:
            self.close()
            raise ClientError(_unusable(path, error)) from error

    def close(self) -> None:
        """Close the file; threads that still use it get `sqlite3.ProgrammingError`."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def delete(self) -> None:
        """Close and delete the file."""
        self.close()
        if self._path:
            self._path.unlink(missing_ok=True)

    def set_note(self, name: str, value: str) -> None:
        """Store a value that belongs to the whole run."""
        self._change("INSERT OR REPLACE INTO notes VALUES (?, ?)", name, value)

    def get_note(self, name: str) -> str | None:
        """Read a value that `set_note` stored; None if there is none."""
        value: str | None = self._value("SELECT value FROM notes WHERE name = ?", name)
        return value

    def begin_submission(self, submission_id: str) -> None:
        """Store the id of a new submission and reset the cursor in its results."""
        with self._transaction() as connection:
            values = [("submission", submission_id), ("cursor", "0")]
            connection.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", values)

    def add(self, files: Iterable[tuple[Path | str, str]]) -> None:
        """Append files, given by path or address, and name; those that are already stored are skipped."""
        with self._transaction() as connection:
            for path, name in files:
                key = os.fsencode(path)
                if connection.execute("SELECT 1 FROM files WHERE path = ?", (key,)).fetchone() is None:
                    values = (key, name, self._unused_custom_id(custom_id_of(name), name))
                    connection.execute("INSERT INTO files (path, name, custom_id) VALUES (?, ?, ?)", values)

    def find(self, path: Path | str) -> KnownFile | None:
        """Find a file by its path or address; None if the run does not contain it."""
        found = self._one("SELECT id, stamp, sha256, row FROM files WHERE path = ?", os.fsencode(path))
        if found is None:
            return None
        index, stamp, sha256, row = found
        return KnownFile(index, stamp, sha256, _row(row).status if row else None)

    def restamp(self, index: int, stamp: str) -> None:
        """Record that a file was touched but not changed."""
        self._change("UPDATE files SET stamp = ? WHERE id = ?", stamp, index)

    def resend(self, index: int, sha256: bytes | None = None) -> None:
        """Schedule a file again; with the hash of new content it gets a new `custom_id`."""
        with self._transaction() as connection:
            query = "SELECT name, custom_id FROM files WHERE id = ?"
            name, custom_id = connection.execute(query, (index,)).fetchone()
            if sha256 is not None:
                custom_id = self._unused_custom_id(custom_id_of(f"{name}@{sha256.hex()[:12]}"), name)
            connection.execute(
                "UPDATE files SET custom_id = ?, state = 0, row = NULL, stamp = NULL, sha256 = NULL WHERE id = ?",
                (custom_id, index),
            )

    def resend_unfinished(self) -> None:
        """Schedule every sent file without a result again, because its submission no longer exists."""
        self._change("UPDATE files SET state = ? WHERE state = ?", _TO_SEND, _SENT)

    def prediction_of(self, sha256: bytes) -> ResultRow | None:
        """The prediction of a file with this content, if the run has one."""
        for (text,) in self._all("SELECT row FROM files WHERE sha256 = ? AND state = ?", sha256, _DONE):
            if (row := _row(text)).succeeded:
                return row
        return None

    def to_send(self, after: int, limit: int) -> list[Entry]:
        """The next files to send, with an index greater than `after`."""
        query = "SELECT id, path, name, custom_id FROM files WHERE state = 0 AND id > ? ORDER BY id LIMIT ?"
        return [_entry(*found) for found in self._all(query, after, limit)]

    def begin_sending(self, files: Iterable[tuple[int, str, bytes]]) -> None:
        """Store index, stamp and hash of files before they are sent."""
        with self._transaction() as connection:
            values = [(stamp, sha256, index) for index, stamp, sha256 in files]
            connection.executemany("UPDATE files SET stamp = ?, sha256 = ? WHERE id = ?", values)

    def mark_sent(self, indexes: Iterable[int]) -> None:
        """Record that the gateway accepted files."""
        with self._transaction() as connection:
            values = [(_SENT, index) for index in indexes]
            connection.executemany("UPDATE files SET state = max(state, ?) WHERE id = ?", values)

    def finish(self, index: int, row: ResultRow) -> ResultRow | None:
        """Store the result of a file without a job, and return it with the file's name; None if it already has one."""
        with self._transaction() as connection:
            name, state = connection.execute("SELECT name, state FROM files WHERE id = ?", (index,)).fetchone()
            if state == _DONE:
                return None
            return _store(connection, index, name, row)

    def record(self, results: Sequence[tuple[str, ResultRow]], cursor: int) -> list[tuple[int, ResultRow]]:
        """Store results by `custom_id`, and the cursor up to which they were read; returns the new ones."""
        new = []
        with self._transaction() as connection:
            for custom_id, row in results:
                query = "SELECT id, name FROM files WHERE custom_id = ? AND state < ?"
                if found := connection.execute(query, (custom_id, _DONE)).fetchone():
                    index, name = found
                    new.append((index, _store(connection, index, name, row)))
            connection.execute("INSERT OR REPLACE INTO notes VALUES ('cursor', ?)", (str(cursor),))
        return new

    def total(self) -> int:
        """Number of files."""
        return int(self._value("SELECT count(*) FROM files") or 0)

    def sent_count(self) -> int:
        """Number of files that the gateway accepted or that have a result."""
        return int(self._value("SELECT count(*) FROM files WHERE state > ?", _TO_SEND) or 0)

    def is_complete(self) -> bool:
        """Whether every file has a result."""
        return self._value("SELECT 1 FROM files WHERE state < ? LIMIT 1", _DONE) is None

    def waiting(self, limit: int) -> list[Entry]:
        """Files that were sent and have no result."""
        query = "SELECT id, path, name, custom_id FROM files WHERE state = 1 ORDER BY id LIMIT ?"
        return [_entry(*found) for found in self._all(query, limit)]

    def rows(self) -> Iterator[tuple[Entry, ResultRow]]:
        """Every file with a result, in the order found; do not change the state while iterating."""
        query = "SELECT id, path, name, custom_id, row FROM files WHERE state = 2 ORDER BY id"
        for *entry, row in self._opened().execute(query):
            yield _entry(*entry), _row(row)

    def _prepare(self) -> None:
        # Keeps the lock until the file is closed, so that a second run on the same file fails.
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # Survives a killed process; a power cut may lose the last transactions, but does not corrupt the file.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with self._transaction() as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _TABLES.strip().split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO notes VALUES ('schema', ?)", (_SCHEMA,))
        if self._value("SELECT value FROM notes WHERE name = 'schema'") != _SCHEMA:
            raise sqlite3.DatabaseError("written by another version")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._opened() as connection:
                connection.execute("BEGIN EXCLUSIVE")
                yield connection
        except sqlite3.OperationalError as error:
            raise ClientError(_unusable(self._path, error)) from error

    def _change(self, statement: str, *values: object) -> None:
        with self._transaction() as connection:
            connection.execute(statement, values)

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._opened().execute(query, values).fetchall()

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        found = self._all(query, *values)
        return found[0] if found else None

    def _value(self, query: str, *values: object) -> Any:
        found = self._one(query, *values)
        return None if found is None else found[0]

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("The state of this run is closed.")
        return self._connection

    def _unused_custom_id(self, custom_id: str, name: str) -> str:
        """The `custom_id`, or a numbered one if another file has it already."""
        candidate, number = custom_id, 1
        while self._one("SELECT 1 FROM files WHERE custom_id = ?", candidate):
            number += 1
            candidate = custom_id_of(f"{name}~{number}")
        return candidate


def custom_id_of(name: str) -> str:
    """The `custom_id` for a file: its name if that is a plain relative path, else a hash and the end of the name.

    Gateways reject names that could escape from an archive.
    """
    parts = name.split("/")
    is_plain = name.isprintable() and all(parts) and not {".", ".."} & set(parts) and not {"\\", ":"} & set(name)
    if is_plain and len(name) <= _CUSTOM_ID_MAX_CHARS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    readable = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in parts[-1])
    return f"{digest}-{readable[-100:]}"


def _store(connection: sqlite3.Connection, index: int, name: str, row: ResultRow) -> ResultRow:
    named = replace(row, file=name)
    text = json.dumps([getattr(named, column) for column in CSV_COLUMNS])
    connection.execute("UPDATE files SET state = ?, row = ? WHERE id = ?", (_DONE, text, index))
    return named


def _row(text: str) -> ResultRow:
    return ResultRow(*json.loads(text))


def _entry(index: int, path: bytes, name: str, custom_id: str) -> Entry:
    text = os.fsdecode(path)
    if is_address(text):
        return Entry(index, path_of(text), name, custom_id, text)
    return Entry(index, Path(text), name, custom_id)


def _unusable(path: Path | None, error: sqlite3.Error) -> str:
    if isinstance(error, sqlite3.OperationalError):
        if "locked" in str(error):
            return f"Another run is using {path}. Wait until it has finished, or write the results to another file."
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            return f"The disk of {path} is full. Free some space."
        return f"Cannot write {path} ({error}). Write the results to another folder."
    return f"{path} is not the state file of a run ({error}). Delete it to start a new run."
