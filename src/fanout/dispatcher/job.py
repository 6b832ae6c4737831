"""What the loop carries for one record between its pull and its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fanout.model import AttemptEnd, Classification, ErrorDetail, InvokeTemplate, Record, Reply, Verdict

if TYPE_CHECKING:
    from fanout.dispatcher.feeds import Feed

HISTORY_KEPT = 5


class Job(msgspec.Struct):
    """One record on its way. Times ending in ``_s`` are of the engine's monotonic clock."""

    feed: Feed
    seq: int
    body: bytes
    template: InvokeTemplate
    pulled_s: float
    key: str | None = None
    line: int | None = None
    own: Record | None = None  # the record's own parameters, when it has any
    fault: ErrorDetail | None = None  # set: nothing is sent
    fault_verdict: Verdict = Verdict.REJECTED
    attempts: int = 0
    throttles: int = 0
    function_error_retries: int = 0
    first_sent_s: float = 0.0
    sent_s: float = 0.0
    sent_wall_s: float = 0.0  # Unix time of the last sending
    last: Classification | None = None  # the end of the last attempt, while a retry waits
    last_http_status: int | None = None
    may_have_run: bool = False  # some attempt ended without telling
    history: list[AttemptEnd] | None = None
    is_waiting: bool = False  # among the retries
    is_probe: bool = False  # the breaker's, on its way
    ran: tuple[Reply, ErrorDetail | None] | None = None  # the last function error, while it is repeated

    @property
    def was_sent(self) -> bool:
        """Whether any attempt was made."""
        return self.sent_wall_s != 0.0

    def note_attempt(self, end: AttemptEnd) -> None:
        """Keep how an attempt ended; the last five stay."""
        if self.history is None:
            self.history = []
        elif len(self.history) >= HISTORY_KEPT:
            del self.history[0]
        self.history.append(end)
