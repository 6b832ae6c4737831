"""A transport that calls nobody: what is left is the cost of everything else."""

from __future__ import annotations

import asyncio

from fanout.model import InvokeTemplate, Reply

BODY = b'{"ok":true}'


class NullTransport:
    """Answers each call as Lambda would: after one turn of the event loop, as a real reply comes."""

    def __init__(self, *, yields: bool = True) -> None:
        self._yields = yields
        self.calls = 0

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: object = None) -> Reply:
        self.calls += 1
        if self._yields:
            await asyncio.sleep(0)
        return Reply(200, BODY, executed_version="1", request_id="6f2d1c3e-8f4b-4a53-9a39-0d5a4b7e5a11")

    def set_read_timeout(self, seconds: float) -> None:
        """There is none."""

    async def aclose(self) -> None:
        """There is nothing to close."""
