"""What ``timeline.jsonl`` says: once a second, how many calls were in flight, under which limit, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from fanout.private_files import opener

NAME = "timeline.jsonl"


class Sample(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line. ``t`` is Unix time; ``done`` and ``throttles`` count from the start of the run or session.

    ``begins`` marks the first line of a session: the time before it is a pause.
    """

    t: float
    begins: bool = False
    in_flight: int | None = None
    limit: float | None = None
    cause: str | None = None
    rate_per_s: float | None = None
    done: int = 0
    throttles: dict[str, int] = {}


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
        self.fault = f"{self._path}: cannot be written: {error.strerror}; the run goes on without it"
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_timeline(path: Path) -> Iterator[Sample]:
    """The samples of a timeline in order; lines that are torn or strange are passed over.

    A timeline that is not there, or cannot be read, has no samples.
    """
    decode = msgspec.json.Decoder(Sample).decode
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        for line in file:
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"
