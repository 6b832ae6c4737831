"""Inputs read from a URL: one GET, streamed, its status and length checked, taken up again where it broke."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from string import punctuation
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fanout.errors import SourceError
from fanout.inputs.delays import Delays
from fanout.inputs.http_spool import BodySpool
from fanout.inputs.readers import CHUNK_BYTES
from fanout.patience import Patience, asked_wait_s

_SILENCE_S = 60.0  # the body may have to be computed
_SILENCE_AGAIN_S = 15.0  # of a server that has sent some of it
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


def _as_sent(url: str) -> tuple[str, str | None]:
    """The URL as it is asked for, and a header with its ``user:password@``, which urllib takes for the host.

    As in a browser, what no request line can carry is percent-encoded, and what is so already stays.
    """
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    path, query = (quote(each, safe=punctuation, errors="surrogateescape") for each in parts[2:4])
    url = urlunsplit((parts.scheme, host, path, query, ""))
    if not user:
        return url, None
    name, _, password = user.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}"
    return url, f"Basic {b64encode(pair.encode(errors='surrogateescape')).decode()}"


class HttpReader:
    """The body of a URL. Proxies and certificates as the standard library finds them in the environment.

    A reading that breaks off goes on with Range and If-Range, where the server gave an ETag or a date;
    otherwise the body is copied to a file as fast as it comes: to ``spool``, or a temporary one.
    """

    def __init__(self, url: str, spool: Path | None = None, *, delays: Delays | None = None) -> None:
        self._delays = delays
        self._spool_path = spool
        self.notices: list[str] = []
        self.bytes_read = 0
        self.bytes_total: int | None = None
        self._url = url
        self._reply: http.client.HTTPResponse | None = None
        self._validator: str | None = None
        self._validated_by = ""  # the name of its header
        self._is_over = False
        self._spool: BodySpool | None = None

    def read(self) -> bytes:
        """The next bytes. Raises SourceError for any status but 200, and for a body that stays cut short."""
        if self._is_over:
            return b""
        patience = Patience()
        while True:
            asked_s: float | None = None
            try:
                if self._reply is None and self._spool is None:
                    self._open()
                if self._spool is not None:
                    return self._spooled(self._spool)
                assert self._reply is not None
                chunk = self._reply.read1(CHUNK_BYTES)
            except urllib.error.HTTPError as error:
                error.close()
                fault = SourceError(f"answers HTTP {error.code} {error.reason}")
                asked_s = asked_wait_s(error.headers.get("Retry-After"))
                if error.code not in _PASSING or (not self.bytes_read and asked_s is None):
                    raise fault from error
            except urllib.error.URLError as error:
                fault = SourceError(f"cannot be read: {error.reason}")
                if not self.bytes_read:
                    raise fault from error
            except (OSError, http.client.HTTPException) as error:
                fault = SourceError(f"broke off: {' '.join(str(error).split()) or type(error).__name__}")
            else:
                if chunk or self.bytes_total is None or self.bytes_read >= self.bytes_total:
                    self.bytes_read += len(chunk)
                    self._is_over = not chunk
                    return chunk
                fault = SourceError(f"broke off: {self.bytes_read:,} of {self.bytes_total:,} bytes came")
            self.close()
            may_go_on = self._validator is not None or asked_s is not None
            wait_s = patience.wait_s(time.monotonic(), asked_s=asked_s or 0.0) if may_go_on else None
            if wait_s is None:
                raise fault
            if self._delays is not None:
                self._delays.repeats(time.monotonic(), str(fault), wait_s)
            time.sleep(wait_s)  # in the reader's own thread

    def _spooled(self, spool: BodySpool) -> bytes:
        chunk = spool.read(self.bytes_read)
        self.bytes_read += len(chunk)
        self._is_over = not chunk
        return chunk

    def _open(self) -> None:
        reply = self._get()
        if self.bytes_read == 0:
            if reply.status != http.client.OK:
                reply.close()
                raise SourceError(f"answers HTTP {reply.status} {reply.reason}")
            self.bytes_total = reply.length
            etag = reply.headers.get("ETag")
            strong = etag if etag and not etag.startswith("W/") else None
            self._validator = strong or reply.headers.get("Last-Modified")
            self._validated_by = "ETag" if strong else "Last-Modified"
            if self._validator is None:
                self._spool = BodySpool(reply, self.bytes_total, self._spool_path)
                return
        elif reply.status == http.client.OK:
            self._pass_what_is_read(reply)
        elif reply.status != http.client.PARTIAL_CONTENT:
            reply.close()
            raise SourceError(f"answers HTTP {reply.status} {reply.reason}")
        elif not (reply.headers.get("Content-Range") or "").startswith(f"bytes {self.bytes_read}-"):
            reply.close()
            raise SourceError("answers with other bytes than those it was asked for")
        elif reply.headers.get(self._validated_by, self._validator) != self._validator:
            reply.close()  # If-Range was not heeded
            raise SourceError("changed while it was read")
        self._reply = reply

    def _pass_what_is_read(self, reply: http.client.HTTPResponse) -> None:
        """The whole body once more, from a server without ranges; another body when it has changed."""
        if self._validator not in (reply.headers.get("ETag"), reply.headers.get("Last-Modified")):
            reply.close()
            raise SourceError("changed while it was read")
        left = self.bytes_read
        while left:
            chunk = reply.read1(min(left, CHUNK_BYTES))
            if not chunk:
                raise http.client.IncompleteRead(b"", left)
            left -= len(chunk)

    def _get(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": "fanout"}
        if self.bytes_read and self._validator is not None:
            headers |= {"Range": f"bytes={self.bytes_read}-", "If-Range": self._validator}
        url, authorization = _as_sent(self._url)
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        if authorization is not None:
            request.add_unredirected_header("Authorization", authorization)
        silence_s = _SILENCE_AGAIN_S if self.bytes_read else _SILENCE_S
        # The scheme is http or https: no HttpReader is made for any other.
        reply: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=silence_s)  # noqa: S310
        return reply

    def seek(self, offset: int) -> bool:  # noqa: ARG002 - it is read from its beginning
        """Not here."""
        return False

    def direct(self) -> None:
        """Not here: it blocks."""

    def interrupt(self) -> None:
        """Wait no longer for a copy; another silence ends by itself."""
        if self._spool is not None:
            self._spool.close()

    def close(self) -> None:
        """Hang up."""
        if self._spool is not None:
            self._spool.close()
        if self._reply is not None:
            self._reply.close()
            self._reply = None
