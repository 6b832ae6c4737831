"""``timeline.jsonl``: once a second, the number of calls in flight, the limit, and what held them back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from fanout.private_files import opener
from fanout.stats.snapshot import WorkerPace

NAME = "timeline.jsonl"
_READ_BYTES = 1 << 20


class Sample(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line. ``t`` is Unix time; ``done`` and ``throttles`` count from the start of the run or session.

    What ``Snapshot`` knows beside the figures of outcomes is there too, for those who watch from elsewhere.
    ``begins`` marks the first line of a session: the time before it is a pause.
    """

    t: float
    begins: bool = False
    in_flight: int | None = None
    limit: float | None = None
    cause: str | None = None
    rate_per_s: float | None = None
    done: int = 0
    total: int | None = None
    fraction: float | None = None
    cost_usd: float | None = None
    lingering: int = 0
    linger_until: float | None = None
    draining: bool = False
    throttles: dict[str, int] = {}
    workers: list[WorkerPace] = []
    more_workers: int = 0


_decode = msgspec.json.Decoder(Sample).decode


class TimelineWriter:
    """Appends samples to the timeline of a run directory, each line at once.

    It is a convenience, not a commit point: nothing is synced. A file that cannot be written leaves the
    run without a timeline from there on; ``fault`` says so, in one line.
    """

    def __init__(self, path: Path, *, begun_s: float) -> None:
        self._path = path
        self._file: FileIO | None = None
        self.fault: str | None = None
        try:
            torn = path.exists() and not _ends_whole(path)
            self._file = FileIO(path, "ab", opener=opener)
        except OSError as error:
            self._fail(error)
            return
        if torn:
            self._write(b"\n")
        self.begin(begun_s)

    def begin(self, begun_s: float) -> None:
        """A session begins, or what it waited for before its first call is there: Unix time."""
        self.append(Sample(t=round(begun_s, 3), begins=True))

    def append(self, sample: Sample) -> None:
        """Write one line."""
        self._write(msgspec.json.encode(sample) + b"\n")

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _write(self, line: bytes) -> None:
        if self._file is not None:
            try:
                self._file.write(line)
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.fault = f"{self._path} cannot be written: {error.strerror}; the run goes on without it"
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TimelineTail:
    """The samples of a timeline in order; an iterator that has more to give when the file has grown.

    Lines that are torn or strange are passed over. A timeline that is not there, or cannot be read,
    has no samples.
    """

    def __init__(self, path: Path, *, position: int = 0) -> None:
        self._path = path
        self._at = position
        self._held: deque[Sample] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sample:
        if not self._held:
            self._read()
        if not self._held:
            raise StopIteration
        return self._held.popleft()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                lines = file.read(_READ_BYTES)
        except OSError:
            return
        whole = lines.rfind(b"\n") + 1
        self._at += whole
        for line in lines[:whole].splitlines():
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                self._held.append(_decode(line))


def read_timeline(path: Path) -> Iterator[Sample]:
    """The samples of a timeline in order, as far as it goes now."""
    return iter(TimelineTail(path))


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"
