"""Requests of one turn of the event loop, written together."""

from __future__ import annotations

import asyncio

from fanout.transports.http.gathered_writes import GatheredWrites


class Noted:
    """What would be a connection: notes what is written, in order."""

    def __init__(self, written: list[bytes]) -> None:
        self.written = written

    def write_request(self, data: bytes) -> None:
        self.written.append(data)


async def test_the_first_request_of_a_turn_is_written_at_once_and_the_others_at_its_end() -> None:
    """One call alone waits for nothing; in a busy turn the other end is woken after the work is done."""
    written: list[bytes] = []
    writes, connection = GatheredWrites(asyncio.get_running_loop()), Noted(written)
    for number in range(3):
        writes.add(connection, b"%d" % number, 1.0)
    assert written == [b"0"]
    await asyncio.sleep(0)
    assert written == [b"0", b"1", b"2"]
    writes.add(connection, b"3", 2.0)
    assert written[-1] == b"3"


async def test_requests_wait_by_the_dozen_at_the_most() -> None:
    """A turn may be long: the bound is how long the first of them waits. None is written twice."""
    written: list[bytes] = []
    writes, connection = GatheredWrites(asyncio.get_running_loop()), Noted(written)
    for number in range(100):
        writes.add(connection, b"%d" % number, 1.0)
    assert 100 - len(written) < 32
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert written == [b"%d" % number for number in range(100)]


async def test_several_are_written_at_once_after_those_before_unless_a_reply_is_being_told() -> None:
    """With the reply may have come the end of its connection, which is not known yet."""
    written: list[bytes] = []
    writes, connection = GatheredWrites(asyncio.get_running_loop()), Noted(written)
    for number in range(2):
        writes.add(connection, b"%d" % number, 1.0)
    assert written == [b"0"]
    writes.add_several([(connection, b"2"), (connection, b"3")])
    assert written == [b"0", b"1", b"2", b"3"]
    writes.is_held = True
    writes.add_several([(connection, b"4"), (connection, b"5")])
    assert len(written) == 4
    writes.is_held = False
    await asyncio.sleep(0)
    assert written == [b"0", b"1", b"2", b"3", b"4", b"5"]
    await asyncio.sleep(0)
    assert len(written) == 6


async def test_a_loop_whose_clock_goes_on_has_each_request_written_at_once() -> None:
    """As asyncio's own does: its calls wait for nothing either."""
    written: list[bytes] = []
    writes, connection = GatheredWrites(asyncio.get_running_loop()), Noted(written)
    for number in range(3):
        writes.add(connection, b"%d" % number, number / 1e6)
    assert len(written) == 3
