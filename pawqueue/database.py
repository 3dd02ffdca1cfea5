"""An SQLite file that one program holds: short transactions, several threads, a sentence where it cannot be used."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pawqueue.errors import ClientError

#: `NORMAL` survives a power cut whole; a killed process loses nothing in either case.
SYNCHRONOUS = "NORMAL"
_NOTES = "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)"


class Database:
    """The tables of `tables`, made where the file is new; without a path they end with the program.

    Raises:
        ClientError: another program holds the file, or it holds something else.
    """

    def __init__(self, path: Path | None, schema: str, tables: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._closed = False
        self._connection = sqlite3.connect(path or "", timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(schema, tables)
        except sqlite3.DatabaseError as error:
            self.close()
            raise ClientError(_unusable(path, error)) from error

    def close(self) -> None:
        """Let the file go, once no thread is at it; whoever comes later gets `sqlite3.ProgrammingError`."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        if self._path:
            self._path.unlink(missing_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; what is done with it counts whole or not at all."""
        with self._lock, self._open() as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield connection

    def change(self, statement: str, *values: object) -> int:
        """Run one statement in a transaction; how many rows it changed."""
        with self.transaction() as connection:
            return connection.execute(statement, values).rowcount

    def each(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query one by one, while nothing else is done."""
        yield from self._open().execute(query, values)

    def all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._lock:
            return self._open().execute(query, values).fetchall()

    def one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """The first row of a query; None when there is none."""
        found = self.all(query, *values)
        return found[0] if found else None

    def value(self, query: str, *values: object) -> Any:
        """The first value of the first row of a query; None when there is none."""
        found = self.one(query, *values)
        return None if found is None else found[0]

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("The memory of this run is closed.")
        return self._connection

    def _prepare(self, schema: str, tables: str) -> None:
        # Held to the end: a second program on the same file is told so.
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        with self.transaction() as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in (_NOTES, *tables.split(";\n")):
                    connection.execute(statement)
                connection.execute("INSERT INTO notes VALUES ('schema', ?)", (schema,))
        if self.value("SELECT value FROM notes WHERE name = 'schema'") != schema:
            raise sqlite3.DatabaseError("written by another version")


def _unusable(path: Path | None, error: sqlite3.Error) -> str:
    if isinstance(error, sqlite3.OperationalError):
        if "locked" in str(error):
            return f"Another run is using {path}; let it end, or give this one another file for its results."
        return f"{path} cannot be written ({error}); give a place for the results that can."
    return f"{path} is no memory of a run ({error}); delete it, and the run starts anew."
