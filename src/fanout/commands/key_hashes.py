"""Duplicates among any number of keys: their hashes stand in a temporary file, and are sorted there."""

from __future__ import annotations

import hashlib
import sqlite3

from fanout.errors import SourceError

_HELD = 4096  # hashes in memory before they are written
_HASH_BYTES = 16


class KeyHashes:
    """Counts keys that came before. Memory does not grow with their number; the file goes with ``close``."""

    def __init__(self) -> None:
        self._held: list[tuple[bytes]] = []
        self._database: sqlite3.Connection | None = None

    def add(self, key: str) -> None:
        """One more key."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()
        self._held.append((digest,))
        if len(self._held) >= _HELD:
            self._write()

    def duplicates(self) -> int:
        """The number of keys that an earlier record had."""
        if self._database is None:
            return len(self._held) - len(set(self._held))
        self._write()
        try:
            (found,) = self._database.execute(
                "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM keys GROUP BY hash)"
            ).fetchone()
        except sqlite3.Error as error:
            raise _no_room(error) from error
        return int(found)

    def close(self) -> None:
        """Remove the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _write(self) -> None:
        try:
            if self._database is None:
                # No name: a temporary file of SQLite's own, which is there as long as it is open.
                self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
                for statement in (
                    "PRAGMA journal_mode = OFF",
                    "PRAGMA synchronous = OFF",
                    "PRAGMA cache_size = -4096",
                    "PRAGMA temp_store = FILE",
                    "CREATE TABLE keys (hash BLOB NOT NULL)",
                ):
                    self._database.execute(statement)
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO keys VALUES (?)", self._held)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise _no_room(error) from error
        self._held.clear()


def _no_room(error: sqlite3.Error) -> SourceError:
    return SourceError(
        f"the keys' hashes cannot be kept in a temporary file: {error}: make room, or set SQLITE_TMPDIR"
    )
