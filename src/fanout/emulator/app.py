"""ASGI application: checks who asks and passes each request to the API that answers it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fanout.emulator import admin
from fanout.emulator.control import ControlApi
from fanout.emulator.counters import Counters
from fanout.emulator.events import EventQueue
from fanout.emulator.executor import Executor
from fanout.emulator.functions import BadReference, Function, Registry, UnknownFunction
from fanout.emulator.invoke import InvokeApi
from fanout.emulator.model import Account, ControlPlane
from fanout.emulator.pool import Pool
from fanout.emulator.replies import Refusal, denied, not_found
from fanout.emulator.request import Disconnected, Request
from fanout.emulator.settings import ACCOUNT_ID, Settings
from fanout.emulator.simulation import Dice
from fanout.emulator.spawner import Spawner

_INVOKE = ("/2015-03-31/functions/", "/invocations")
_STREAM = ("/2021-11-15/functions/", "/response-streaming-invocations")
_LOOPBACK = re.compile(rb"(127(\.\d+){3}|localhost|[a-z0-9.-]+\.localhost|\[::1\])(:\d+)?", re.IGNORECASE)


class App:
    """The emulator behind HTTP. Must be made on the event loop's thread."""

    def __init__(
        self, settings: Settings, spawner: Spawner, show_log: Callable[[bytes], None] | None
    ) -> None:
        assert settings.region is not None
        self.registry = Registry(settings.region, ACCOUNT_ID)
        self.account = Account(settings.account, is_enforced=not settings.no_limits)
        counters = Counters(settings.count_by)
        executor = Executor(self.account, counters, settings.linger_ms / 1000)
        events = EventQueue(self.account, executor, counters, settings.event_wait_scale)
        plane = ControlPlane()
        self._denied: set[str] = set()
        self._counters = counters
        self._invoke = InvokeApi(self.registry, self.account, executor, events, counters)
        self._control = ControlApi(self.registry, self.account, plane, self._denied)
        self._admin = admin.AdminApi(self.registry, self.account, plane, events, counters, self._denied)
        self._known_hosts: set[bytes] = set()
        for function in settings.functions:
            load = self.account.add(function.name, function.concurrency)
            simulation = function.simulation
            if simulation is None:
                served = Function(function, load, pool=Pool(function, spawner, show_log))
            else:
                served = Function(function, load, dice=Dice(simulation, settings.seed))
                served.versions = [str(number + 1) for number in range(simulation.versions)]
                served.aliases = dict(simulation.aliases)
            self.registry.add(served)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        try:
            await self._route(request, scope["path"])
        except Disconnected:
            return
        except Refusal as refusal:
            await request.refuse(refusal)
        except UnknownFunction as unknown:
            await request.refuse(not_found(unknown.arn))
        except BadReference as bad:
            await request.refuse(Refusal(400, "ValidationException", str(bad), kind=""))

    async def _route(self, request: Request, path: str) -> None:
        self._check_host(request.headers.get(b"host", b""))
        for (start, end), operation, answer in (
            (_INVOKE, "Invoke", self._invoke.invoke),
            (_STREAM, "InvokeWithResponseStream", self._invoke.invoke_stream),
        ):
            if path.endswith(end) and path.startswith(start) and request.scope["method"] == "POST":
                self._counters.operations[operation] += 1
                if operation in self._denied:
                    raise denied("InvokeFunction")
                await answer(request, path[len(start) : -len(end)])
                return
        if path.startswith(admin.PREFIX):
            await self._admin.answer(request)
        else:
            await self._control.answer(request, self._count)

    def _count(self, operation: str) -> None:
        self._counters.operations[operation] += 1

    def _check_host(self, host: bytes) -> None:
        """Refuse names that are not loopback: a web page must not reach the handlers by a name of its own."""
        if host not in self._known_hosts:
            if host and not _LOOPBACK.fullmatch(host):
                raise Refusal(403, "AccessDeniedException", "the emulator answers to loopback names only")
            if len(self._known_hosts) < 100:
                self._known_hosts.add(host)
