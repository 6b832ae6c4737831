"""Requests to SQS: the JSON protocol, signed and sent as the calls of ``direct`` are.

What may pass is repeated.
Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from fanout.errors import ConnectFailed, RequestNotSent, SourceError, TransportError
from fanout.transports.http.plain_reply import Headers
from fanout.transports.signed_http import SignedHttp, host_header
from fanout.transports.sigv4 import RequestSigner

T = TypeVar("T")

_READ_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
PATIENCE_S = 120.0
FIRST_PATIENCE_S = 15.0  # before the queue has ever answered: most likely it is another address
_THROTTLES = frozenset(
    {"RequestThrottled", "ThrottlingException", "Throttling", "KmsThrottled", "TooManyRequestsException"}
)
_error = msgspec.json.Decoder(dict[str, Any])


class SqsRefusal(SourceError):
    """SQS answered, but refused: ``code`` without its namespace."""

    def __init__(self, code: str, message: str, http_status: int) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.http_status = http_status

    @property
    def may_pass(self) -> bool:
        """True if the same request may work later."""
        return self.http_status >= 500 or self.http_status == 429 or self.code in _THROTTLES


class SqsRequests:
    """Sends actions about one queue, which messages call ``queue``.

    ``lost_receive_s`` is when a message whose handing out got lost on the way can be seen again, of
    the loop's clock.
    """

    def __init__(self, http: SignedHttp, queue: str) -> None:
        self.lost_receive_s = 0.0
        self._http = http
        self._queue = queue
        self._base = urlsplit(http.endpoint.base_url)
        self._signers: dict[str, tuple[RequestSigner, str]] = {}
        self._random = random.Random()  # noqa: S311 - jitter
        self._has_answered = False

    async def call(self, action: str, members: dict[str, Any], *, wait_s: int = 0, hides_s: int = 0) -> bytes:
        """The reply to one action, repeated while it may pass.

        ``hides_s``: a reply that is lost may have held messages that nobody sees for so long. Raises
        SqsRefusal, SourceError or FatalRefusal.
        """
        body = msgspec.json.encode(members)
        begun_s = time.monotonic()
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._send(action, body, wait_s)
            except SqsRefusal as refusal:
                if not refusal.may_pass or time.monotonic() >= begun_s + self._patience_s:
                    raise
            except (ConnectionError, TimeoutError, TransportError) as error:
                if hides_s and not isinstance(
                    error, (ConnectFailed, RequestNotSent)
                ):  # the reply may have held messages, which nobody has now
                    self.lost_receive_s = asyncio.get_running_loop().time() + hides_s
                if time.monotonic() >= begun_s + self._patience_s:
                    raise SourceError(f"{self._queue} cannot be reached: {error}") from error
            await asyncio.sleep(self._random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @property
    def _patience_s(self) -> float:
        return PATIENCE_S if self._has_answered else FIRST_PATIENCE_S

    async def _send(self, action: str, body: bytes, wait_s: int) -> bytes:
        http = self._http
        now_s = time.time()
        credentials = http.kept_credentials(now_s) or await http.credentials(now_s)
        signer, begin = self._signers.get(action) or self._prepare(action)
        headers, authorization = signer.sign(body, now_s, credentials)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{begin}{lines}content-length: {len(body)}\r\nauthorization: {authorization}\r\n\r\n"
        pool = http.pool
        connection = pool.take() or await pool.open()
        timeout_s = wait_s + _READ_TIMEOUT_S
        status, answered, reply = await connection.ask(head.encode("latin-1"), body, timeout_s)
        self._has_answered = True
        if status == 200:
            return reply
        raise refusal_of(status, answered, reply)

    def _prepare(self, action: str) -> tuple[RequestSigner, str]:
        http, base = self._http, self._base
        host = host_header(http.endpoint.base_url)
        path = quote(base.path, safe="/%:@!$&'()*+,;=~") or "/"
        signed = (
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", f"AmazonSQS.{action}"),
        )
        signer = RequestSigner(http.keys, host=host, path=path, query="", headers=signed)
        begin = (
            f"POST {http.pool.forwarded_target}{path} HTTP/1.1\r\nhost: {host}\r\n"
            f"accept-encoding: identity\r\n{http.pool.forwarded_headers}"
        )
        self._signers[action] = (signer, begin)
        return signer, begin

    def decode(self, decoder: msgspec.json.Decoder[T], body: bytes) -> T:
        """The content of a reply. Raises SourceError for one that is not SQS's."""
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"{self._queue} did not answer as SQS does: {error}") from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def refusal_of(status: int, headers: Headers, body: bytes) -> SqsRefusal:
    """The refusal in a reply: in its body, or in a header for clients of the older protocol."""
    try:
        members = _error.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = {}
    code = str(members.get("__type") or headers.get("x-amzn-errortype") or f"HTTP {status}")
    code = code.rpartition("#")[2].partition(":")[0].rpartition(".")[2]
    message = members.get("message") or members.get("Message") or ""
    return SqsRefusal(code, " ".join(str(message).split())[:500], status)
