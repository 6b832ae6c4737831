"""The signature of a request: AWS Signature Version 4, for requests that differ in time and body only.

Whatever does not change from call to call is worked out once for each template, set of credentials
and second: the beginnings of what is hashed are hashed already, and a call goes on from a copy. HMAC
is put together from two such hashes (RFC 2104): OpenSSL 3 looks its own up anew for every call, which
costs three times as much. The day's signing key is kept for each credentials and date. Takes the
time as a value.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"
_BLOCK_BYTES = 64  # of SHA-256; a signing key has 32
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_sha256 = hashlib.sha256
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


class Credentials(NamedTuple):
    """An access key; ``token`` is set when it is temporary."""

    access_key: str
    secret_key: str
    token: str | None = None


class SigningKeys:
    """The signing keys of one Region and service, each worked out once per credentials and UTC date."""

    def __init__(self, region: str, service: str = "lambda") -> None:
        self.region = region
        self.service = service
        self._keys: dict[tuple[str, str], bytes] = {}

    def key(self, secret_key: str, date: str) -> bytes:
        """The key for ``date`` (YYYYMMDD, UTC)."""
        if (key := self._keys.get((secret_key, date))) is None:
            key = f"AWS4{secret_key}".encode()
            for part in (date, self.region, self.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            if len(self._keys) > 8:  # a day's turn, or credentials that were refreshed
                self._keys.clear()
            self._keys[secret_key, date] = key
        return key


class RequestSigner:
    """Signs the requests to one path and query with one set of headers.

    ``host`` is the Host header as it is sent; ``path`` and ``query`` are as they are sent, percent
    encoded; ``headers`` are lower-case names with values. Not for use by several threads.
    """

    __slots__ = (
        "_after_date",
        "_before_date",
        "_canonical",
        "_canonical_headers",
        "_credentials",
        "_first_line",
        "_headers",
        "_inner",
        "_keys",
        "_outer",
        "_second",
        "_signed_headers",
        "_until_s",
        "prefix",
        "static",
    )

    def __init__(
        self,
        keys: SigningKeys,
        *,
        method: str = "POST",
        host: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
    ) -> None:
        self._keys = keys
        self._first_line = f"{method}\n{canonical_path(path)}\n{_canonical_query(query)}\n"
        self._headers = dict(headers)
        self._canonical_headers = {"host": host, **self._headers}
        self._credentials: Any = None
        self._second, self._until_s = -1, float("-inf")

    def sign(self, body: bytes, now_s: float, credentials: Credentials) -> tuple[dict[str, str], str]:
        """All headers of the request but Host and Authorization, and the latter. ``now_s`` since the epoch.

        The headers are the same object for as long as they are the same.
        """
        signature = self.signature(body, now_s, credentials)
        return self.static, self.prefix + signature

    def signature(self, body: bytes, now_s: float, credentials: Credentials) -> str:
        """What follows ``prefix`` in the Authorization header; the other headers are ``static``."""
        return self.signatures((body,), now_s, credentials)[0]

    def signatures(self, bodies: Sequence[bytes], now_s: float, credentials: Credentials) -> list[str]:
        """``signature`` for requests that are alike but for their bodies."""
        if credentials is not self._credentials:
            self._use(credentials)
        if now_s >= self._until_s or now_s < self._second:
            self._tick(int(now_s))
        first, second, third = self._canonical.copy, self._inner.copy, self._outer.copy
        signatures: list[str] = []
        for body in bodies:
            canonical, inner, outer = first(), second(), third()
            canonical.update(_sha256(body).hexdigest().encode())
            inner.update(canonical.hexdigest().encode())
            outer.update(inner.digest())
            signatures.append(outer.hexdigest())
        return signatures

    def _use(self, credentials: Credentials) -> None:
        headers = {**self._canonical_headers, "x-amz-date": ""}
        self.static = dict(self._headers)
        if credentials.token:
            headers["x-amz-security-token"] = self.static["x-amz-security-token"] = credentials.token
        lines = {name: f"{name}:{' '.join(value.split())}\n" for name, value in headers.items()}
        names = sorted(lines)
        at = names.index("x-amz-date")
        self._before_date = self._first_line + "".join(lines[name] for name in names[:at]) + "x-amz-date:"
        self._signed_headers = ";".join(names)
        after = "".join(lines[name] for name in names[at + 1 :])
        self._after_date = f"\n{after}\n{self._signed_headers}\n"
        self._credentials = credentials
        self._second, self._until_s = -1, float("-inf")

    def _tick(self, second: int) -> None:
        amz_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        date = amz_date[:8]
        access_key, secret_key, _ = self._credentials
        scope = f"{date}/{self._keys.region}/{self._keys.service}/aws4_request"
        self.static = {**self.static, "x-amz-date": amz_date}
        self.prefix = (
            f"{_ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={self._signed_headers}, Signature="
        )
        self._canonical = _sha256(f"{self._before_date}{amz_date}{self._after_date}".encode())
        key = self._keys.key(secret_key, date).ljust(_BLOCK_BYTES, b"\0")
        self._inner = _sha256(key.translate(_INNER_PAD))
        self._outer = _sha256(key.translate(_OUTER_PAD))
        self._inner.update(f"{_ALGORITHM}\n{amz_date}\n{scope}\n".encode())
        self._second, self._until_s = second, float(second + 1)


def canonical_path(path: str) -> str:
    """The path as it is signed: dot segments and double slashes resolved, then encoded once more."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    resolved = "/" + "/".join(segments)
    if segments and path.endswith("/"):
        resolved += "/"
    return quote(resolved, safe="/~")


def _canonical_query(query: str) -> str:
    return "&".join(sorted(query.split("&"))) if query else ""
