"""Settings of sockets: how long connections are kept, and TCP's probes of the other end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

# Silence on a connection, from which TCP asks whether the other end is still there: well below the
# 350 s after which NAT gateways and load balancers forget a flow.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 30
# Idle connections are dropped by us before the other end closes them during a request.
POOL_IDLE_S = 20


async def look_up(host: str, port: int) -> list[Any]:
    """The addresses of a host, found in a thread of its own.

    The loop's own threads may all be taken, by callers of ``invoke_sync`` who wait for this connection.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any]] = loop.create_future()

    def tell(settle: Callable[[Any], None], result: Any) -> None:
        if not found.done():
            settle(result)

    def ask() -> None:
        told: tuple[Callable[[Any], None], Any]
        try:
            told = found.set_result, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            told = found.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=ask, name="fanout-look-up", daemon=True).start()
    return await found


def make_socket(address: Any) -> socket.socket:
    """A socket with TCP keepalive for one of ``getaddrinfo``'s addresses."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    keep_alive(made)
    return made


def keep_alive(made: socket.socket) -> None:
    """Turn TCP keepalive on."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPALIVE", KEEPALIVE_IDLE_S),  # macOS's name for it
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
    ):
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, seconds)
