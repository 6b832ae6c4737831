"""aiobotocore's HTTP session as clients of ``AwsSession`` have it: it follows no redirect."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class PlainHttpSession(AIOHTTPSession):  # type: ignore[misc]
    """A redirect would carry payload and session token to another host: it is an answer, not a detour.

    ``call_timeout_s`` in a request's context bounds all of the call, beside botocore's ``read_timeout``.
    """

    async def _get_session(self, proxy_url: Any) -> Any:
        return _Unredirected(await super()._get_session(proxy_url))

    def _get_request_timeout(self, request: Any) -> Any:
        from aiohttp import ClientTimeout

        context = getattr(request, "context", None) or {}
        if (read_timeout_s := context.get("read_timeout")) is None:
            return None
        return ClientTimeout(
            total=context.get("call_timeout_s"),
            sock_connect=self._timeout.sock_connect,
            sock_read=read_timeout_s,
        )


class _Unredirected:
    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, *arguments: Any, **options: Any) -> Any:
        return await self._session.request(*arguments, **options, allow_redirects=False)
