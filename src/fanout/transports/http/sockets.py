"""Settings of sockets: how long connections are kept, and TCP's probes of the other end."""

from __future__ import annotations

import socket
from typing import Any

# Silence on a connection, from which TCP asks whether the other end is still there: well below the
# 350 s after which NAT gateways and load balancers forget a flow.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 30
# Idle connections are dropped by us before the other end closes them in the midst of a request.
POOL_IDLE_S = 20


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
