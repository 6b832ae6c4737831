"""A small endpoint that notes when the first invocation arrives, by the clock of its own process."""

from __future__ import annotations

import http.server
import sys
import threading
import time
from typing import Any, Self

from benchmarks.endpoint import REPLY


class _Server(http.server.ThreadingHTTPServer):
    """A server in this process, to which a client that hangs up is no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that was reset."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FirstCallServer:
    """Listens on 127.0.0.1 while it is entered. ``first_call_s`` is 0 until a call comes; set it back so."""

    def __init__(self) -> None:
        self.first_call_s = 0.0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one segment: else the body waits for the client's delayed ACK

            def do_GET(self) -> None:
                self._answer(404, b'{"Type":"User","message":"no such resource"}')

            def do_POST(self) -> None:
                if not outer.first_call_s:
                    outer.first_call_s = time.perf_counter()
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self._answer(200, REPLY)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("x-amzn-RequestId", "first")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
