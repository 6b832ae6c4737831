"""Signed requests to one endpoint: its connections, signing keys, and the credentials that are good now."""

from __future__ import annotations

from urllib.parse import urlsplit

from fanout.aws import AwsSession
from fanout.transports.endpoint import Endpoint, proxy_for
from fanout.transports.http.connections import ConnectionPool
from fanout.transports.sigv4 import Credentials, SigningKeys


class SignedHttp:
    """An endpoint with its connections, its signing keys and the credentials that are good now."""

    def __init__(self, session: AwsSession, endpoint: Endpoint) -> None:
        self._session = session
        self._credentials: Credentials | None = None
        self._read_at_s = 0.0
        self.endpoint = endpoint
        self.keys = SigningKeys(endpoint.region, endpoint.service)
        self.pool = ConnectionPool(
            endpoint.base_url,
            proxy=proxy_for(endpoint.base_url),
            verify=session.verify,
            max_idle=64,
            connect_timeout_s=session.connect_timeout_s,
            read_timeout_s=60,
        )

    def kept_credentials(self, now_s: float) -> Credentials | None:
        """The credentials of less than a second ago; None when the session must be asked."""
        return self._credentials if 0 <= now_s - self._read_at_s < 1.0 else None

    async def credentials(self, now_s: float) -> Credentials:
        """Credentials good for a call now; the same object as long as they are the same."""
        frozen = await self._session.frozen_credentials()
        fresh = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        if self._credentials is None or fresh != self._credentials:
            self._credentials = fresh
        self._read_at_s = now_s
        return self._credentials

    async def aclose(self) -> None:
        """Close every connection; requests under way end with ConnectionError."""
        await self.pool.aclose()


def host_header(base_url: str) -> str:
    """Host and port, without the port that the scheme implies: as botocore signs it."""
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return host if parts.port in (None, default) else f"{host}:{parts.port}"
