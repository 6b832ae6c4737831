"""ASGI application: checks who asks and passes each request to the API that answers it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from fanout.emulator import admin
from fanout.emulator.control import ControlApi
from fanout.emulator.counters import Counters
from fanout.emulator.destinations import Destinations
from fanout.emulator.durable import DAY_S, DurableExecutions, DurableSettings
from fanout.emulator.events import EventQueue
from fanout.emulator.executor import Executor
from fanout.emulator.functions import BadReference, Function, Registry, UnknownFunction
from fanout.emulator.invoke import InvokeApi
from fanout.emulator.lifecycle import Lifecycle
from fanout.emulator.model import Account, ControlPlane, FunctionLoad
from fanout.emulator.pool import Pool
from fanout.emulator.record_faults import RecordFaults
from fanout.emulator.replies import Refusal, denied, not_found
from fanout.emulator.request import Disconnected, Request
from fanout.emulator.settings import ACCOUNT_ID, FunctionSettings, Settings
from fanout.emulator.simulation import Dice, Simulation
from fanout.emulator.spawner import Spawner

_INVOKE = ("/2015-03-31/functions/", "/invocations")
_STREAM = ("/2021-11-15/functions/", "/response-streaming-invocations")
_LOOPBACK = re.compile(rb"(127(\.\d+){3}|localhost|[a-z0-9.-]+\.localhost|\[::1\])(:\d+)?", re.IGNORECASE)


class App:
    """The emulator behind HTTP. Must be made on the event loop's thread.

    ``go_away`` closes every connection and takes no new one for so many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        spawner: Spawner,
        show_log: Callable[[bytes], None] | None,
        go_away: Callable[[float], None],
    ) -> None:
        assert settings.region is not None
        self.registry = Registry(settings.region, ACCOUNT_ID)
        self.account = Account(settings.account, is_enforced=not settings.no_limits)
        counters = Counters(settings.count_by)
        executor = Executor(self.account, counters, settings.linger_ms / 1000)
        destinations = Destinations(settings.region)
        events = EventQueue(self.account, executor, counters, destinations, settings.event_wait_scale)
        executions = DurableExecutions()
        plane = ControlPlane()
        self._denied: set[str] = set()
        self._counters = counters
        self._invoke = InvokeApi(self.registry, self.account, executor, events, counters, executions, go_away)
        self._control = ControlApi(self.registry, self.account, plane, self._denied, executions)
        self._admin = admin.AdminApi(
            self.registry, self.account, plane, events, counters, destinations, self._denied
        )
        self._known_hosts: set[bytes] = set()
        for function in settings.functions:
            load = self.account.add(function.name, function.concurrency)
            if function.simulation is None:
                served = _real(function, load, Pool(function, spawner, show_log))
            else:
                served = _simulated(function, function.simulation, load, settings.seed)
            self.registry.add(served)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
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
        _check_origin(request.headers)
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


def _check_origin(headers: dict[bytes, bytes]) -> None:
    """Refuse what a browser sent for a page of another origin. Only browsers send these headers."""
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    is_foreign = site is not None and site not in {b"same-origin", b"none"}
    if origin is not None:
        is_foreign = is_foreign or origin.lower() != b"http://" + headers.get(b"host", b"").lower()
    if is_foreign:
        raise Refusal(403, "AccessDeniedException", "the emulator does not answer pages of another origin")


def _real(function: FunctionSettings, load: FunctionLoad, pool: Pool) -> Function:
    return Function(
        function,
        load,
        Lifecycle(time.monotonic()),
        pool=pool,
        durable=_durable(function),
        dead_letter=function.dead_letter,
        event_configs=_event_configs(function),
    )


def _simulated(function: FunctionSettings, simulation: Simulation, load: FunctionLoad, seed: int) -> Function:
    lifecycle = Lifecycle(
        time.monotonic(),
        pending_s=simulation.pending_s,
        inactive_s=simulation.inactive_s,
        failed=simulation.failed,
        outages=simulation.outages,
    )
    record_faults = None
    if simulation.poison_rate or simulation.item_error_rate:
        record_faults = RecordFaults(
            seed,
            simulation.name,
            poison_rate=simulation.poison_rate,
            item_error_rate=simulation.item_error_rate,
        )
    return Function(
        function,
        load,
        lifecycle,
        dice=Dice(simulation, seed),
        versions=[str(number + 1) for number in range(simulation.versions)],
        aliases=dict(simulation.aliases),
        refusals=simulation.refusals,
        record_faults=record_faults,
        durable=_durable(function),
        dead_letter=function.dead_letter,
        event_configs=_event_configs(function),
    )


def _durable(function: FunctionSettings) -> DurableSettings | None:
    if function.durable_s is None:
        return None
    retention_s = 14 * DAY_S if function.retention_s is None else function.retention_s
    return DurableSettings(function.durable_s, retention_s)


def _event_configs(function: FunctionSettings) -> dict[str, dict[str, Any]]:
    """Lay out what the function begins with, for every qualifier; nothing if nothing was asked for."""
    config: dict[str, Any] = {}
    simulation = function.simulation
    if simulation is not None and simulation.event_retries is not None:
        config["MaximumRetryAttempts"] = simulation.event_retries
    if simulation is not None and simulation.event_age_s is not None:
        config["MaximumEventAgeInSeconds"] = round(simulation.event_age_s)
    if not config and not function.on_success and not function.on_failure:
        return {}
    config["DestinationConfig"] = {
        "OnSuccess": {"Destination": function.on_success} if function.on_success else {},
        "OnFailure": {"Destination": function.on_failure} if function.on_failure else {},
    }
    return {"": config | {"FunctionArn": f"{function.arn}:$LATEST", "LastModified": time.time()}}
