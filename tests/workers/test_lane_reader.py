"""The reader of lanes: rows that are not there, errors of a library, and no more ahead than memory allows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fanout.inputs import InputOptions, Reading, Rows
from fanout.inputs.listing import Entry
from fanout.workers import lane_reader
from fanout.workers.lane_reader import LaneReader
from fanout.workers.messages import HandedLane, LaneProgress

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


class _Lanes(LaneReader):
    """Reads 40 rows in four groups; the records of a lane have the numbers from 100."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "in.parquet"
        pq.write_table(pa.table({"id": list(range(40))}), self.path, row_group_size=10)
        self.told = asyncio.Event()
        super().__init__(Reading(InputOptions()), lambda: pytest.fail("no S3"), self.told.set)

    def hand(self, first_row: int, count: int) -> None:
        entry = Entry(str(self.path), path=str(self.path), size=self.path.stat().st_size)
        self.add(HandedLane(1, 100, Rows(entry, first_row, count)))

    async def until(self, read_to: int, *, fails: bool = False) -> LaneProgress:
        async with asyncio.timeout(60):
            while True:
                await self.told.wait()
                self.told.clear()
                for progress in self.progress()[0]:
                    if progress.read_to == read_to and fails == (progress.failure is not None):
                        return progress


async def test_rows_that_are_not_there_fail_their_lane(tmp_path: Path) -> None:
    """With those that are; the coordinator hands the lane to another."""
    lanes = _Lanes(tmp_path)
    lanes.hand(30, 20)
    progress = await lanes.until(110, fails=True)
    assert progress.failure == f"{lanes.path}: ends before row 50"
    assert [item.payload for item in lanes.take(1, 108, 120)] == [b'{"id":38}', b'{"id":39}']
    assert lanes.take(1, 112, 120) == []  # they have not been read
    assert lanes.take(2, 108, 120) == []  # no such lane
    await lanes.aclose()


async def test_an_error_of_a_library_fails_its_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises; the next lane is read."""
    lanes = _Lanes(tmp_path)
    open_rows = lanes._opener.open_rows

    async def fail(*_: Any) -> None:
        monkeypatch.setattr(lanes._opener, "open_rows", open_rows)
        raise RuntimeError("odd")

    monkeypatch.setattr(lanes._opener, "open_rows", fail)
    lanes.hand(0, 10)
    assert (await lanes.until(100, fails=True)).failure == "RuntimeError: odd"
    lanes.hand(0, 10)
    await lanes.until(110)
    await lanes.aclose()


async def test_no_more_is_read_ahead_than_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on once records were taken, or are not wanted any more."""
    monkeypatch.setattr(lane_reader, "MOST_RECORDS", 15)
    lanes = _Lanes(tmp_path)
    lanes.hand(0, 40)
    await lanes.until(120)
    await asyncio.sleep(0.05)
    assert not lanes.told.is_set()
    assert len(lanes.take(1, 100, 110)) == 10
    await lanes.until(130)
    lanes.cut(1, 125, 140)
    await lanes.until(140)
    lanes.cut(3, 0, 1)  # one that has been forgotten
    await lanes.aclose()
