"""A member of the crew: what the coordinator knows of one worker."""

from __future__ import annotations

from fanout.dispatcher import InputRecord, WorkerLoad
from fanout.inputs import Item
from fanout.workers.crew import Link
from fanout.workers.lanes import Lane
from fanout.workers.messages import Report
from fanout.workers.windows import Window


def shown(name: str) -> str:
    """A worker's name without the scheme of its address."""
    return name.rpartition("://")[2]


class Member:
    """The coordinator's view of one worker. ``name`` is its own in the run, ``address`` its crew's."""

    def __init__(
        self,
        name: str,
        address: str,
        link: Link,
        connections: int,
        now_s: float,
        *,
        records_per_call: int = 1,
    ) -> None:
        self.name = name
        self.address = address
        self.load = WorkerLoad(name=shown(name))
        self.link = link
        self.connections = connections  # that it can open
        self.window = Window(records_per_call)
        self.out: dict[int, InputRecord | Item | Lane] = {}  # handed over, and without an outcome
        self.reads_lanes = True  # until one could not be read there
        self.knows_reading = False
        self.report = Report(number=0)
        self.reported_s = now_s
        self.orders = 0
        self.blocks = 0  # of outcomes that have arrived
