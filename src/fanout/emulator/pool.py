"""Pool of a function's environments: a free one of the version takes the call, else a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fanout.emulator.call import Call, Result
from fanout.emulator.environments import INIT_LIMIT_S, Environment, EnvironmentGone
from fanout.emulator.settings import FunctionSettings
from fanout.emulator.spawner import Spawner


class Pool:
    """The environments of one function: reuses one that is free, starts one otherwise."""

    def __init__(
        self, settings: FunctionSettings, spawner: Spawner, show_log: Callable[[bytes], None] | None
    ) -> None:
        self.settings = settings
        self._spawner = spawner
        self._show_log = show_log
        self._free: dict[str, list[Environment]] = {}
        self._stale: set[Environment] = set()
        self._leased: set[Environment] = set()

    async def run(self, call: Call) -> tuple[Result, Environment]:
        """Run a call in an environment of its version; the caller gives the environment back."""
        while True:
            free = self._free.get(call.version)
            environment = free.pop() if free else await self._start(call.version)
            self._leased.add(environment)
            try:
                return await environment.run(call), environment
            except EnvironmentGone:
                self._leased.discard(environment)

    def give_back(self, environment: Environment) -> None:
        """Make an environment free for the next call."""
        self._leased.discard(environment)
        if environment in self._stale:
            self._stale.discard(environment)
            environment.kill()
        elif not environment.is_dead:
            self._free.setdefault(environment.version, []).append(environment)

    async def check(self) -> Result | None:
        """Initialise one environment and keep it; tells what went wrong, if anything did."""
        environment = await self._start("$LATEST")
        try:
            error = await asyncio.wait_for(asyncio.shield(environment.initialised), INIT_LIMIT_S)
        except TimeoutError:
            error = None  # slow, not wrong: the first call waits for it
        if error is None:
            self.give_back(environment)
        return error

    def replace_all(self) -> None:
        """Have every later call start in a new environment."""
        self._stale |= self._leased
        for environments in self._free.values():
            for environment in environments:
                environment.kill()
        self._free.clear()

    async def _start(self, version: str) -> Environment:
        environment = Environment(self.settings, version, self._spawner, show_log=self._show_log)
        await environment.start()
        return environment
