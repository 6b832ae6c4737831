"""The default transport: the request signed here and sent over pyreqwest.

aiobotocore is asked once where the endpoint is and as whom to sign; after that a call costs about
ten microseconds of Python above the HTTP library. What arrives is the request that botocore would
have sent.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Self
from urllib.parse import quote

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, PyreqwestError
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.response import Response

from fanout.errors import ConfigError, ConnectFailed, ReplyLost, RequestNotSent, TransportError
from fanout.model import InvokeTemplate, Reply
from fanout.transports import OnChunk
from fanout.transports.endpoint import Endpoint, proxy_for, read_roots, resolve_endpoint, without_password
from fanout.transports.event_stream import EventStream
from fanout.transports.replies import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    POOL_IDLE_S,
    StreamedReply,
    make_reply,
)
from fanout.transports.session import AwsSession
from fanout.transports.sigv4 import Credentials, RequestSigner, SigningKeys

_CREDENTIALS_READ_EVERY_S = 1.0
_TEMPLATES_KEPT = 1024


class _Prepared:
    """What all calls of one template share."""

    __slots__ = ("signer", "template", "url")

    def __init__(self, template: InvokeTemplate, endpoint: Endpoint, keys: SigningKeys) -> None:
        query = f"?{template.query}" if template.query else ""
        self.template = template
        self.url = Url(f"{endpoint.base_url}{template.path}{query}")
        self.signer = RequestSigner(
            keys,
            host=_host_header(self.url),
            path=self.url.path,
            query=template.query,
            headers=template.headers,
        )


class DirectTransport:
    """``Transport`` over pyreqwest, signing with the session's credentials."""

    def __init__(
        self, session: AwsSession, endpoint: Endpoint, *, max_connections: int, read_timeout_s: float
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._proxy = proxy_for(endpoint.base_url)
        self._roots = read_roots(session.verify) if isinstance(session.verify, str) else []
        self._keys = SigningKeys(endpoint.region, endpoint.service)
        self._prepared: dict[int, _Prepared] = {}
        self._credentials: Credentials | None = None
        self._credentials_read_at_s = 0.0
        self._in_lambda = "AWS_LAMBDA_FUNCTION_NAME" in os.environ
        self._client = self._build_first_client(read_timeout_s)

    @classmethod
    async def open(cls, session: AwsSession, *, max_connections: int, read_timeout_s: float) -> Self:
        """Find out where to send, without sending. Raises ConfigError or FatalRefusal."""
        endpoint = await resolve_endpoint(session)
        transport = cls(session, endpoint, max_connections=max_connections, read_timeout_s=read_timeout_s)
        await transport._read_credentials(time.time())
        return transport

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        """See ``Transport.send``."""
        prepared = self._prepared.get(id(template))
        if prepared is None or prepared.template is not template:
            prepared = self._prepare(template)
        now_s = time.time()
        credentials = self._credentials
        # A clock that was set back reads them again too.
        if credentials is None or not 0 <= now_s - self._credentials_read_at_s < _CREDENTIALS_READ_EVERY_S:
            credentials = await self._read_credentials(now_s)
        headers = prepared.signer.sign(body, now_s, credentials)
        if not body:
            headers["content-length"] = "0"
        if template.trace_id is not None:
            headers["x-amzn-trace-id"] = template.trace_id
        elif self._in_lambda:
            _add_trace_id(headers)
        try:
            builder = self._client.post(prepared.url).headers(headers).body_bytes(body)
            if template.streaming:
                return await self._stream(builder.build_streamed(), on_chunk)
            response = await builder.build().send()
            reply_body = (await response.bytes()).to_bytes()
        except PyreqwestError as error:
            raise self._fault(error) from error
        return _reply(response, reply_body)

    def set_read_timeout(self, seconds: float) -> None:
        """See ``Transport.set_read_timeout``. Calls in flight keep the timeout that they started with."""
        # The timeout belongs to the client. The old one ends with the last call that uses it.
        self._client = self._build_client(seconds)

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        await self._client.close()

    async def _stream(self, request: Any, on_chunk: OnChunk | None) -> Reply:
        async with request as response:
            reader = response.body_reader
            if response.status != 200:
                return _reply(response, (await reader.bytes()).to_bytes())
            streamed = StreamedReply(_reply(response, b""), on_chunk)
            events = EventStream(streamed)
            while (data := await reader.read_chunk()) is not None:
                await events.feed(data.to_bytes())
            return streamed.finish()

    def _prepare(self, template: InvokeTemplate) -> _Prepared:
        # The template is kept along with its id, so that no other can come to have it.
        if len(self._prepared) >= _TEMPLATES_KEPT:
            self._prepared.clear()
        prepared = self._prepared[id(template)] = _Prepared(template, self._endpoint, self._keys)
        return prepared

    async def _read_credentials(self, now_s: float) -> Credentials:
        # The session refreshes them under a lock of its own; who comes here meanwhile waits for it
        # only if the credentials are about to expire.
        frozen = await self._session.frozen_credentials()
        credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        # The same object as long as they are the same: the signers go by identity.
        if self._credentials is None or credentials != self._credentials:
            self._credentials = credentials
        self._credentials_read_at_s = now_s
        return self._credentials

    def _build_first_client(self, read_timeout_s: float) -> Client:
        from botocore.httpsession import get_cert_path

        try:
            return self._build_client(read_timeout_s)
        except PyreqwestError as error:
            if self._roots:
                raise ConfigError(f"no HTTPS client can be made: {_causes(error)[-1]}") from error
        # A machine without certificate authorities (a slim container): those that botocore brings.
        self._roots = read_roots(get_cert_path(True))
        return self._build_client(read_timeout_s)

    def _build_client(self, read_timeout_s: float) -> Client:
        builder = (
            ClientBuilder()
            .http1_only()
            .user_agent(f"lambda-fanout/{version('lambda-fanout')}")
            .default_headers({"accept-encoding": "identity"})
            .follow_redirects(False)
            .referer(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            # The gate bounds the calls in flight; a second bound here could only make them wait.
            .max_connections(None)
            .pool_max_idle_per_host(self._max_connections)
            .pool_idle_timeout(timedelta(seconds=POOL_IDLE_S))
            .connect_timeout(timedelta(seconds=self._session.connect_timeout_s))
            .read_timeout(timedelta(seconds=read_timeout_s))
            .tcp_keepalive(timedelta(seconds=KEEPALIVE_IDLE_S))
            .tcp_keepalive_interval(timedelta(seconds=KEEPALIVE_INTERVAL_S))
            .no_proxy()
        )
        if self._proxy is not None:
            builder = builder.proxy(ProxyBuilder.all(self._proxy))
        if self._session.verify is False:
            builder = builder.danger_accept_invalid_certs(True)
        for root in self._roots:
            builder = builder.add_root_certificate_pem(root)
        return builder.build()

    def _fault(self, error: PyreqwestError) -> TransportError:
        causes = _causes(error)
        last = causes[-1]
        if isinstance(error, BuilderError):
            return RequestNotSent(f"the request cannot be built: {last}")
        # The exception's class does not tell a connection that failed from one that was made and
        # broke later; the cause does.
        if "client error (Connect)" not in causes:
            return ReplyLost(f"no whole reply from {self._endpoint.base_url}: {last}")
        where = self._endpoint.base_url
        if self._proxy is not None and any("tunnel error" in cause for cause in causes):
            return ConnectFailed(
                f"the proxy {without_password(self._proxy)} does not lead to {where}: {last}"
            )
        if "certificate" in last:
            return ConnectFailed(
                f"the certificate of {where} is refused ({last}): "
                "if its authority is your own, set AWS_CA_BUNDLE to its file"
            )
        return ConnectFailed(f"no connection to {where}: {last}")


def _reply(response: Response, body: bytes) -> Reply:
    header = response.get_header
    try:
        return make_reply(response.status, body, header)
    except ValueError:
        # A header that is not UTF-8: it is there all the same.
        def lenient(name: str) -> str | None:
            try:
                return header(name)
            except ValueError:
                return "\N{REPLACEMENT CHARACTER}"

        return make_reply(response.status, body, lenient)


def _host_header(url: Url) -> str:
    return url.authority.rpartition("@")[2]


def _add_trace_id(headers: dict[str, str]) -> None:
    """Lambda's recursion detection: inside a function, its trace id goes along, as botocore does it."""
    if trace_id := os.environ.get("_X_AMZN_TRACE_ID"):
        headers["x-amzn-trace-id"] = quote(trace_id, safe="-=;:+&[]{}\"',")


def _causes(error: PyreqwestError) -> list[str]:
    details = getattr(error, "details", None) or {}
    return [cause["message"] for cause in details.get("causes") or ()] or [str(error.message)]
