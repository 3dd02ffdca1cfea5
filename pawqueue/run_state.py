"""What a run over many files has to remember: which files there are, what was sent of them, and what came back.

It lies in an SQLite file beside the results, so that a run that was killed at any moment can go on, and so that memory
does not grow with the number of files.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pawqueue.custom_ids import custom_id_of
from pawqueue.database import Database
from pawqueue.image import LoadedImage
from pawqueue.results import Row

#: Version of the file; another one is not read.
_SCHEMA = "1"
_TABLES = """
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
#: Written out in queries that an index of only some rows serves.
_TO_SEND, _SENT, _ENDED = 0, 1, 2
_COLUMNS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the run."""

    #: Its place in the order found, from 1.
    index: int
    path: Path
    #: As the results call it.
    name: str
    #: As the gateway knows it.
    custom_id: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a file that is met again."""

    index: int
    #: Of what was, or may have been, sent.
    stamp: str | None
    sha256: bytes | None
    status: str | None


class RunState:
    """The memory of one run; safe to share between threads. Each method is one transaction.

    Raises:
        ClientError: another run holds the file, or it is none of a run's.
    """

    def __init__(self, path: Path | None) -> None:
        self._database = Database(path, _SCHEMA, _TABLES)
        self.is_removed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def remove(self) -> None:
        """Forget the run."""
        self.is_removed = True
        self._database.remove()

    def note(self, name: str, value: str) -> None:
        """Remember a fact of the run."""
        with self._database.transaction() as database:
            database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> str | None:
        """Recall a fact of the run."""
        value: str | None = self._database.value("SELECT value FROM notes WHERE name = ?", name)
        return value

    def begin_submission(self, submission_id: str) -> None:
        """Remember under which id everything is sent from now on."""
        with self._database.transaction() as database:
            values = [("submission", submission_id), ("place", "0")]
            database.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", values)

    def add(self, files: Iterable[tuple[Path, str]]) -> None:
        """Add files, given by path and name, in this order; those known by their path stay as they are."""
        with self._database.transaction() as database:
            for path, name in files:
                where = os.fsencode(path)
                if database.execute("SELECT 1 FROM files WHERE path = ?", (where,)).fetchone() is None:
                    custom_id = self._free_custom_id(custom_id_of(name), name)
                    database.execute(
                        "INSERT INTO files (path, name, custom_id) VALUES (?, ?, ?)", (where, name, custom_id)
                    )

    def known(self, path: Path) -> Known | None:
        """Recall a file; None when it is new."""
        found = self._database.one("SELECT id, stamp, sha256, row FROM files WHERE path = ?", os.fsencode(path))
        if found is None:
            return None
        index, stamp, sha256, row = found
        return Known(index, stamp, sha256, _row(row).status if row else None)

    def restamp(self, index: int, stamp: str) -> None:
        """Note that a file was touched but holds what it held."""
        self._database.change("UPDATE files SET stamp = ? WHERE id = ?", stamp, index)

    def send_again(self, index: int, sha256: bytes | None = None) -> None:
        """Let a file be sent anew: under another `custom_id` when it holds something else now, whose hash is given."""
        with self._database.transaction() as database:
            query = "SELECT name, custom_id FROM files WHERE id = ?"
            name, custom_id = database.execute(query, (index,)).fetchone()
            if sha256 is not None:
                custom_id = self._free_custom_id(custom_id_of(f"{name}@{sha256.hex()[:12]}"), name)
            database.execute(
                "UPDATE files SET custom_id = ?, state = 0, row = NULL, stamp = NULL, sha256 = NULL WHERE id = ?",
                (custom_id, index),
            )

    def result_of(self, sha256: bytes) -> Row | None:
        """A prediction that a file of the same content has got in this run."""
        for (text,) in self._database.all("SELECT row FROM files WHERE sha256 = ? AND state = ?", sha256, _ENDED):
            if (row := _row(text)).succeeded:
                return row
        return None

    def forget_sent(self) -> int:
        """Let everything without a result be sent anew, because nobody else remembers it; how many that are."""
        return self._database.change("UPDATE files SET state = ? WHERE state = ?", _TO_SEND, _SENT)

    def to_send(self, after: int, limit: int) -> list[Entry]:
        """The next files to send behind the `after`-th."""
        query = "SELECT id, path, name, custom_id FROM files WHERE state = 0 AND id > ? ORDER BY id LIMIT ?"
        return [_entry(*found) for found in self._database.all(query, after, limit)]

    def sending(self, images: Iterable[LoadedImage]) -> None:
        """Remember what the gateway is about to get."""
        with self._database.transaction() as database:
            database.executemany(
                "UPDATE files SET stamp = ?, sha256 = ? WHERE id = ?",
                [(image.stamp, image.sha256, image.index) for image in images],
            )

    def sent(self, images: Iterable[LoadedImage]) -> None:
        """Remember what the gateway has taken."""
        with self._database.transaction() as database:
            database.executemany(
                "UPDATE files SET state = max(state, ?) WHERE id = ?", [(_SENT, image.index) for image in images]
            )

    def ended(self, index: int, row: Row) -> Row | None:
        """Remember the result of a file that became no job; returns it with the file's name, None if it is known."""
        with self._database.transaction() as database:
            name, state = database.execute("SELECT name, state FROM files WHERE id = ?", (index,)).fetchone()
            if state == _ENDED:
                return None
            named = replace(row, file=name)
            database.execute("UPDATE files SET state = ?, row = ? WHERE id = ?", (_ENDED, _text(named), index))
        return named

    def record(self, job_results: Sequence[tuple[str, Row]], place: int) -> list[tuple[int, Row]]:
        """Remember results by `custom_id`, and how far the results were read; returns those that are news."""
        news = []
        with self._database.transaction() as database:
            for custom_id, row in job_results:
                query = "SELECT id, name FROM files WHERE custom_id = ? AND state < ?"
                found = database.execute(query, (custom_id, _ENDED)).fetchone()
                if found:
                    index, name = found
                    named = replace(row, file=name)
                    database.execute("UPDATE files SET state = ?, row = ? WHERE id = ?", (_ENDED, _text(named), index))
                    news.append((index, named))
            database.execute("INSERT OR REPLACE INTO notes VALUES ('place', ?)", (str(place),))
        return news

    def total(self) -> int:
        """Files of the run."""
        return int(self._database.value("SELECT count(*) FROM files") or 0)

    def sent_count(self) -> int:
        """Files that the gateway has, with or without a result."""
        return int(self._database.value("SELECT count(*) FROM files WHERE state > ?", _TO_SEND) or 0)

    def waiting(self, limit: int) -> list[Entry]:
        """Files that were sent and have no result."""
        query = "SELECT id, path, name, custom_id FROM files WHERE state = 1 ORDER BY id LIMIT ?"
        return [_entry(*found) for found in self._database.all(query, limit)]

    def rows(self) -> Iterator[tuple[Entry, Row]]:
        """Every file that has a result, in the order found."""
        query = "SELECT id, path, name, custom_id, row FROM files WHERE state = 2 ORDER BY id"
        for *entry, row in self._database.each(query):
            yield _entry(*entry), _row(row)

    def _free_custom_id(self, custom_id: str, name: str) -> str:
        """The `custom_id`, or one like it where two names look the same once they are made safe."""
        taken, number = custom_id, 1
        while self._database.one("SELECT 1 FROM files WHERE custom_id = ?", taken):
            number += 1
            taken = custom_id_of(f"{name}~{number}")
        return taken


def _entry(index: int, path: bytes, name: str, custom_id: str) -> Entry:
    return Entry(index, Path(os.fsdecode(path)), name, custom_id)


def _text(row: Row) -> str:
    return json.dumps([getattr(row, column) for column in _COLUMNS])


def _row(text: str) -> Row:
    return Row(*json.loads(text))
