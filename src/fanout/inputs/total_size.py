"""The size of an input of many: how many bytes there are to read, once what it is made of is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fanout.aws.s3_faults import is_s3
from fanout.errors import SourceError
from fanout.inputs.listing import Entry, Found
from fanout.inputs.locations import absolute, is_pattern, is_prefix, is_url, matching_files


class TotalSize:
    """Adds up what is listed. ``bytes`` is None until all is, but for files, whose sizes need no listing.

    It stays None where there is a prefix, whose records are not in its objects, or a URL.
    """

    def __init__(self, locations: Sequence[str], directory: str, *, is_inventory: bool) -> None:
        self.bytes: int | None = None
        self._locations = locations
        self._directory = directory
        self._listed_bytes = 0
        self._is_known = is_inventory or not any(is_prefix(each) or is_url(each) for each in locations)
        must_be_listed = [i for i, each in enumerate(locations) if is_inventory or is_s3(each)]
        self._files_from = max(must_be_listed, default=-1) + 1

    def add(self, page: Iterable[Entry | Found]) -> None:
        """Note entries in their order, and the ends of what a location stands for."""
        for each in page:
            if isinstance(each, Entry):
                self._listed_bytes += each.size or 0
                self._is_known = self._is_known and each.size is not None
            elif self.bytes is None and self._is_known and each.found + 1 >= self._files_from:
                self._finish(each.found + 1)

    def _finish(self, following: int) -> None:
        """Add the files that are not listed yet; what is wrong with one is said when it is its turn."""
        try:
            self.bytes = self._listed_bytes + sum(map(self._size, self._locations[following:]))
        except (SourceError, OSError):
            self._is_known = False

    def _size(self, location: str) -> int:
        if is_pattern(location, self._directory):
            return sum(size for _, size in matching_files(location, self._directory))
        path = Path(absolute(location, self._directory))
        if not path.is_file():  # a pipe
            raise SourceError(f"{location} has no size")
        return path.stat().st_size
