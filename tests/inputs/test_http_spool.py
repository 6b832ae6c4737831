"""The copy of an HTTP body: a full disk, a reply that breaks off, a reader that leaves early."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from fanout.errors import SourceError
from fanout.inputs.http_spool import BodySpool


class _Reply:
    """A body in pieces; an exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = list(pieces)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_closed = threading.Event()

    def read1(self, _: int) -> bytes:
        self.may_go_on.wait(60)
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.is_closed.set()


def _spool(reply: _Reply, total: int | None = None, path: Path | None = None) -> BodySpool:
    return BodySpool(cast(Any, reply), total, path)


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """And the connection is given back."""
    reply = _Reply()
    with pytest.raises(
        SourceError, match=r"cannot be copied to .*spool: No such file or directory: make room$"
    ):
        _spool(reply, path=tmp_path / "missing" / "spool")
    assert reply.is_closed.is_set()


def test_a_full_disk_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was copied before is read first."""

    def refuse(self: BodySpool, chunk: bytes, keep: Any = BodySpool._keep) -> None:
        if chunk == b"b":
            raise OSError(errno.ENOSPC, "No space left on device")
        keep(self, chunk)

    monkeypatch.setattr(BodySpool, "_keep", refuse)
    spool = _spool(_Reply(b"a", b"b", b"c"))
    assert spool.read(0) == b"a"
    with pytest.raises(
        SourceError, match="temporary file: No space left on device: make room, or set TMPDIR"
    ):
        spool.read(1)
    spool.close()


@pytest.mark.parametrize(
    ("pieces", "total", "said"),
    [
        ([b"a", OSError("gone")], None, "broke off: gone"),
        ([b"a", TimeoutError()], None, "broke off: TimeoutError"),
    ],
)
def test_a_reply_that_breaks_off(pieces: list[Any], total: int | None, said: str) -> None:
    """Whatever is raised is an end that the reader hears of."""
    spool = _spool(_Reply(*pieces), total)
    assert spool.read(0) == b"a"
    with pytest.raises(SourceError, match=said):
        spool.read(1)
    spool.close()


def test_a_reader_that_leaves_early_ends_the_copy() -> None:
    """Who waits for bytes gets none, and the copying thread ends by itself."""
    reply = _Reply(b"a", b"b")
    reply.may_go_on.clear()
    spool = _spool(reply)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(spool.read(0)))
    reader.start()
    spool.close()
    reader.join(60)
    assert got == [b""]
    reply.may_go_on.set()
    assert reply.is_closed.wait(60)
