"""The roster of a run: its workers, how each was greeted, and when one that took no work is asked again.

A worker that does not answer holds up no other. One that was lost and is there again, under the address
that it had, counts as another worker: the lease that it had lingers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf

import anyio
import msgspec

from fanout.errors import ConfigError, FatalRefusal
from fanout.version import version
from fanout.workers.crew import Crew
from fanout.workers.dask_logs import first_line
from fanout.workers.member import Member, shown
from fanout.workers.messages import Greeting, Settings

_log = logging.getLogger("fanout")

GREET_S = 20.0  # a worker that has not answered its greeting for so long takes no work yet
GATHER_S = 3.0  # that the first to answer waits for the others
SCHEDULER_S = 10.0  # for a scheduler to say which workers there are
LOOK_S = 1.0  # between two looks for those that have gone, until one has answered
AGAIN_S = 15.0  # until a worker that took no work is greeted again; then twice as long, and so on
MOST_AGAIN_S = 120.0


class Roster:
    """Finds and greets workers. ``on_join`` is called with each that takes work."""

    def __init__(
        self,
        crew: Crew,
        *,
        clock: Callable[[], float],
        settings: Callable[[], Settings],
        say: Callable[[str], None],
        on_join: Callable[[Member], None],
    ) -> None:
        self.members: dict[str, Member] = {}  # at work now, by name
        self._crew = crew
        self._clock = clock
        self._settings = settings
        self._say = say
        self._on_join = on_join
        self._refusals: list[str] = []
        self._not_before_s: dict[str, float] = {}  # by address: when to greet next
        self._waits_s: dict[str, float] = {}
        self._count: dict[str, int] = {}  # members that an address has had
        self._said: set[str] = set()
        self._greetings: dict[str, asyncio.Task[None]] = {}  # by address

    async def meet(self) -> None:
        """Greet the workers that are there. Raises when every one of them refuses."""
        try:
            with anyio.fail_after(SCHEDULER_S):
                addresses = await self._crew.members()
        except TimeoutError:
            raise ConfigError(f"the scheduler has not answered for {SCHEDULER_S:.0f} s") from None
        for address in addresses:
            self._start_greeting(address)
        while self._greetings and not self.members:
            waiting = list(self._greetings.values())
            await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if self._greetings and not self.members:
                await self.look()
        if self._greetings:
            await asyncio.wait(list(self._greetings.values()), timeout=GATHER_S)
        if self._refusals and not self.members:
            first = self._refusals[0]
            if "fanout" in first and "coordinator" in first:
                raise ConfigError(f"{first}: install the same version on all workers")
            raise FatalRefusal(first, code="NoCredentials")

    async def look(self) -> None:
        """Greet workers that are new, or may be asked again; whatever comes of it comes later."""
        try:
            with anyio.fail_after(SCHEDULER_S):
                addresses = await self._crew.members()
        except Exception as error:  # noqa: BLE001 - the scheduler is not reached: workers go on without it
            _log.info("the scheduler does not answer: %s", error)
            return
        for address in self._greetings.keys() - set(addresses):
            self._greetings.pop(address).cancel()
            self._put_off(address)
            self._say_once(f"worker {shown(address)} was lost before it took work{_needs_fanout()}")
        for address in addresses:
            if self._clock() >= self._not_before_s.get(address, -inf):
                self._start_greeting(address)

    def lose(self, member: Member) -> None:
        """A worker does not answer any more. It may come back."""
        self.members.pop(member.name, None)
        self._put_off(member.address)

    def leave(self, member: Member) -> None:
        """A worker has ended in order."""
        self.members.pop(member.name, None)

    def compare_files(self, budget: int) -> None:
        """Say which workers may open too few files for an equal share of the budget."""
        for member in self.members.values():
            if member.connections * len(self.members) < budget:
                self._say_once(
                    f"worker {shown(member.name)} may open files for {member.connections:,} calls at once, "
                    "less than its share of the budget: raise ulimit -n there"
                )

    async def aclose(self) -> None:
        """End what is being greeted."""
        greetings = list(self._greetings.values())
        for each in greetings:
            each.cancel()
        if greetings:
            await asyncio.wait(greetings)

    # --- greetings -----------------------------------------------------------------------------

    def _start_greeting(self, address: str) -> None:
        self._not_before_s[address] = inf
        self._greetings[address] = asyncio.create_task(self._greet_in_time(address))

    async def _greet_in_time(self, address: str) -> None:
        member: Member | None = None
        try:
            with anyio.fail_after(GREET_S):
                member = await self._greet(address)
        except TimeoutError:
            self._say_once(
                f"worker {shown(address)} has not answered for {GREET_S:.0f} s: it takes no work until it "
                "does; it may be stopped, or busy with other tasks"
            )
        self._greetings.pop(address, None)
        if member is None:
            self._put_off(address)
            return
        self.members[member.name] = member
        self._on_join(member)

    async def _greet(self, address: str) -> Member | None:
        """Place a worker; None where it takes no work."""
        settings = self._settings()
        try:
            link = await self._crew.link(address)
            answer = await link.begin(msgspec.msgpack.encode(settings))
            greeting = msgspec.msgpack.decode(answer, type=Greeting)
        except Exception as error:  # noqa: BLE001 - the carrier's; the others go on
            said = first_line(error)
            needs = _needs_fanout() if isinstance(error, ImportError) or "deserialization" in said else ""
            self._say_once(f"worker {shown(address)} was lost before it took work: {said}{needs}")
            return None
        if greeting.refusal is not None:
            self._refusals.append(f"worker {address}: {greeting.refusal}")
            self._say_once(f"worker {shown(address)} takes no work: {greeting.refusal}")
            return None
        count = self._count[address] = self._count.get(address, 0) + 1
        name = address if count == 1 else f"{address}#{count}"
        per_call = settings.options.batch or 1
        return Member(name, address, link, greeting.connections, self._clock(), records_per_call=per_call)

    def _put_off(self, address: str) -> None:
        wait_s = self._waits_s.get(address, AGAIN_S)
        self._waits_s[address] = min(MOST_AGAIN_S, 2 * wait_s)
        self._not_before_s[address] = self._clock() + wait_s

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)


def _needs_fanout() -> str:
    return f"; scheduler and workers need fanout {version()}"


__all__ = ["Roster"]
