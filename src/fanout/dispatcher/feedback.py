"""Feedback: what permits, limit, pacer and patience learn from attempts that did not succeed."""

from __future__ import annotations

from fanout.dispatcher.call import Attempt
from fanout.dispatcher.hooks import Hooks
from fanout.gate import Gate, Release
from fanout.model import Classification, ThrottleKind, Verdict
from fanout.pacer import Pacer
from fanout.retry import ThrottlePatience


class Feedback:
    """Gives permits back. A success is not its business, but for ``forget_trouble``."""

    def __init__(
        self, gate: Gate, pacer: Pacer, patience: ThrottlePatience, hooks: Hooks, *, linger_s: float
    ) -> None:
        self.is_troubled = False  # some end since the last progress was no success
        self._gate = gate
        self._pacer = pacer
        self._patience = patience
        self._hooks = hooks
        self.linger_s = linger_s

    def set_linger(self, seconds: float) -> None:
        """Another ``linger_s``: the time from its sending for which a lost call may run on."""
        self.linger_s = seconds

    def forget_trouble(self) -> None:
        """Something went forward: the patience with throttles begins anew."""
        self.is_troubled = False
        self._patience.note_progress()

    def note_idle(self) -> None:
        """Nothing is asked for: the patience with throttles is not used up meanwhile."""
        self._patience.note_progress()

    def linger(self, attempt: Attempt, now_s: float) -> None:
        """An attempt was cut off: its function may run on, and keeps the permit."""
        self._gate.linger(attempt.sent_s + self.linger_s, attempt.n_bytes, now_s)

    def release(self, attempt: Attempt, end: Classification, now_s: float) -> None:
        """Give the permit of an attempt that did not succeed back, and let limit and pacer learn."""
        verdict, gate, n_bytes = end.verdict, self._gate, attempt.n_bytes
        self.is_troubled = True
        if verdict is not Verdict.THROTTLED:
            self._patience.note_progress()  # not nothing but throttles; an outage has a patience of its own
        if verdict is Verdict.THROTTLED:
            self._on_throttle(attempt, end, now_s)
        elif verdict is Verdict.AMBIGUOUS:
            attempt.call.may_have_run = True
            until_s = attempt.sent_s + self.linger_s
            if until_s > now_s:
                gate.linger(until_s, n_bytes, now_s)
            else:
                gate.release(Release.IGNORED, n_bytes, attempt.sent_s, now_s)
        elif verdict is Verdict.FUNCTION_ERROR:
            gate.release(Release.SUCCESS, n_bytes, attempt.sent_s, now_s)
            self._pacer.on_success(now_s)
        else:
            gate.release(Release.IGNORED, n_bytes, attempt.sent_s, now_s)

    def _on_throttle(self, attempt: Attempt, end: Classification, now_s: float) -> None:
        call = attempt.call
        call.attempts -= 1  # a throttle ran nothing: it costs no attempt
        call.throttles += 1
        self._patience.note_throttle(now_s)
        kind = end.throttle or ThrottleKind.UNKNOWN
        retry_after_s = self._patience.bounded(end.retry_after_s, call.deadline_s, now_s)
        if kind is ThrottleKind.RATE:
            self._gate.release(Release.IGNORED, attempt.n_bytes, attempt.sent_s, now_s)
        else:
            self._gate.release(Release.DROPPED, attempt.n_bytes, attempt.sent_s, now_s, kind, retry_after_s)
        if kind in (ThrottleKind.RATE, ThrottleKind.UNKNOWN):
            self._pacer.on_throttle(now_s, retry_after_s, attempt.sent_s)
        error = end.error
        self._hooks.on_throttle("" if error is None else error.reason or error.type)
