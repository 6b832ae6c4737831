"""The accepted calls of a run by request id, on disk: memory stays flat at ten million.

Made of the journal's lines in order, and kept beside it (``results.index``): the offset up to which the
journal was read stands in it, so that later lines alone are read when a collection goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fanout.errors import JournalError
from fanout.journal import LineFault, StoredOutcome, decode_line
from fanout.model import ErrorDetail, Outcome, Status

INDEX_FILE = "results.index"
RESULT_MISSING = "ResultMissing"  # the error of a record whose result never came: it stays open
_LINES_AT_ONCE = 2000


class CallLine(msgspec.Struct):
    """The members of a journal's line that say which call it is of."""

    seq: int
    status: Status
    request_id: str | None = None
    error: ErrorDetail | None = None


_CALLS = "seq INTEGER PRIMARY KEY, request_id TEXT, at INTEGER, is_open INTEGER"
_stored = msgspec.json.Decoder(StoredOutcome)
_lines = msgspec.json.Decoder(CallLine)


class OpenCall(msgspec.Struct, frozen=True):
    """A record whose newest outcome is ``accepted``. ``at`` is where that line begins in the journal."""

    seq: int
    at: int


class AcceptedCalls:
    """The index of the journal at ``journal``, which is read by ``update``. Raises JournalError.

    ``open_count`` is how many records wait for a result.

    Of a record the newest ``accepted`` line counts; it is open until another line of the record follows.
    Not for use by several threads at once.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = journal.with_name(INDEX_FILE)
        self._database = self._open_or_renew()
        try:
            if not self._is_of_this_journal():  # it lost what was not on the disk
                self._renew()
            self.open_count = self._one("SELECT count(*) FROM calls WHERE is_open=1")
        except BaseException:
            self._database.close()
            raise

    def update(self) -> int:
        """Read what the journal has become since; returns how many lines. Blocks."""
        count = 0
        offset = self._one("SELECT value FROM state WHERE name='offset'")
        try:
            with self._journal.open("rb", buffering=1 << 20) as file:
                file.seek(offset)
                while True:
                    lines = list(itertools.islice(file, _LINES_AT_ONCE))
                    if lines and not lines[-1].endswith(b"\n"):
                        lines.pop()
                    if not lines:
                        return count
                    offset = self._add(lines, offset)
                    count += len(lines)
        except OSError as error:
            raise JournalError(f"{self._journal} cannot be read: {error.strerror}") from error

    def find(self, request_id: str) -> tuple[list[OpenCall], bool]:
        """The open records of a call, and whether the call is this run's at all."""
        rows = self._rows("SELECT seq, at, is_open FROM calls WHERE request_id=?", request_id)
        calls = [OpenCall(seq, at) for seq, at, is_open in rows if is_open]
        is_known = bool(rows) or bool(self._rows("SELECT 1 FROM stale WHERE request_id=?", request_id))
        return calls, is_known

    def open_call(self, seq: int) -> OpenCall | None:
        """The call of one record, if it waits for a result."""
        rows = self._rows("SELECT seq, at FROM calls WHERE seq=? AND is_open=1", seq)
        return OpenCall(*rows[0]) if rows else None

    def newest_line(self) -> Outcome | None:
        """The outcome of the call that was accepted last, of those that wait for a result."""
        self.update()
        rows = self._rows("SELECT seq, at FROM calls WHERE is_open=1 AND at>=? ORDER BY at DESC LIMIT 1", 0)
        return decode_line(self.line_of(OpenCall(*rows[0])), _stored) if rows else None

    def line_of(self, call: OpenCall) -> bytes:
        """The ``accepted`` line of an open record."""
        try:
            with self._journal.open("rb") as file:
                file.seek(call.at)
                return file.readline()
        except OSError as error:
            raise JournalError(f"{self._journal} cannot be read: {error.strerror}") from error

    def open_calls(self) -> Iterator[OpenCall]:
        """All records that wait for a result, by seq, a thousand at a time."""
        after = -1
        query = "SELECT seq, at FROM calls WHERE is_open=1 AND seq>? ORDER BY seq LIMIT 1000"
        while rows := self._rows(query, after):
            for seq, at in rows:
                after = seq
                yield OpenCall(seq, at)

    def close(self) -> None:
        """Close the file; it stays for the next collection."""
        self._database.close()

    def _add(self, lines: list[bytes], offset: int) -> int:
        """Take whole lines that begin at ``offset``; returns where the last one ends."""
        execute = self._database.execute
        opened = 0
        try:
            execute("BEGIN")
            for raw in lines:
                line = decode_line(raw, _lines)
                if line.status == "accepted" and line.request_id is not None:
                    if execute(
                        "INSERT INTO stale SELECT request_id FROM calls WHERE seq=?", (line.seq,)
                    ).rowcount:
                        opened -= self._close(line.seq)
                    opened += 1
                    execute(
                        "INSERT OR REPLACE INTO calls VALUES(?,?,?,1)", (line.seq, line.request_id, offset)
                    )
                elif line.error is None or line.error.type != RESULT_MISSING:
                    opened -= self._close(line.seq)
                offset += len(raw)
            self._database.executemany(
                "UPDATE state SET value=? WHERE name=?",
                [(offset, "offset"), (offset - len(lines[-1]), "last_at"), (_hash(lines[-1]), "last")],
            )
            execute("COMMIT")
        except (sqlite3.Error, LineFault) as error:
            with contextlib.suppress(sqlite3.Error):
                execute("ROLLBACK")
            raise self._fault(error) from error
        self.open_count += opened
        return offset

    def _close(self, seq: int) -> int:
        query = "UPDATE calls SET is_open=0 WHERE seq=? AND is_open=1"
        return self._database.execute(query, (seq,)).rowcount

    def _is_of_this_journal(self) -> bool:
        """True if the line that was read last stands where it stood."""
        kept = dict(self._rows("SELECT name, value FROM state WHERE name<>?", ""))
        offset, last_at = int(kept["offset"]), int(kept["last_at"])
        if not offset:
            return True
        try:
            with self._journal.open("rb") as file:
                file.seek(last_at)
                return bool(_hash(file.read(offset - last_at)) == kept["last"])
        except OSError as error:
            raise JournalError(f"{self._journal} cannot be read: {error.strerror}") from error

    def _open_or_renew(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError:  # damaged, or none of ours
            self._remove()
        try:
            return self._open()
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _renew(self) -> None:
        self._database.close()
        self._remove()
        self._database = self._open_or_renew()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            for statement in (
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=NORMAL",
                "PRAGMA cache_size=-16000",
                "CREATE TABLE IF NOT EXISTS state(name TEXT PRIMARY KEY, value)",
                f"CREATE TABLE IF NOT EXISTS calls({_CALLS})",
                "CREATE INDEX IF NOT EXISTS by_request ON calls(request_id)",
                "CREATE TABLE IF NOT EXISTS stale(request_id TEXT)",
                "CREATE INDEX IF NOT EXISTS stale_requests ON stale(request_id)",
                "INSERT OR IGNORE INTO state VALUES('offset',0),('last_at',0),('last',x'')",
            ):
                database.execute(statement)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _one(self, query: str) -> int:
        try:
            return int(self._database.execute(query).fetchone()[0])
        except (sqlite3.Error, TypeError) as error:
            raise self._fault(error) from error

    def _rows(self, query: str, value: object) -> list[Any]:
        try:
            return self._database.execute(query, (value,)).fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> JournalError:
        return JournalError(f"{self._path} cannot be used: {error}: remove it, and collect again")


def _hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
