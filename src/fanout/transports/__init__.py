"""The way to Lambda: one small Protocol, two transports behind it (``direct`` and ``sdk``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from fanout.model import InvokeTemplate, OnChunk, Reply

if TYPE_CHECKING:
    from fanout.aws import AwsSession
    from fanout.transports.signed_http import SignedHttp


class Transport(Protocol):
    """Sends one call and brings back its whole reply. Never retries, never decides."""

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        """Send, and read the reply to its end.

        A streaming template's chunks go to ``on_chunk`` as they come, or are joined into the
        reply's body without it; its ``InvokeComplete`` error becomes ``function_error`` and body.
        Raises ConnectFailed or RequestNotSent when the function certainly did not run, ReplyLost
        when it may have, FatalRefusal when no call can ever be made (no credentials).
        """

    def set_read_timeout(self, seconds: float) -> None:
        """Another silence, in seconds, after which the reply of a later call counts as lost."""

    async def aclose(self) -> None:
        """Close every connection."""


async def open_transport(
    session: AwsSession,
    *,
    kind: Literal["direct", "sdk"] = "direct",
    max_connections: int,
    read_timeout_s: float,
    call_timeout_s: float | None = None,
    http: SignedHttp | None = None,
) -> Transport:
    """The transport of that kind, ready to send through ``session``, which must outlive it.

    ``max_connections`` is how many calls will be in flight at most: so many connections are kept.
    ``read_timeout_s`` bounds the silence of a call, ``call_timeout_s`` all of it (of a streamed reply the
    silence only). ``http`` are connections that are there already, for ``direct`` to go on with.
    Raises ConfigError when the process may not open as many files.
    """
    from fanout.transports.open_files import make_room_for

    make_room_for(max_connections)
    if kind == "sdk":
        from fanout.transports.sdk import SdkTransport

        return await SdkTransport.open(
            session,
            max_connections=max_connections,
            read_timeout_s=read_timeout_s,
            call_timeout_s=call_timeout_s,
        )
    from fanout.transports.direct import DirectTransport
    from fanout.transports.signed_http import SignedHttp

    return DirectTransport(
        http if http is not None else await SignedHttp.open(session),
        max_connections=max_connections,
        read_timeout_s=read_timeout_s,
        call_timeout_s=call_timeout_s,
    )
