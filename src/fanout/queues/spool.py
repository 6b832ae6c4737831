"""The spool of a queue: which message has which sequence number, on disk before its record is sent.

Entry n of the file ``messages`` is the hash of the id of record n's message, 16 bytes, append-only. The
index beside it, for the way back from id to number, is made of it anew whenever a run begins or goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from fanout.errors import JournalError

MESSAGES_FILE = "messages"
_INDEX_FILE = "messages.index"
_ENTRY_BYTES = 16
_READ_ENTRIES = 50_000
_UNKNOWN = bytes(_ENTRY_BYTES)


class MessageSpool:
    """The numbers of a run's messages. Opening and ``sync`` block; the rest takes microseconds.

    ``at_least`` is one more than the highest number that the journal knows: after a loss of power the
    file may be shorter, and a number is never given out twice. Raises JournalError when the directory
    cannot be written. Not for use by several threads, but for ``sync``.
    """

    def __init__(self, directory: Path, *, at_least: int = 0) -> None:
        self._path = directory / MESSAGES_FILE
        self._index_path = directory / _INDEX_FILE
        self._is_dirty = False
        with contextlib.ExitStack() as opened:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
                opened.callback(os.close, self._file)
                size = os.fstat(self._file).st_size
                os.ftruncate(self._file, size - size % _ENTRY_BYTES)
                self._index_path.unlink(missing_ok=True)
                os.close(os.open(self._index_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                self._index = sqlite3.connect(self._index_path, isolation_level=None, check_same_thread=False)
                opened.callback(self._index.close)
                for statement in (
                    "PRAGMA journal_mode=OFF",
                    "PRAGMA synchronous=OFF",
                    "PRAGMA locking_mode=EXCLUSIVE",
                    "PRAGMA cache_size=-16000",
                    "CREATE TABLE messages(id BLOB PRIMARY KEY, seq INTEGER) WITHOUT ROWID",
                    "BEGIN",
                ):
                    self._index.execute(statement)
                self._count = self._read()
                if self._count < at_least:
                    self._append(_UNKNOWN * (at_least - self._count))
                    self._count = at_least
            except (OSError, sqlite3.Error) as error:
                raise self._fault(error) from error
            opened.pop_all()

    def __len__(self) -> int:
        """The number of messages that have a seq; the next one gets this."""
        return self._count

    def find(self, message_ids: Sequence[str]) -> dict[str, int]:
        """The numbers of those messages that have one."""
        hashes = {_hash(message_id): message_id for message_id in message_ids}
        asked = ",".join("?" * len(hashes))
        try:
            rows = self._index.execute(f"SELECT id, seq FROM messages WHERE id IN ({asked})", tuple(hashes))  # noqa: S608 - question marks alone
            return {hashes[bytes(found)]: seq for found, seq in rows}
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def note(self, message_ids: Sequence[str]) -> int:
        """Give messages that have none the next numbers, in order; returns the first.

        On return the operating system has them, so that they outlive the process.
        """
        first = self._count
        hashes = [_hash(message_id) for message_id in message_ids]
        try:
            self._append(b"".join(hashes))
            self._index.executemany(
                "INSERT OR REPLACE INTO messages VALUES(?,?)",
                ((each, seq) for seq, each in enumerate(hashes, first)),
            )
        except (OSError, sqlite3.Error) as error:
            raise self._fault(error) from error
        self._count = first + len(hashes)
        return first

    def sync(self) -> None:
        """Put the numbers on the disk itself."""
        if self._is_dirty:
            self._is_dirty = False
            try:
                os.fsync(self._file)
            except OSError as error:
                self._is_dirty = True
                raise self._fault(error) from error

    def close(self) -> None:
        """Close the file and remove the index."""
        self._index.close()
        with contextlib.suppress(OSError):
            self._index_path.unlink()
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        self._is_dirty = True
        size = os.fstat(self._file).st_size
        if os.write(self._file, data) != len(data):
            os.ftruncate(self._file, size)
            raise OSError(28, "no space left on the disk")

    def _read(self) -> int:
        """Index what the file holds; returns how many entries. A later entry of one id wins."""
        count = 0
        with self._path.open("rb") as file:
            while data := file.read(_READ_ENTRIES * _ENTRY_BYTES):
                ids = [data[at : at + _ENTRY_BYTES] for at in range(0, len(data), _ENTRY_BYTES)]
                rows = ((each, seq) for seq, each in enumerate(ids, count) if each != _UNKNOWN)
                self._index.executemany("INSERT OR REPLACE INTO messages VALUES(?,?)", rows)
                count += len(ids)
        return count

    def _fault(self, error: Exception) -> JournalError:
        return JournalError(f"{self._path} cannot be written: {getattr(error, 'strerror', None) or error}")


def count_messages(directory: Path) -> int:
    """The number of messages of a run that have a seq; 0 without a spool."""
    try:
        return (directory / MESSAGES_FILE).stat().st_size // _ENTRY_BYTES
    except OSError:
        return 0


def _hash(message_id: str) -> bytes:
    return hashlib.blake2b(message_id.encode(), digest_size=_ENTRY_BYTES).digest()
