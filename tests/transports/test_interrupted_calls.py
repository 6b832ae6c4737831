"""An interrupt while a reply is read, which uvloop would log: it ends the loop, and no call hangs."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from typing import Any

import pytest
import uvloop

from fanout import Dispatcher
from fanout.transports.http.connections import ConnectionPool

REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\nnull"


class Answers(socketserver.StreamRequestHandler):
    """A function that returns null."""

    def handle(self) -> None:
        """Answer until the connection ends."""
        while line := self.rfile.readline():
            if line == b"\r\n":
                self.rfile.read(4)
                self.wfile.write(REPLY)


@pytest.mark.parametrize("make_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_it_is_raised_out_of_the_loop(monkeypatch: pytest.MonkeyPatch, make_loop: Any) -> None:
    """As asyncio does it with whatever is raised in a callback."""
    released = 0
    release = ConnectionPool.release

    def interrupted(pool: ConnectionPool, connection: Any) -> None:
        nonlocal released
        released += 1
        if released == 3:
            raise SystemExit(143)
        release(pool, connection)

    async def main(port: int) -> None:
        async with Dispatcher(
            "f",
            endpoint_url=f"http://127.0.0.1:{port}",
            region="eu-west-1",
            concurrency=1,
            rate=1e5,
            timeout=60,
        ) as dispatcher:
            while True:
                await asyncio.wait_for(dispatcher.invoke(b"null"), 20)

    monkeypatch.setattr(ConnectionPool, "release", interrupted)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        with pytest.raises(SystemExit), asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(main(server.server_address[1]))
        server.shutdown()
