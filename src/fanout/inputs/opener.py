"""Opening of inputs: the source that one location means, or several, by their names and the options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fanout.aws import Clients
from fanout.errors import ConfigError, SourceError
from fanout.inputs.bytes_source import OnNotice
from fanout.inputs.dialect import Dialect
from fanout.inputs.entry_opener import EntryOpener
from fanout.inputs.files import file_reader
from fanout.inputs.listing import KeptListing
from fanout.inputs.locations import absolute, check_text, compression_suffix, format_of, is_list, is_url
from fanout.inputs.many import ManySource
from fanout.inputs.options import InputOptions
from fanout.inputs.readers import ByteReader, CutReader, end_mark, is_whole
from fanout.inputs.rows import Rows, footer_digest
from fanout.inputs.s3 import S3
from fanout.inputs.single_opener import OnDialect, SingleOpener
from fanout.inputs.source import MAX_RECORD_BYTES, Source, WrappedSource

DEFAULT = InputOptions()


class Opener:
    """Opens inputs by one set of options. ``clients`` are for S3, and made when they are first asked for."""

    def __init__(
        self,
        options: InputOptions = DEFAULT,
        *,
        clients: Callable[[], Clients] | None = None,
        on_notice: OnNotice | None = None,
        dialect: Dialect | None = None,
        on_dialect: OnDialect | None = None,
        max_record_bytes: int = MAX_RECORD_BYTES,
        by_rows: bool = False,
    ) -> None:
        self._options = options
        self._by_rows = by_rows
        self._single = SingleOpener(
            options, on_notice=on_notice, max_record_bytes=max_record_bytes, by_rows=by_rows
        )
        self._make_clients = clients
        self._clients: Clients | None = None
        self._on_notice = on_notice
        self._dialect = dialect
        self._on_dialect = on_dialect
        self._max_record_bytes = max_record_bytes

    def open(
        self,
        locations: str | Sequence[str],
        *,
        directory: str = "",
        spool: Path | None = None,
        listing: Path | None = None,
    ) -> Source:
        """The source for one INPUT or several.

        ``spool``: a file, which must not exist, that gets the bytes as they are read (of one input that
        cannot be read twice; of a URL that cannot be taken up again, as they come). ``listing``: a file
        that keeps what several, a pattern or a prefix are made of. ``directory``: what the relative paths
        of such are relative to, where it is not the current one. Raises SourceError, in one line, for
        what cannot be read or has no known format; a URL, a pipe and an object are only opened when read.
        """
        locations = [locations] if isinstance(locations, str) else list(locations)
        if not locations:
            raise ConfigError("no input: give a path, a pattern, s3://… or a URL")
        if len(locations) > 1 and "-" in locations:
            raise SourceError("- (standard input) must be the only INPUT: `cat` the others into it")
        for location in locations:
            check_text(location)
        is_inventory = self._options.format == "s3-inventory"
        if len(locations) == 1 and not is_list(locations[0], directory) and not is_inventory:
            return self._single.open(
                locations[0], spool=spool, dialect=self._dialect, on_dialect=self._on_dialect, may_grow=True
            )
        for location in locations:  # what is wrong with a name is said before anything is sent
            if not is_list(location, directory) and not is_inventory:
                format_of(location, self._options)
                if not is_url(location):
                    file_reader(absolute(location, directory) if directory else location).close()
        kept = KeptListing(listing)
        entries = self._entries(kept)
        return _Closing(
            ManySource(
                locations,
                entries.open,
                lambda name: format_of(name, self._options),
                s3=self._s3,
                listing=kept,
                directory=directory,
                read_inventory=entries.read_inventory if is_inventory else None,
                on_notice=self._on_notice,
            ),
            self,
        )

    def open_spool(self, spool: Path, location: str = "-") -> Source:
        """The source for what was read from ``location`` and spooled, in the same order.

        When the input had not been read to its end, the source raises SourceError after the last whole
        record. Raises SourceError for a spool that was whole and is so no more.
        """
        has_end = is_whole(spool)
        if not has_end and end_mark(spool).exists():
            raise SourceError(
                f"{spool} is not what the run kept of its input, as its length is another: "
                "put it back, or pipe the same input in once more (fanout run --resume)"
            )
        reader: ByteReader = file_reader(str(spool))
        if not has_end:
            reader = CutReader(reader)
        return self._single.of_bytes(
            str(spool),
            reader,
            format_of(location, self._options),
            compression_suffix(location),
            self._dialect,
            self._on_dialect,
        )

    async def open_rows(self, rows: Rows) -> Source:
        """The source of a file or an object that has these rows. Raises SourceError for another one."""
        path = rows.entry.path
        if rows.footer and path is not None and footer_digest(path) != rows.footer:
            raise SourceError(f"{path} is not the file that the run began with")
        source, _ = await self._entries(KeptListing(None)).open(rows.entry)
        return source

    async def aclose(self) -> None:
        """Let go of the session."""
        if self._clients is not None:
            await self._clients.aclose()

    def _entries(self, listing: KeptListing) -> EntryOpener:
        return EntryOpener(
            self._options,
            self._single,
            s3=self._s3,
            listing=listing,
            on_notice=self._on_notice,
            max_record_bytes=self._max_record_bytes,
            by_rows=self._by_rows,
        )

    def _s3(self) -> S3:
        if self._clients is None:
            if self._make_clients is None:
                raise SourceError("S3 is not to be had here")
            self._clients = self._make_clients()
        return S3(self._clients, request_payer=self._options.request_payer, on_notice=self._on_notice)


class _Closing(WrappedSource):
    """A source that closes its opener's session with it."""

    def __init__(self, source: ManySource, opener: Opener) -> None:
        super().__init__(source)
        self.batches = source.batches
        self._opener = opener

    async def aclose(self) -> None:
        await super().aclose()
        await self._opener.aclose()


def open_source(
    location: str | Sequence[str],
    options: InputOptions = DEFAULT,
    *,
    directory: str = "",
    spool: Path | None = None,
    listing: Path | None = None,
    clients: Callable[[], Clients] | None = None,
    on_notice: OnNotice | None = None,
    dialect: Dialect | None = None,
    on_dialect: OnDialect | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
    by_rows: bool = False,
) -> Source:
    """The source for an INPUT or several: see ``Opener.open``. ``by_rows``: Parquet as Rows, not as items.

    ``on_dialect`` is called with what is found of how one input is written, before its first record;
    ``dialect`` is what was found before. Those of several are kept in ``listing``.
    """
    opener = Opener(
        options,
        clients=clients,
        on_notice=on_notice,
        dialect=dialect,
        on_dialect=on_dialect,
        max_record_bytes=max_record_bytes,
        by_rows=by_rows,
    )
    return opener.open(location, directory=directory, spool=spool, listing=listing)


def open_spool(
    spool: Path,
    options: InputOptions = DEFAULT,
    *,
    location: str = "-",
    dialect: Dialect | None = None,
    on_dialect: OnDialect | None = None,
) -> Source:
    """The source for what was spooled: see ``Opener.open_spool``."""
    return Opener(options, dialect=dialect, on_dialect=on_dialect).open_spool(spool, location)
