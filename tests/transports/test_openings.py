"""The number of connections that are begun at once, by how long they take to be made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fanout.transports.http.connections import ConnectionPool
from fanout.transports.http.http1 import Connection


class Endpoint(ConnectionPool):
    """A pool whose connections take as long as ``took_s`` says of the number under way; it counts them."""

    def __init__(self, took_s: Callable[[int], float]) -> None:
        super().__init__("http://127.0.0.1:1", proxy=None, verify=True, max_idle=1, connect_timeout_s=60)
        self.took_s, self.under_way, self.most = took_s, 0, 0

    async def _open_now(self) -> Connection:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.took_s(self.under_way))
        self.under_way -= 1
        return Connection(self, asyncio.get_running_loop())


async def opened(pool: Endpoint, count: int) -> None:
    await pool.open()  # the first alone, as a run's look at its limits is
    await asyncio.gather(*(pool.open() for _ in range(count)))


@pytest.mark.looptime
async def test_an_endpoint_that_falls_behind_is_met_with_few_handshakes_at_once() -> None:
    """A hundred a second and no more: up to 512 would wait for it, and time out, did nothing notice."""
    pool = Endpoint(lambda under_way: 0.01 * under_way)
    await opened(pool, 600)
    assert pool.most < 300


@pytest.mark.looptime
async def test_a_long_way_does_not_make_connections_wait_for_one_another() -> None:
    """Each takes 0.3 s, alone or not: hundreds are under way."""
    pool = Endpoint(lambda _: 0.3)
    began_s = asyncio.get_running_loop().time()
    await opened(pool, 600)
    assert pool.most > 400
    assert asyncio.get_running_loop().time() - began_s < 2
