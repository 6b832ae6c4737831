"""A TCP proxy on this machine that can be slow, stand still, or cut what goes through it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_PIECE = 64 * 1024


class Proxy:
    """Between whoever connects to ``port`` and a port of this machine.

    ``delay_s``: how long each piece is held. Without ``flows`` nothing passes. ``cut`` ends what is open.
    """

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.flows = threading.Event()
        self.flows.set()
        self._to = port
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def connections(self) -> int:
        """How many came."""
        return len(self._open) // 2

    def cut(self) -> None:
        """End all connections, as a firewall does that resets them."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take none, and end all."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.flows.set()
        for _ in range(2):  # one may have come meanwhile
            self.cut()
            for thread in list(self._threads):
                thread.join(5)
        for each in (self._listener, *self._open):
            each.close()

    def _start(self, target: Callable[..., None], *words: object) -> None:
        self._threads.append(threading.Thread(target=target, args=words, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                try:
                    there = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    here.close()
                    continue
                self._open += [here, there]
                for source, sink in ((here, there), (there, here)):
                    self._start(self._pass, source, sink)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                self.flows.wait()
                time.sleep(self.delay_s)
                sink.sendall(piece)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
