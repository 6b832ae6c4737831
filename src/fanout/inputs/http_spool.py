"""The body of a URL that cannot be taken up again: copied to a file as fast as it comes.

A server that hangs up on a slow reader then loses nothing: the run reads the file, at its own pace.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from fanout.errors import SourceError
from fanout.inputs.readers import CHUNK_BYTES, mark_end
from fanout.private_files import opener


class BodySpool:
    """One body. A daemon thread copies it; ``read`` waits for bytes that have not come yet.

    Into ``path``, which must not exist, and which is then marked as whole; without it into a
    temporary file that is gone with ``close``.
    """

    def __init__(
        self, reply: http.client.HTTPResponse, bytes_total: int | None, path: Path | None = None
    ) -> None:
        self._path = path
        self._reply = reply
        self._bytes_total = bytes_total
        self._fault: SourceError | None = None
        self._written = 0
        self._has_ended = self._is_closed = False
        self._changed = threading.Condition()
        try:
            self._file: Any = (
                tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open until ``close``
                if path is None
                else FileIO(path, "x+b", opener=opener)
            )
        except OSError as error:
            reply.close()
            raise self._no_room(error) from error
        threading.Thread(target=self._copy, name="fanout-download", daemon=True).start()

    def read(self, offset: int) -> bytes:
        """The bytes from there on, as many as there are now; none at the end. Raises SourceError."""
        with self._changed:
            while self._written <= offset and not self._has_ended and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return b""
            there = self._written - offset
            if not there and self._fault is not None:
                raise self._fault
            self._file.seek(offset)
            chunk: bytes = self._file.read(min(there, CHUNK_BYTES))
            return chunk

    def close(self) -> None:
        """Copy no more; a ``read`` that waits returns. Harmless the second time."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if self._has_ended:
                self._file.close()

    def _copy(self) -> None:
        fault: SourceError | None = None
        try:
            while not self._is_closed and (chunk := self._reply.read1(CHUNK_BYTES)):
                try:
                    self._keep(chunk)
                except OSError as error:
                    fault = self._no_room(error)
                    break
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            fault = SourceError(f"broke off: {str(error) or type(error).__name__}")
        total = self._bytes_total
        if fault is None and total is not None and self._written < total:
            fault = SourceError(f"broke off: {self._written:,} of {total:,} bytes came")
        self._reply.close()
        with self._changed:
            if fault is None and not self._is_closed and self._path is not None:
                with suppress(OSError):  # without the mark, a resume reads the URL again
                    os.fsync(self._file.fileno())
                    mark_end(self._path)
            self._fault, self._has_ended = fault, True
            self._changed.notify_all()
            if self._is_closed:
                self._file.close()

    def _keep(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        with self._changed:
            self._file.seek(self._written)
            while view:
                view = view[self._file.write(view) or 0 :]
            self._written += len(chunk)
            self._changed.notify_all()

    def _no_room(self, error: OSError) -> SourceError:
        where, hint = ("a temporary file", ", or set TMPDIR") if self._path is None else (self._path, "")
        return SourceError(f"cannot be copied to {where}: {error.strerror or error}: make room{hint}")
