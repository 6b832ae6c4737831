"""Several inputs as one: files, patterns, objects, prefixes and inventories, numbered through in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

from fanout.aws.s3_faults import is_s3, split_location
from fanout.errors import SourceError
from fanout.inputs.bytes_source import OnNotice
from fanout.inputs.listing import Entry, Found, KeptListing, object_record
from fanout.inputs.locations import absolute, is_pattern, is_prefix, is_url, key_pattern, matching_files
from fanout.inputs.s3 import S3
from fanout.inputs.source import BATCH_ITEMS, Item, Place, Source
from fanout.inputs.total_size import TotalSize

PAGE_KEYS = 1000  # of a listing by S3, at the most
CheckName = Callable[[str], object]
OpenEntry = Callable[[Entry], Awaitable[tuple[Source, Entry]]]
ReadInventory = Callable[[str, int], Awaitable[list[Entry]]]


class ManySource:
    """The records of all locations. What they are made of is kept in ``listing`` before it is read.

    ``open_entry`` opens one file or object, and returns with it what is known of it now; ``check_name``
    raises SourceError for a name that it could make nothing of. ``directory`` is
    what relative paths are relative to, where it is not the current one.
    """

    def __init__(
        self,
        locations: Sequence[str],
        open_entry: OpenEntry,
        check_name: CheckName,
        *,
        s3: Callable[[], S3],
        listing: KeptListing,
        directory: str = "",
        read_inventory: ReadInventory | None = None,
        on_notice: OnNotice | None = None,
    ) -> None:
        self.location = " ".join(locations)
        self._number = 0  # of the entry that is read, from 1
        self._locations = locations
        self._open_entry = open_entry
        self._check_name = check_name
        self._s3 = s3
        self._listing = listing
        self._directory = directory
        self._read_inventory = read_inventory
        self._on_notice = on_notice
        self._current: Source | None = None
        self._opened: Source | None = None  # for its size and ETag, and read next
        self._bytes_before = 0
        self._objects = 0
        is_one = len(locations) == 1 and not is_pattern(locations[0], directory)
        self._is_single = is_one and read_inventory is None
        self._total = TotalSize(locations, directory, is_inventory=read_inventory is not None)

    @property
    def place(self) -> Place | None:
        if self._current is None:
            return {"n": self._number} if self._number else None
        at = self._current.place
        return None if at is None else {"n": self._number - 1, "at": at}

    @property
    def bytes_read(self) -> int:
        return self._bytes_before + (0 if self._current is None else self._current.bytes_read)

    @property
    def bytes_total(self) -> int | None:
        return self._total.bytes

    async def batches(self, at: Place | None = None) -> AsyncIterator[list[Item]]:
        """The records of one entry after the other."""
        skipped = 0 if at is None else int(at["n"])
        inner: Place | None = None if at is None else at.get("at")
        number = 0
        async for page in self._pages(skipped):
            objects: list[Item] = []
            for entry in page:
                number += 1
                if number <= skipped:
                    self._bytes_before += entry.size or 0
                    await self._close_opened()
                    continue
                if not self._is_read(entry):
                    objects.append(Item(object_record(entry)))
                    if len(objects) >= BATCH_ITEMS:
                        self._number = number
                        yield objects
                        objects = []
                    continue
                async for batch in self._of(entry, number, inner):
                    yield batch
                inner = None
            if objects:
                self._number = number
                yield objects

    async def _of(self, entry: Entry, number: int, at: Place | None) -> AsyncIterator[list[Item]]:
        source, self._opened = self._opened, None
        if source is None:
            source, _ = await self._open_entry(entry)
        self._current, self._number = source, number
        size = None
        try:
            async for batch in source.batches(at):
                if not self._is_single:
                    for item in batch:
                        item.source = entry.location
                yield batch
            size = entry.size
        finally:
            self._bytes_before += source.bytes_read if size is None else size
            self._current = None
            await source.aclose()

    async def aclose(self) -> None:
        """Let go of what is open."""
        if self._current is not None:
            await self._current.aclose()
        await self._close_opened()

    async def _close_opened(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    # --- what the input is made of ---------------------------------------------------------------

    async def _pages(self, read_before: int) -> AsyncIterator[list[Entry]]:
        """The kept entries, then those found beyond them. As many as were read before are kept."""
        found, last, kept_count = -1, None, 0
        kept_of_last: set[str] = set()  # of the location whose listing a kill cut short
        for kept in self._kept():
            entries: list[Entry] = []
            for each in kept:
                if isinstance(each, Found):
                    found, last = each.found, None
                    kept_of_last.clear()
                else:
                    last = each.location
                    entries.append(each)
                    if not self._is_paged(self._locations[each.input]):
                        kept_of_last.add(each.identity)
            kept_count += len(entries)
            if entries:
                yield entries
        if self._listing.path is not None and kept_count < read_before:
            raise SourceError(f"{self._listing.path} is cut off: it lists fewer inputs than were read")
        for i in range(found + 1, len(self._locations)):
            count, is_paged = 0, self._is_paged(self._locations[i])
            async for listed, is_last in self._found(self._locations[i], i, last):
                page = [entry for entry in listed if entry.identity not in kept_of_last]
                self._total.add([*page, Found(i)] if is_last else page)
                for entry in page:
                    entry.input = i
                    if self._is_read(entry):
                        self._check_name(entry.location)
                count += len(page)
                # A whole listing is kept as such before its records are read: a kill among them doubles none.
                if page:
                    self._listing.append([*page] if is_paged else [*page, Found(i)])
                    yield page
            if not count and last is None:
                raise SourceError(f"{self._locations[i]}: no object matches")
            last = None
            kept_of_last.clear()
            if is_paged or not count:
                self._listing.append([Found(i)])

    def _kept(self) -> Iterable[list[Entry | Found]]:
        """The pages that are kept; those of a short listing are added up first, as its end is near."""
        if self._listing.is_short:
            pages = [*self._listing.pages()]
            self._total.add(each for page in pages for each in page)
            yield from pages
            return
        for page in self._listing.pages():
            self._total.add(page)
            yield page

    def _is_read(self, entry: Entry) -> bool:
        """Say whether its records are those in it, and not one that names it."""
        return entry.columns is not None or not is_prefix(self._locations[entry.input])

    def _is_paged(self, location: str) -> bool:
        """Say whether S3 lists it page by page; all else is listed whole."""
        return (
            self._read_inventory is None and is_s3(location) and (is_pattern(location) or is_prefix(location))
        )

    async def _found(
        self, location: str, index: int, after: str | None
    ) -> AsyncIterator[tuple[list[Entry], bool]]:
        """The entries that one location stands for, and True where they are all; of S3 beyond ``after``."""
        if self._read_inventory is not None:
            here = not self._directory or is_s3(location)
            location = location if here else absolute(location, self._directory)
            yield await self._read_inventory(location, index), True
            return
        if not is_s3(location) and is_pattern(location, self._directory):
            files = matching_files(location, self._directory)
            yield [Entry(each, path=absolute(each, self._directory), size=size) for each, size in files], True
            return
        if not self._is_paged(location):
            if after is None:
                yield [await self._known(Entry(location, input=index))], True
            return
        pattern = None
        prefix = split_location(location)[1]
        if is_pattern(location):
            prefix, pattern = key_pattern(location)
        key = None if after is None else split_location(after)[1]
        async for page, is_last in self._s3().pages(location, prefix, key):
            if pattern is not None:
                page = [entry for entry in page if pattern.fullmatch(split_location(entry.location)[1])]
            self._tell_count(location, page)
            yield page, is_last

    async def _known(self, entry: Entry) -> Entry:
        """The entry of one file or object, with the size and ETag that it has now."""
        if is_url(entry.location):
            return entry
        if not is_s3(entry.location):
            entry.path = absolute(entry.location, self._directory)
        self._opened, known = await self._open_entry(entry)
        return known

    def _tell_count(self, location: str, page: list[Entry]) -> None:
        if self._on_notice is None or is_pattern(location) or self._objects or not page:
            return
        self._objects = len(page)
        more = " or more" if len(page) >= PAGE_KEYS else ""
        count = "1 object, one call" if len(page) == 1 else f"{len(page):,} objects{more}, one call each"
        self._on_notice(f"{location}: {count}")
