"""A transport that can also send a call at once, and act on its end without a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fanout.model import InvokeTemplate, Reply
from fanout.transports import Transport


class Flight(Protocol):
    """A call that is out. ``token`` is the sender's."""

    token: Any

    def cut_off(self) -> None:
        """Wait no longer for its end, which is not told then. The function may run on."""


OnEnd = Callable[[Flight, Reply | None, Exception | None], None]  # a reply, or what ``send`` would raise


class PromptTransport(Transport, Protocol):
    """Where nothing has to be waited for, a call costs no coroutine, no future and no turn of the loop."""

    def begin(
        self, template: InvokeTemplate, body: bytes, wall_s: float, token: Any, on_end: OnEnd
    ) -> Flight | None:
        """Send a call; None, and nothing is done, where that would wait, as for a connection.

        ``wall_s`` is Unix time. ``on_end`` is called once, never before this returns; with a reply as soon
        as that is there, while it is read.
        """

    def flush(self) -> None:
        """Write what was begun, where that waits for more. Nothing is written while a reply is read."""
