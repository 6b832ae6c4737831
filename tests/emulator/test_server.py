"""How the emulator's server takes connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest
import uvicorn

from fanout.emulator.server import _Server

CONNECTIONS = 60


async def turns_until_all_are_taken(listening: socket.socket) -> int:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    server = _Server(uvicorn.Config(app, lifespan="off", log_config=None))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    with contextlib.ExitStack() as clients:
        await server.startup(sockets=[listening])
        for _ in range(CONNECTIONS):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        time.sleep(0.02)  # the kernel has them all
        turns = 0
        while len(server.server_state.connections) < CONNECTIONS and turns < CONNECTIONS:
            turns += 1
            await asyncio.sleep(0)
        await server.shutdown()
        return turns


def test_a_loaded_server_takes_new_connections() -> None:
    """Many in each turn of the loop: where a turn is long, the last would wait for minutes."""
    uvloop = pytest.importorskip("uvloop")
    turns = uvloop.run(turns_until_all_are_taken(socket.create_server(("127.0.0.1", 0), backlog=200)))
    assert turns < CONNECTIONS / 4
