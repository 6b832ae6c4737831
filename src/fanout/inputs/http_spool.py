"""The body of a URL that cannot be taken up again: copied to a temporary file as fast as it comes.

A server that hangs up on a slow reader then loses nothing: the run reads the file, at its own pace.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import threading

from fanout.errors import SourceError
from fanout.inputs.readers import CHUNK_BYTES


class BodySpool:
    """One body. A daemon thread copies it; ``read`` waits for bytes that have not come yet.

    The file has no name, and is gone with ``close``.
    """

    def __init__(self, reply: http.client.HTTPResponse, bytes_total: int | None) -> None:
        self._reply = reply
        self._bytes_total = bytes_total
        self._fault: SourceError | None = None
        self._written = 0
        self._has_ended = self._is_closed = False
        self._changed = threading.Condition()
        try:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open until ``close``
        except OSError as error:
            reply.close()
            raise _no_room(error) from error
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
            return os.pread(self._file.fileno(), min(there, CHUNK_BYTES), offset)

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
                    view = memoryview(chunk)
                    while view:
                        view = view[self._file.write(view) or 0 :]
                except OSError as error:
                    fault = _no_room(error)
                    break
                with self._changed:
                    self._written += len(chunk)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            fault = SourceError(f"broke off: {str(error) or type(error).__name__}")
        total = self._bytes_total
        if fault is None and total is not None and self._written < total:
            fault = SourceError(f"broke off: {self._written:,} of {total:,} bytes came")
        self._reply.close()
        with self._changed:
            self._fault, self._has_ended = fault, True
            self._changed.notify_all()
            if self._is_closed:
                self._file.close()


def _no_room(error: OSError) -> SourceError:
    return SourceError(
        f"cannot be copied to a temporary file: {error.strerror or error}: make room, or set TMPDIR"
    )
