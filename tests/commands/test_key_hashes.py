"""Duplicates among keys, counted by their hashes."""

from __future__ import annotations

import pytest

from fanout.commands.key_hashes import KeyHashes
from fanout.errors import SourceError


def test_keys_are_counted_on_the_disk_or_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file that fails is the user's to make room for."""
    monkeypatch.setattr("fanout.commands.key_hashes._HELD", 2)
    hashes = KeyHashes()
    for key in ("a", "b", "a", "\ud800", "a"):
        hashes.add(key)
    assert hashes.duplicates() == 2
    assert hashes._database is not None
    hashes._database.close()
    with pytest.raises(SourceError, match=r"cannot be kept in a temporary file: .*set SQLITE_TMPDIR"):
        hashes.duplicates()
    hashes.close()
