"""The waiting room of an outage: calls whose attempts failed in it, and feeds whose turn came."""

from __future__ import annotations

from collections import deque

from fanout.dispatcher.call import Call, Feed
from fanout.dispatcher.record import InputRecord


class WaitingRoom:
    """Calls and feeds that wait. True while anything does."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()
        self.feeds: deque[Feed] = deque()
        self._probed: Call | None = None

    def __bool__(self) -> bool:
        return bool(self.calls or self.feeds)

    def probe(self) -> Call | None:
        """Take out the call that probes next; None when it is the turn of ``feeds``.

        A call that probed and came back goes last, so that each probe is of another record where there
        is one.
        """
        calls = self.calls
        if calls and (calls[0] is not self._probed or not self.feeds):
            return calls.popleft()
        return None

    def on_probe_sent(self, call: Call) -> None:
        """The probe is on its way."""
        self._probed = call

    def take(self, feed: Feed | None) -> list[Call]:
        """Take out the calls of one feed, or all."""
        taken = [call for call in self.calls if feed is None or call.feed is feed]
        if taken:
            self.calls = deque(call for call in self.calls if not (feed is None or call.feed is feed))
        return taken

    def take_call_of(self, feed: Feed, record: InputRecord) -> Call | None:
        """Take out the call that carries a record, if it waits."""
        for call in self.calls:
            if call.feed is feed and record in call.records:
                self.calls.remove(call)
                return call
        return None
