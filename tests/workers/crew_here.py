"""Workers of a run inside the test's own process: real coordinator, real workers, no Dask and no network."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from fanout.model import InvokeTemplate, Reply
from fanout.workers.crew import Link
from fanout.workers.worker import Worker, WorkerActor

THROTTLE = (
    b'{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
)


RUN: dict[str, Any] = {
    "workers": 2,
    "concurrency": 10,
    "rate": 5000,
    "function_timeout": 2,
    "region": "us-east-1",
    "endpoint_url": "http://127.0.0.1:9",  # nothing is there: a crew's function answers
    "report": False,
}


class Function:
    """What all workers call. Counts what runs at once, and how often each payload ran."""

    def __init__(self, *, latency_s: float = 0.02) -> None:
        self.latency_s = latency_s
        self.in_flight = self.most_in_flight = 0
        self.runs: Counter[bytes] = Counter()
        self.wall: int | None = None  # calls at once, above which it throttles
        self.fails = False

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: object = None) -> Reply:
        if self.wall is not None and self.in_flight >= self.wall:
            return Reply(429, THROTTLE, error_type="TooManyRequestsException")
        self.runs[body] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        if self.fails:
            return Reply(200, b'{"errorType":"E","errorMessage":"no"}', function_error="Unhandled")
        return Reply(200, b'{"ok":true}', executed_version="1", request_id="r")

    def set_read_timeout(self, seconds: float) -> None:
        """There is none."""

    async def aclose(self) -> None:
        """There is nothing to close."""


class Here(WorkerActor):
    """A worker of this process; once it is lost, nothing reaches it. Silent: no answer to a greeting."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self._worker = Worker(transport=function)
        self.is_lost = False
        self.is_silent = False

    async def begin(self, settings: bytes) -> bytes:
        if self.is_silent:
            await asyncio.Event().wait()
        return await super().begin(settings)

    async def exchange(self, order: bytes) -> bytes:
        if self.is_lost:
            raise OSError("connection lost")
        return await super().exchange(order)


class CrewHere:
    """Stands where DaskCrew does. ``join`` adds a worker; ``lose`` makes one unreachable."""

    is_child = False
    start_message = "starting workers"

    def __init__(self, function: Function, workers: int) -> None:
        self.function = function
        self.workers = {f"w{number}": Here(function) for number in range(workers)}

    async def open(self) -> None:
        """They are there."""

    async def members(self) -> list[str]:
        return [name for name, worker in self.workers.items() if not worker.is_lost]

    async def link(self, name: str) -> Link:
        return self.workers[name]

    def join(self, name: str) -> None:
        self.workers[name] = Here(self.function)

    def lose(self, name: str) -> None:
        self.workers[name].is_lost = True

    async def aclose(self) -> None:
        """Nothing to end."""


def install(monkeypatch: pytest.MonkeyPatch, function: Function) -> list[CrewHere]:
    """Make every run with workers use them; returns the crews, as they are made."""
    crews: list[CrewHere] = []

    def make(*, workers: int | None = None, scheduler: object = None) -> CrewHere:
        crews.append(CrewHere(function, workers or 2))
        return crews[-1]

    monkeypatch.setattr("fanout.workers.DaskCrew", make)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    return crews
