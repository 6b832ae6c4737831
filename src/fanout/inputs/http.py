"""How an input is read from a URL: one GET, streamed, its status and its length checked."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from fanout.errors import SourceError
from fanout.inputs.reading import CHUNK_BYTES

_SILENCE_S = 60.0


class HttpReader:
    """The body of a URL. Proxies and certificates as the standard library finds them in the environment."""

    def __init__(self, url: str) -> None:
        self.bytes_read = 0
        self.bytes_total: int | None = None
        self._url = url
        self._reply: http.client.HTTPResponse | None = None

    def read(self) -> bytes:
        """The next bytes. Raises SourceError for any status but 200, and for a body cut short."""
        try:
            if self._reply is None:
                self._reply = self._get()
            chunk = self._reply.read1(CHUNK_BYTES)
        except urllib.error.HTTPError as error:
            error.close()
            raise SourceError(f"answers HTTP {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise SourceError(f"cannot be read: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"broke off: {str(error) or type(error).__name__}") from error
        if not chunk and self.bytes_total is not None and self.bytes_read < self.bytes_total:
            raise SourceError(f"broke off: {self.bytes_read:,} of {self.bytes_total:,} bytes came")
        self.bytes_read += len(chunk)
        return chunk

    def _get(self) -> http.client.HTTPResponse:
        request = urllib.request.Request(self._url, headers={"User-Agent": "fanout"})  # noqa: S310
        # The scheme is http or https: open_source makes no HttpReader for any other.
        reply: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SILENCE_S)  # noqa: S310
        if reply.status != http.client.OK:
            reply.close()
            raise SourceError(f"answers HTTP {reply.status} {reply.reason}")
        self.bytes_total = reply.length
        return reply

    def close(self) -> None:
        """Hang up."""
        if self._reply is not None:
            self._reply.close()
