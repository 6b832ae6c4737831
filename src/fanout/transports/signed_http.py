"""Signed requests to one endpoint: where it is, as whom to sign, and the connections there.

The calls of ``direct`` and the reading of limits share it, so that the first call finds a connection.
"""

from __future__ import annotations

import time
from typing import Self
from urllib.parse import urlsplit

from fanout.aws import AwsSession
from fanout.transports.endpoint import Endpoint, proxy_for, resolve_endpoint
from fanout.transports.http.connections import ConnectionPool
from fanout.transports.sigv4 import Credentials, SigningKeys

CREDENTIALS_READ_EVERY_S = 1.0


class SignedHttp:
    """An endpoint with its connections, its signing keys and the credentials that are good now."""

    __slots__ = ("_credentials", "_session", "endpoint", "keys", "pool", "read_at_s")

    def __init__(self, session: AwsSession, endpoint: Endpoint, *, max_idle: int = 64) -> None:
        self._session = session
        self._credentials: Credentials | None = None
        self.read_at_s = 0.0  # when the session was asked last, since the epoch
        self.endpoint = endpoint
        self.keys = SigningKeys(endpoint.region, endpoint.service)
        self.pool = ConnectionPool(
            endpoint.base_url,
            proxy=proxy_for(endpoint.base_url),
            verify=session.verify,
            max_idle=max_idle,
            connect_timeout_s=session.connect_timeout_s,
            unknown_host_hint=region_hint(endpoint.base_url, endpoint.region),
        )

    @classmethod
    async def open(cls, session: AwsSession) -> Self:
        """Find out where to send, without sending. Raises ConfigError or FatalRefusal."""
        http = cls(session, await resolve_endpoint(session))
        await http.credentials(time.time())
        return http

    def kept_credentials(self, now_s: float) -> Credentials | None:
        """The credentials of less than a second ago; None when the session must be asked."""
        # A clock that was set back has it asked too.
        return self._credentials if 0 <= now_s - self.read_at_s < CREDENTIALS_READ_EVERY_S else None

    async def credentials(self, now_s: float) -> Credentials:
        """Credentials good for a call now; the same object as long as they are the same.

        The session is asked once a second at most. Raises FatalRefusal or RequestNotSent.
        """
        if (recent := self.kept_credentials(now_s)) is not None:
            return recent
        kept = self._credentials
        frozen = await self._session.frozen_credentials()
        fresh = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        if kept is None or fresh != kept:
            self._credentials = kept = fresh
        self.read_at_s = now_s
        return kept

    async def aclose(self) -> None:
        """Close every connection; requests under way end with ConnectionError."""
        await self.pool.aclose()


def region_hint(base_url: str, region: str) -> str:
    """The advice for an endpoint that is built from the Region's name and does not exist."""
    host = urlsplit(base_url).hostname or ""
    return f"; is the Region {region!r} right?" if f".{region}." in f".{host}" else ""


def host_header(base_url: str) -> str:
    """Host and port, without the port that the scheme implies: as botocore signs it."""
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return host if parts.port in (None, default) else f"{host}:{parts.port}"
