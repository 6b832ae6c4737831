"""Clients of other services of AWS (S3), by the profile, Region and certificates of a run."""

from __future__ import annotations

from typing import Any, Protocol, Self

from fanout.aws.session import AwsSession
from fanout.config import Options


class Clients(Protocol):
    """The source of clients: what is read or written by S3 asks it for one."""

    async def client(self, service: str) -> Any:
        """The client for a service of AWS, one for each, closed with the session."""
        ...

    async def aclose(self) -> None: ...


class ServiceClients:
    """One client for each service, made when it is first asked for."""

    def __init__(
        self, *, profile: str | None = None, region: str | None = None, verify: bool | str | None = None
    ) -> None:
        self._session = AwsSession(function="f", profile=profile, region=region, verify=verify)
        self._is_open = False
        self._clients: dict[str, Any] = {}

    @classmethod
    def of(cls, options: Options) -> Self:
        """The clients that these options ask for."""
        return cls(profile=options.profile, region=options.region, verify=options.verify)

    async def client(self, service: str) -> Any:
        """The client of a service. Raises ConfigError and FatalRefusal."""
        if not self._is_open:
            await self._session.__aenter__()
            self._is_open = True
        if service not in self._clients:
            self._clients[service] = await self._session.service_client(service)
        return self._clients[service]

    async def aclose(self) -> None:
        """Close them, and the session."""
        if self._is_open:
            self._is_open = False
            await self._session.__aexit__(None, None, None)
