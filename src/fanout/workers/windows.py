"""The windows of a worker: how many records it may send between two reports.

A worker that dies makes suspects of its window. So a window is small, and is journaled before it is handed
out; and it is large enough for a worker to stay busy until the next order.
"""

from __future__ import annotations

WINDOW_S = 0.2  # of a worker's rate
LEAST = 16  # records
MOST_BYTES = 8 * 1024 * 1024  # of payloads in one order
ORDER_EVERY_S = 0.1
_SPARE = 1.5  # of what a worker starts between two orders, where they come late
_LONGEST_S = 1.0  # of its rate: a lease ends then


class Window:
    """One worker's. It follows the rate of its reports, so that it doubles with each at first.

    ``per_call``: records of a full batch. A window holds one at the least, and is handed out in whole ones.
    """

    def __init__(self, per_call: int = 1) -> None:
        self._per_call = per_call
        self._least = max(LEAST, per_call)
        self.records = self._least
        self.is_cut_short = False  # the last order held fewer, for their bytes

    @property
    def order_every_s(self) -> float:
        """How long after an order the next one goes out."""
        return ORDER_EVERY_S / 2 if self.is_cut_short else ORDER_EVERY_S

    def note(self, started: int, elapsed_s: float) -> None:
        """A report: so many records were started since the one before."""
        if elapsed_s <= 0:
            return
        lasts_s = min(_LONGEST_S, max(WINDOW_S, _SPARE * elapsed_s))
        self.records = max(self._least, round(started / elapsed_s * lasts_s), self.records // 2)

    def room(self, held: int, permits: int, forming: int = 0) -> int:
        """The number of further records for a worker that holds so many unsent, and has so many permits.

        ``forming``: those that wait for their batch to fill. What it gets makes its batches whole.
        """
        room = max(0, self.records - held) if permits else 0
        over = (held + forming + room) % self._per_call
        return room + self._per_call - over if room and over else room
