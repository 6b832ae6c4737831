"""A queue in a process of its own, which outlives killed runs; time can be made to pass for its messages."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import urllib.request
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from tests.queues.stand_in import Queue, serving


class _Asked(Queue):
    """A queue that is also asked to fill itself, to let time pass, and for what is left in it."""

    def _fill(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.messages.clear()
        self._fresh.clear()
        for number in range(asked["Count"]):
            self.send({"id": number})
        return 200, {}

    def _pass_time(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for message in self.messages.values():
            message.visible_s = 0.0
        return 200, {}

    def _left(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"Left": [str(json.loads(each.body)["id"]) for each in self.messages.values()]}


class QueueProcess:
    """The queue ``jobs`` on 127.0.0.1, for the length of a ``with`` block."""

    def __enter__(self) -> Self:
        theirs, ours = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(theirs,), daemon=True
        )
        self._process.start()
        self.url: str = ours.recv()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()

    def fill(self, count: int) -> None:
        """Empty it, and send so many messages, ``{"id": 0}`` and so on."""
        self._ask("Fill", Count=count)

    def pass_time(self) -> None:
        """Let the visibility of every message end, as a minute of waiting would."""
        self._ask("PassTime")

    def left(self) -> set[str]:
        """The ids of the messages that nobody has deleted."""
        return set(self._ask("Left")["Left"])

    def _ask(self, action: str, **what: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url,
            json.dumps({"QueueUrl": f"{self.url}/0/jobs", **what}).encode(),
            {"X-Amz-Target": f"AmazonSQS.{action}", "Connection": "close"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer: dict[str, Any] = json.loads(reply.read())
        return answer


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        async with serving(_Asked()) as url:
            pipe.send(url)
            await asyncio.Event().wait()

    asyncio.run(serve())
