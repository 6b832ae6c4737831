"""Lambda's limit-reading API: signed GETs that bring a JSON object, or say in a code why there is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from fanout.errors import ConnectFailed, FanoutError
from fanout.transports.signed_http import SignedHttp, host_header
from fanout.transports.sigv4 import RequestSigner

_ATTEMPTS = 3
_FIRST_PAUSE_S = 0.1
_TRIED_AGAIN = frozenset({429, 500, 502, 503, 504})
_READ_TIMEOUT_S = 5.0
_UNRESERVED = "-._~"
_PATH = "/%:@!$&'()*+,;=~"  # what a path may hold as it is


class ControlRefusal(FanoutError):
    """The API answered, but with no object: ``code`` is Lambda's, or ``HTTP 307``."""

    def __init__(self, code: str, message: str, http_status: int) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.http_status = http_status


class ControlClient:
    """GETs of Lambda's control plane. Follows no redirect; repeats what may pass, three times in all."""

    def __init__(self, http: SignedHttp) -> None:
        self._http = http

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The object at ``path``, whose variable parts are percent-encoded already.

        Raises ControlRefusal, ConnectFailed, RequestNotSent, FatalRefusal, ConnectionError or TimeoutError.
        """
        pause_s = _FIRST_PAUSE_S
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._get_once(path, query or {})
            except ControlRefusal as refusal:
                if refusal.http_status not in _TRIED_AGAIN:
                    raise
            except (ConnectFailed, ConnectionError):
                pass
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return await self._get_once(path, query or {})

    async def _get_once(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        http = self._http
        now_s = time.time()
        credentials = await http.credentials(now_s)
        base = urlsplit(http.endpoint.base_url)
        host = host_header(http.endpoint.base_url)
        path = f"{quote(base.path, safe=_PATH)}{path}"
        asked = "&".join(
            f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}"
            for name, value in sorted(query.items())
        )
        signer = RequestSigner(http.keys, method="GET", host=host, path=path, query=asked, headers=())
        headers, authorization = signer.sign(b"", now_s, credentials)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        pool = http.pool
        head = (
            f"GET {pool.forwarded_target}{path}{'?' if asked else ''}{asked} HTTP/1.1\r\nhost: {host}\r\n"
            f"accept-encoding: identity\r\n{pool.forwarded_headers}{lines}"
            f"authorization: {authorization}\r\n\r\n"
        )
        connection = pool.take() or await pool.open()
        status, answered, body = await connection.ask(
            head.encode("latin-1"), b"", _READ_TIMEOUT_S, _READ_TIMEOUT_S
        )
        members = _object(body)
        if status == 200 and members is not None:
            return members
        code = answered.get("x-amzn-errortype") or _text(members, "code", "__type", "Code")
        code = code.partition(":")[0].rpartition("#")[2].strip()[:200]
        raise ControlRefusal(code or f"HTTP {status}", _text(members, "message", "Message")[:500], status)


def path_part(value: str) -> str:
    """A variable part of a path, percent-encoded as botocore does it."""
    return quote(value, safe=_UNRESERVED)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(members: Mapping[str, Any] | None, *names: str) -> str:
    for name in names:
        if isinstance(value := (members or {}).get(name), str) and value:
            return " ".join(value.split())
    return ""
