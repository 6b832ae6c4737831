"""The emulator's own requests under ``/_fanout/``: stats, reset and limits."""

from __future__ import annotations

import time
from typing import Any

from fanout.emulator.counters import Counters
from fanout.emulator.destinations import Destinations
from fanout.emulator.events import EventQueue
from fanout.emulator.functions import Function, Registry
from fanout.emulator.model import Account, ControlPlane, Reason
from fanout.emulator.replies import Refusal, invalid
from fanout.emulator.request import Request

PREFIX = "/_fanout/"


class AdminApi:
    """Answers stats, reset and limits."""

    def __init__(
        self,
        registry: Registry,
        account: Account,
        plane: ControlPlane,
        events: EventQueue,
        counters: Counters,
        destinations: Destinations,
        denied_operations: set[str],
    ) -> None:
        self._registry = registry
        self._account = account
        self._plane = plane
        self._events = events
        self._counters = counters
        self._destinations = destinations
        self._denied = denied_operations

    async def answer(self, request: Request) -> None:
        """Answer one request; raises Refusal."""
        match request.scope["method"], request.scope["path"].removeprefix(PREFIX):
            case "GET", "stats":
                await request.reply_json(200, self._stats())
            case "POST", "reset":
                self._reset()
                await request.reply_json(200, {})
            case "POST", "limits":
                self._set_limits(await request.json())
                await request.reply_json(200, self._limits())
            case _:
                raise Refusal(404, "UnknownOperationException", "try GET stats, POST reset or POST limits")

    def _stats(self) -> dict[str, Any]:
        counters = self._counters
        loads = self._account.functions.values()
        throttles = dict(self._account.throttles())
        if self._plane.throttles:
            throttles[Reason.CALLER_RATE] = throttles.get(Reason.CALLER_RATE, 0) + self._plane.throttles
        return {
            "in_flight": self._account.in_flight,
            "max_in_flight": self._account.max_in_flight,
            "requests": sum(load.requests for load in loads),
            "executions": counters.executions.total(),
            "throttles": throttles,
            "functions": {
                load.name: {
                    "in_flight": load.in_flight,
                    "max_in_flight": load.max_in_flight,
                    "environments": load.environments.level,
                    "requests": load.requests,
                    "executions": counters.executions[load.name],
                    "throttles": dict(load.throttles),
                }
                for load in loads
            },
            "executions_by_key": counters.by_key,
            "operations": counters.operations,
            "tenants": counters.tenants,
            "events": {
                "pending": self._events.pending,
                "conditions": counters.event_conditions,
                "delivered": self._destinations.delivered,
                "lost": self._destinations.lost,
                "results": list(counters.event_results),
            },
            "limits": self._limits(),
        }

    def _limits(self) -> dict[str, Any]:
        return {
            "account_concurrency": self._account.concurrency,
            "unreserved_concurrency": self._account.unreserved,
            "deny": sorted(self._denied),
            "functions": {
                name: {
                    "reserved_concurrency": function.load.reserved,
                    "timeout_s": function.settings.timeout_s,
                }
                for name, function in self._registry.functions.items()
            },
        }

    def _reset(self) -> None:
        self._account.reset()
        self._counters.reset()
        self._plane.throttles = 0
        for function in self._registry.functions.values():
            if function.pool is not None:
                function.pool.replace_all()

    def _set_limits(self, changes: dict[str, Any]) -> None:
        known = {"account_concurrency", "reserved_concurrency", "timeout_s", "function", "deny"}
        unknown = set(changes) - known
        if unknown:
            raise invalid(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
        now_s = time.monotonic()
        if "account_concurrency" in changes:
            self._account.set_concurrency(_whole(changes, "account_concurrency"), now_s)
        if "deny" in changes:
            if not isinstance(changes["deny"], list):
                raise invalid("deny: must be a list of operation names")
            self._denied.clear()
            self._denied.update(map(str, changes["deny"]))
        if "reserved_concurrency" in changes:
            reserved = None
            if changes["reserved_concurrency"] is not None:
                reserved = _whole(changes, "reserved_concurrency")
            for function in self._chosen(changes):
                self._account.set_reserved(function.load, reserved, now_s)
        if "timeout_s" in changes:
            timeout_s = changes["timeout_s"]
            if not isinstance(timeout_s, (int, float)) or not 0 < timeout_s <= 900:
                raise invalid("timeout_s: must be above 0 and at most 900")
            for function in self._chosen(changes):
                function.settings.timeout_s = float(timeout_s)

    def _chosen(self, changes: dict[str, Any]) -> list[Function]:
        if "function" in changes:
            return [self._registry.find(str(changes["function"]))[0]]
        return list(self._registry.functions.values())


def _whole(changes: dict[str, Any], name: str) -> int:
    value = changes[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise invalid(f"{name}: must be a whole number of 0 or more")
    return value
