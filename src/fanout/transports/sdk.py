"""The other transport: aiobotocore's own ``client.invoke``, as AWS's SDKs do it.

Slower, and the measure that ``direct`` is held to. botocore's retries are off: there is one place
that retries, and it is not here.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Self

from fanout.aws import AwsSession, credentials_fault
from fanout.errors import ConnectFailed, FanoutError, ReplyLost, RequestNotSent
from fanout.model import InvokeTemplate, OnChunk, Reply
from fanout.transports.endpoint import proxy_for
from fanout.transports.event_stream import EventStream
from fanout.transports.http.http1 import MAX_REPLY_BYTES
from fanout.transports.http.sockets import POOL_IDLE_S, make_socket
from fanout.transports.replies import StreamedReply, make_reply
from fanout.transports.signed_http import region_hint

_trace_id: ContextVar[str | None] = ContextVar("fanout_trace_id", default=None)

_OPERATIONS = ("Invoke", "InvokeWithResponseStream")


class _Refused(Exception):
    """A reply from 300 up, before botocore makes a ClientError of it and drops its body."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class _ConsumerFailed(Exception):
    """The caller's ``on_chunk`` raised: its exception is its own, and no lost reply."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class SdkTransport:
    """``Transport`` over an aiobotocore client of its own."""

    def __init__(
        self, client: Any, endpoint_url: str, read_timeout_s: float, call_timeout_s: float | None
    ) -> None:
        self._client = client
        self._endpoint_url = endpoint_url
        self._read_timeout_s = read_timeout_s
        self._call_timeout_s = call_timeout_s
        for operation in _OPERATIONS:
            client.meta.events.register(
                f"before-call.lambda.{operation}",
                self._apply_to_call if operation == "Invoke" else self._apply_to_stream,
            )
            client.meta.events.register(f"before-parse.lambda.{operation}", _carry_out_refusal)

    @classmethod
    async def open(
        cls,
        session: AwsSession,
        *,
        max_connections: int,
        read_timeout_s: float,
        call_timeout_s: float | None = None,
    ) -> Self:
        """A client for the calls alone: its pool is as large as the calls in flight."""
        proxy_for(session.endpoint_url)  # says what is wrong with one, as for ``direct``
        client = await session.create_client(
            max_pool_connections=max_connections,
            read_timeout=read_timeout_s,
            retries={"total_max_attempts": 1},
            parameter_validation=False,  # the template was checked when it was made
            connector_args={"keepalive_timeout": POOL_IDLE_S, "socket_factory": make_socket},
        )
        return cls(client, session.endpoint_url, read_timeout_s, call_timeout_s)

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        """See ``Transport.send``."""
        try:
            _trace_id.set(template.trace_id)
            if template.streaming:
                return await self._stream(template, body, on_chunk)
            response = await self._client.invoke(**template.sdk_params, Payload=body)
            payload = response["Payload"]
            with _closing_on_failure(payload):
                return _reply(response, await self._read(payload.raw_stream))
        except _Refused as refused:
            return refused.reply
        except _ConsumerFailed as failed:
            raise failed.error from None
        except FanoutError:
            raise
        except Exception as error:
            raise self._fault(error) from error

    def set_read_timeout(self, seconds: float) -> None:
        """See ``Transport.set_read_timeout``."""
        self._read_timeout_s = seconds

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        await self._client.close()

    async def _stream(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None) -> Reply:
        response = await self._client.invoke_with_response_stream(**template.sdk_params, Payload=body)
        # Of botocore's event stream only the bytes: its parser takes a damaged end for a good one.
        raw = response["EventStream"]._raw_stream  # noqa: SLF001 - the only way to them
        with _closing_on_failure(raw):
            streamed = StreamedReply(_reply(response, b""), on_chunk and _guarded(on_chunk))
            events = EventStream(streamed)
            async for data in raw.content.iter_any():
                await events.feed(data)
            return streamed.finish()

    async def _read(self, raw: Any) -> bytes:
        parts, size_bytes = [], 0
        async for data in raw.content.iter_any():
            parts.append(data)
            size_bytes += len(data)
            if size_bytes > MAX_REPLY_BYTES:
                raise ReplyLost(
                    f"no whole reply from {self._endpoint_url}: it is larger than {MAX_REPLY_BYTES:,} bytes"
                )
        return b"".join(parts)

    def _apply_to_call(self, params: Any, **_: Any) -> None:
        params["context"]["read_timeout"] = self._read_timeout_s
        params["context"]["call_timeout_s"] = self._call_timeout_s or 2 * self._read_timeout_s
        self._add_trace_id(params)

    def _apply_to_stream(self, params: Any, **_: Any) -> None:
        silence_s = min(self._call_timeout_s or self._read_timeout_s, self._read_timeout_s)
        params["context"]["read_timeout"] = silence_s
        self._add_trace_id(params)

    def _add_trace_id(self, params: Any) -> None:
        if (trace_id := _trace_id.get()) is not None:
            params["headers"]["X-Amzn-Trace-Id"] = trace_id

    def _fault(self, error: Exception) -> FanoutError:
        """The error of a call that ended without a reply; lost, unless it surely was not sent."""
        import aiohttp
        from botocore import exceptions as boto

        cause = getattr(error, "kwargs", {}).get("error", error)
        text = re.sub(r"//[^/\s]*@", "//", " ".join(str(cause).split())) or type(cause).__name__
        if isinstance(error, boto.ProxyConnectionError):
            return ConnectFailed(f"the proxy does not lead to {self._endpoint_url}: {text}")
        # botocore calls a connection that broke halfway EndpointConnectionError too.
        if isinstance(cause, aiohttp.ClientSSLError) and "certificate" in text.lower():
            return ConnectFailed(
                f"the certificate of {self._endpoint_url} is refused ({text}): "
                "if its authority is your own, set AWS_CA_BUNDLE to its file"
            )
        if isinstance(error, boto.ConnectTimeoutError) or isinstance(
            cause, (aiohttp.ClientConnectorError, socket.gaierror)
        ):
            hint = ""
            if isinstance(cause, aiohttp.ClientConnectorDNSError):
                hint = region_hint(self._endpoint_url, self._client.meta.region_name)
            return ConnectFailed(f"no connection to {self._endpoint_url}: {text}{hint}")
        if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.SSOError)):
            return credentials_fault(error)
        if isinstance(error, (boto.CredentialRetrievalError, boto.TokenRetrievalError, boto.LoginError)):
            return credentials_fault(error)
        if isinstance(error, (boto.EndpointProviderError, boto.InvalidProxiesConfigError)):
            return RequestNotSent(f"the request cannot be made: {text}")
        if isinstance(error, boto.ReadTimeoutError) or isinstance(cause, TimeoutError):
            return ReplyLost(f"no whole reply from {self._endpoint_url}: the read timed out")
        return ReplyLost(f"no whole reply from {self._endpoint_url}: {text}")


@contextlib.contextmanager
def _closing_on_failure(stream: Any) -> Iterator[None]:
    # A body that is not read to its end would hold its connection, and with it a place in the pool.
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _guarded(on_chunk: OnChunk) -> OnChunk:
    async def guarded(chunk: bytes) -> None:
        try:
            await on_chunk(chunk)
        except Exception as error:
            raise _ConsumerFailed(error) from error

    return guarded


def _carry_out_refusal(response_dict: Any, **_: Any) -> None:
    status = response_dict["status_code"]
    if status >= 300:
        raise _Refused(make_reply(status, response_dict["body"], response_dict["headers"].get))


def _reply(response: Any, body: bytes) -> Reply:
    metadata = response["ResponseMetadata"]
    return make_reply(metadata["HTTPStatusCode"], body, metadata["HTTPHeaders"].get)
