"""A transport that can also send a call at once, and act on its end without a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        self,
        template: InvokeTemplate,
        bodies: Sequence[bytes],
        tokens: Sequence[Any],
        wall_s: float,
        on_end: OnEnd,
        begun: list[Flight],
    ) -> None:
        """Send calls that are alike but for their bodies, up to the first that would wait.

        It would as for a connection. The flights of those that are out are added to ``begun``, in order,
        also where an error is raised. ``wall_s`` is Unix time. ``on_end`` is called once for each, never
        before this returns; with a reply as soon as that is there, while it is read.
        """
