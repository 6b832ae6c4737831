"""Temporary credentials: one refresh for all, the old ones while they hold, a pause between refreshes."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from fanout.aws.credentials import KeptCredentials
from fanout.errors import RequestNotSent

pytestmark = pytest.mark.looptime


class Frozen(NamedTuple):
    access_key: str
    secret_key: str = "s"
    token: str = "t"


class Source:
    """Refreshable credentials as aiobotocore has them: what is fetched lives for ``lives_s``, in turn."""

    def __init__(self, *lives_s: float, takes_s: float = 0.5) -> None:
        self.loop = asyncio.get_running_loop()
        self.lives_s = list(lives_s)
        self.takes_s = takes_s
        self.fetched = 0
        self.tried = 0
        self.ends_at_s = self.loop.time()
        self.is_broken = False

    def refresh_needed(self, below_s: float) -> bool:
        return self.ends_at_s - self.loop.time() < below_s

    async def get_frozen_credentials(self) -> Frozen:
        if self.refresh_needed(900):
            self.tried += 1
            await asyncio.sleep(self.takes_s)
            if self.is_broken:
                raise OSError("no luck")
            self.ends_at_s = self.loop.time() + self.lives_s[min(self.fetched, len(self.lives_s) - 1)]
            self.fetched += 1
        return Frozen(f"KEY{self.fetched}")


def kept(source: Source) -> KeptCredentials:
    return KeptCredentials(source, clock=source.loop.time)


async def test_credentials_with_five_minutes_left_are_fetched_once_not_for_each_call() -> None:
    """A source that caches hands the same ones out again: 300 calls ask it once a minute."""
    source = Source(300.0, 290.0, 280.0, 270.0)
    credentials = kept(source)
    began_s = source.loop.time()
    for _ in range(300):
        await credentials.get_frozen_credentials()
        await asyncio.sleep(0.2)
    await credentials.aclose()
    assert source.tried <= 2
    assert source.loop.time() - began_s < 62


async def test_calls_do_not_wait_for_a_refresh_while_the_old_ones_hold() -> None:
    """The refresh goes on beside them, once for all, and its result is taken when it is there."""
    source = Source(120.0, 3_600.0, takes_s=5.0)
    credentials = kept(source)
    first = await credentials.get_frozen_credentials()
    await asyncio.sleep(61)
    began_s = source.loop.time()
    found = await asyncio.gather(*(credentials.get_frozen_credentials() for _ in range(50)))
    assert set(found) == {first}
    assert source.loop.time() == began_s
    await asyncio.sleep(6)
    assert (await credentials.get_frozen_credentials()).access_key == "KEY2"
    assert source.tried == 2


async def test_all_wait_for_one_refresh_once_they_have_run_out() -> None:
    """And a caller that gives up cuts it off for nobody else."""
    source = Source(100.0, 3_600.0, takes_s=5.0)
    credentials = kept(source)
    await credentials.get_frozen_credentials()
    await asyncio.sleep(200)
    waiting = [asyncio.ensure_future(credentials.get_frozen_credentials()) for _ in range(20)]
    await asyncio.sleep(1)
    waiting[0].cancel()
    found = await asyncio.gather(*waiting[1:])
    assert {each.access_key for each in found} == {"KEY2"}
    assert source.tried == 2


async def test_a_source_that_fails_is_asked_now_and_then_and_its_fault_is_everybodys() -> None:
    """Between two tries each call hears at once what was wrong with the last."""
    source = Source(100.0, 3_600.0)
    credentials = kept(source)
    await credentials.get_frozen_credentials()
    source.is_broken = True
    await asyncio.sleep(200)
    for _ in range(100):
        with pytest.raises(RequestNotSent, match="cannot be fetched: no luck"):
            await credentials.get_frozen_credentials()
        await asyncio.sleep(0.02)
    assert source.tried <= 4
    source.is_broken = False
    await asyncio.sleep(61)
    assert (await credentials.get_frozen_credentials()).access_key == "KEY2"


async def test_credentials_that_do_not_expire_are_never_waited_for() -> None:
    """Static ones have no ``refresh_needed``."""

    class Static:
        method = "explicit"

        async def get_frozen_credentials(self) -> Frozen:
            return Frozen("STATIC")

    credentials = KeptCredentials(Static(), clock=lambda: 0.0)
    assert (await credentials.get_frozen_credentials()).access_key == "STATIC"
    assert credentials.method == "explicit"
