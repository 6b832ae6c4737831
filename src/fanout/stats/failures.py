"""Groups of failures: those of one status, error type and top stack frame."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from fanout.model import ErrorDetail, Outcome

MOST_CLUSTERS = 200
OTHER = "(other)"
_MOST_CHARS = 1000
_MOST_FRAMES = 30
_MOST_CACHED = 1000

_PYTHON_FRAME = re.compile(r'\s*File "([^"\n]*)", line (\d+)(?:, in ([^\n]*))?')
_DIRECTORIES = re.compile(r"(^|\()[^()]*[/\\]")
_NODE_FRAME = re.compile(r"\s*at\s+(.*)")


class FailureCluster(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Failures alike, with the first of them as the sample. ``frame`` is "" where no trace was given.

    ``faults``: how many of them can never be sent.
    """

    status: str
    type: str
    frame: str = ""
    count: int = 0
    message: str = ""
    seq: int = -1  # of the sample
    key: str | None = None
    request_id: str | None = None
    stack_trace: list[str] | None = None
    log_tail: str | None = None
    faults: int = 0


class FailureClusters:
    """Counts failures by kind in bounded memory.

    When ``MOST_CLUSTERS`` kinds are held, the rarer half is folded into one named ``(other)``: the
    counts always sum to the number of failures, and a kind that is common stays.
    """

    def __init__(self) -> None:
        self._clusters: dict[tuple[str, str, str], FailureCluster] = {}
        self._frames: dict[tuple[str, ...], str] = {}
        self._other = 0
        self._other_faults = 0

    def add(self, outcome: Outcome) -> None:
        """Count one failed outcome."""
        error = outcome.error
        kind, frame = str(outcome.status), ""
        if error is not None:
            kind = error.type
            if error.stack_trace:
                frame = self._frame(error.stack_trace)
        key = (outcome.status, kind, frame)
        cluster = self._clusters.get(key)
        if cluster is None:
            cluster = self._clusters[key] = _sample(outcome, error, kind, frame)
            if len(self._clusters) > MOST_CLUSTERS:
                self._fold(key)
        cluster.count += 1
        cluster.faults += outcome.is_fault

    def top(self, most: int | None = None) -> list[FailureCluster]:
        """The clusters, the largest first; ``(other)`` last when there is one."""
        ranked = sorted(self._clusters.values(), key=lambda cluster: -cluster.count)
        shown = ranked if most is None else ranked[:most]
        rest = ranked[len(shown) :]
        count = self._other + sum(cluster.count for cluster in rest)
        if count:
            faults = self._other_faults + sum(cluster.faults for cluster in rest)
            message = "kinds too rare to list"
            others = FailureCluster(status="", type=OTHER, count=count, message=message, faults=faults)
            shown = [*shown, others]
        return shown

    def _fold(self, newest: tuple[str, str, str]) -> None:
        ranked = sorted(self._clusters, key=lambda key: self._clusters[key].count)
        for key in ranked[: MOST_CLUSTERS // 2]:
            if key != newest:
                folded = self._clusters.pop(key)
                self._other += folded.count
                self._other_faults += folded.faults

    def _frame(self, trace: Sequence[str]) -> str:
        # Traces are few, while reading a frame takes longer than counting it.
        raw = (*trace[:4], trace[-1])
        frame = self._frames.get(raw)
        if frame is None:
            if len(self._frames) >= _MOST_CACHED:
                self._frames.clear()
            frame = self._frames[raw] = top_frame(trace)
        return frame


def top_frame(trace: Sequence[str]) -> str:
    """The place where the error was raised: Python's last frame, Node's first ``at``, else the first line."""
    for line in reversed(trace):
        found = _PYTHON_FRAME.match(str(line))
        if found:
            path, number, name = found.groups()
            return _short(f"{path}:{number} in {name}" if name else f"{path}:{number}")
    for line in trace:
        found = _NODE_FRAME.match(str(line))
        if found:
            return _short(found[1])
    return _short(str(trace[0])) if trace else ""


def short_frame(frame: str) -> str:
    """A frame with its file by the last part of the path, for people; the whole path tells kinds apart."""
    return _DIRECTORIES.sub(r"\1", frame)


def _short(frame: str) -> str:
    return frame.strip().replace("/var/task/", "")[:200]


def _sample(outcome: Outcome, error: ErrorDetail | None, kind: str, frame: str) -> FailureCluster:
    trace = None if error is None or not error.stack_trace else error.stack_trace
    if trace is not None:
        if len(trace) > _MOST_FRAMES:
            trace = [*trace[: _MOST_FRAMES // 2], "…", *trace[-_MOST_FRAMES // 2 :]]
        trace = [str(line)[:_MOST_CHARS] for line in trace]
    message = "" if error is None else error.message
    if error is not None and error.reason:
        message = f"{error.reason}: {message}"
    return FailureCluster(
        status=outcome.status,
        type=kind[:200],
        frame=frame,
        message=message[:_MOST_CHARS],
        seq=outcome.seq,
        key=None if outcome.key is None else outcome.key[:200],
        request_id=outcome.request_id,
        stack_trace=trace,
        log_tail=None if outcome.log_tail is None else outcome.log_tail[-4096:],
    )
