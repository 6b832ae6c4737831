"""The input of a run: opened when it begins, and again, from where it had got to, when it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fanout.aws import ServiceClients
from fanout.commands.options import RunOptions, options_of
from fanout.commands.recorded_input import ITERABLE, RecordedInput, recorded_input
from fanout.commands.run_request import RunRequest
from fanout.errors import JournalError, SourceError
from fanout.inputs import (
    LISTING_FILE,
    PLACES_FILE,
    RULES,
    InputOptions,
    KeptListing,
    PlacedSource,
    Places,
    RepeatSource,
    Source,
    fingerprint,
    fingerprint_difference,
    has_grown,
    is_list,
    is_url,
    open_source,
    open_spool,
    shown_location,
)
from fanout.inputs.dialect import Dialect
from fanout.inputs.readers import end_mark, is_whole
from fanout.journal import RunDir

Say = Callable[[str], None]


class DialectNote:
    """Keeps in run.json what is found of how the input is written.

    An input is opened before the run has a directory, as the input may be refused; some runs have none.
    """

    def __init__(self, run_dir: RunDir | None = None) -> None:
        self._run_dir = run_dir

    def keep_in(self, run_dir: RunDir | None) -> None:
        """Keep what is found from now on there."""
        self._run_dir = run_dir

    def __call__(self, dialect: Dialect) -> None:
        found = msgspec.to_builtins(dialect)
        if self._run_dir is None or not found:
            return
        with suppress(JournalError):  # it will be found alike again, and the journal says what is wrong
            self._run_dir.write_state({"input": {**self._run_dir.state["input"], **found}})


def open_input(
    request: RunRequest,
    directory: Path | None,
    say: Say | None = None,
    note: DialectNote | None = None,
    *,
    by_rows: bool = False,
) -> Source:
    """The input of a run that begins; what a resume needs of it is kept in ``directory``, and by ``note``.

    ``by_rows``: Parquet as Rows, for workers to read.

    Raises SourceError and ConfigError.
    """
    options = request.options
    if options.payload is not None:
        return _placed(_repeated(options), directory)
    only = request.locations[0] if len(request.locations) == 1 else ""
    is_spooled = options.spool and (only == "-" or is_url(only))
    source = open_source(
        request.locations,
        options.input_options(),
        spool=directory / "spool" if directory is not None and is_spooled else None,
        listing=None if directory is None else directory / LISTING_FILE,
        clients=lambda: ServiceClients.of(options.calls),
        on_notice=say,
        on_dialect=note,
        by_rows=by_rows,
    )
    return _placed(source, directory)


def first_input(request: RunRequest) -> dict[str, Any]:
    """The entry ``input`` of run.json for a run that begins."""
    locations = request.locations
    name = request.options.format
    kept: dict[str, Any] = {"location": request.location, "rules": RULES}
    if request.options.payload is not None:
        return {**kept, "fingerprint": {"kind": "payload"}}
    if len(locations) == 1 and not is_list(locations[0]):
        path = _path(locations[0])
        return {
            **kept,
            **({} if path is None else {"path": path}),
            "fingerprint": fingerprint(locations[0], format=name),
        }
    paths = [_path(each) or each for each in locations]
    kept |= {"locations": paths, "given": list(locations), "directory": str(Path.cwd())}
    return {**kept, "fingerprint": {"kind": "list", "format": name}}


def reopen_input(
    run_dir: RunDir,
    options: RunOptions | None = None,
    *,
    say: Say | None = None,
    wanted_from: Callable[[int], int] | None = None,
    note: DialectNote | None = None,
    by_rows: bool = False,
) -> Source:
    """The input of a run once more, or what was kept of it. ``by_rows``: Parquet as Rows.

    ``options`` are the run's, as run.json has them or changed. With ``wanted_from`` the
    source passes over what is not wanted. Raises SourceError, in one line, when the input is gone, was
    never kept, or is another one now.
    """
    state = run_dir.state
    recorded = recorded_input(state)
    if recorded is None:
        raise JournalError(f"{run_dir.path}/run.json is damaged: input is missing")
    options = options or options_of(state)
    input_options = options.input_options(rules=recorded.rules)

    def reopen() -> Source:
        return _reopened(run_dir, recorded, options, input_options, say, note, by_rows=by_rows)

    _check_same(run_dir, recorded, input_options, goes_on=wanted_from is not None)
    source = reopen()
    if wanted_from is None:
        return source
    return PlacedSource(
        source, Places(run_dir.path / PLACES_FILE, goes_on=True), wanted_from=wanted_from, reopen=reopen
    )


def another_input(location: str, difference: str) -> SourceError:
    """The error for an input that has changed since the run began."""
    return SourceError(
        f"{shown_location(location)} is not the input the run began with: {difference} "
        "(put that one back, or run this one into another directory)"
    )


def _check_same(run_dir: RunDir, recorded: RecordedInput, options: InputOptions, *, goes_on: bool) -> None:
    kind = recorded.kind
    if _is_spooled(run_dir, recorded) or kind == "payload":
        return
    if kind == "list":
        _check_listed(run_dir)
        return
    if kind == "iterable":
        raise SourceError(
            f"the records of {run_dir.path} came from a program: "
            "give them to fanout.run(…, resume=True) again"
        )
    if kind == "stdin" and options_of(run_dir.state).spool:  # its spool begins with the first byte
        what = "it stopped before standard input was read"
        if end_mark(run_dir.spool).exists():
            what = "its copy of standard input is lost"
        raise SourceError(f"{run_dir.path}: {what}: give it once more, to `fanout run` with --resume")
    if kind in ("stdin", "pipe"):
        raise SourceError(f"{run_dir.path}: its input was a pipe that was not kept: nothing is left to read")
    location = recorded.path or recorded.location
    found = fingerprint(location, format=options.format)
    difference = fingerprint_difference(recorded.fingerprint, found)
    if difference is None:
        return
    ended_early = run_dir.state.get("halted_by") == "source"
    if not (ended_early and found["kind"] == kind == "file" and has_grown(recorded.fingerprint, location)):
        raise another_input(location, difference)
    if goes_on:
        run_dir.write_state({"input": {**run_dir.state["input"], "fingerprint": found}})


def _check_listed(run_dir: RunDir) -> None:
    """Refuse a run whose list of inputs is lost: another listing may number the records anew."""
    path = run_dir.path / LISTING_FILE
    if run_dir.may_have_sent() and KeptListing(path).is_empty:
        is_there = "is empty or cut off" if path.exists() else "is missing"
        raise SourceError(
            f"{path} {is_there}: it lists the inputs that the run began with, and today's may be others "
            "(put that file back, or run the inputs into another directory)"
        )


def _reopened(
    run_dir: RunDir,
    recorded: RecordedInput,
    options: RunOptions,
    input_options: InputOptions,
    say: Say | None,
    note: DialectNote | None,
    *,
    by_rows: bool,
) -> Source:
    if options.payload is not None:
        return _repeated(options)
    dialect = recorded.dialect
    if _is_spooled(run_dir, recorded):
        return open_spool(
            run_dir.spool, input_options, location=recorded.location, dialect=dialect, on_dialect=note
        )
    return open_source(
        recorded.given or recorded.places,
        input_options,
        directory=recorded.directory,
        listing=run_dir.path / LISTING_FILE,
        clients=lambda: ServiceClients.of(options.calls),
        on_notice=say,
        dialect=dialect,
        on_dialect=note,
        by_rows=by_rows,
    )


def _is_spooled(run_dir: RunDir, recorded: RecordedInput) -> bool:
    """True if the run's own copy is read; one of a URL only where it is whole."""
    if is_url(recorded.location):
        return is_whole(run_dir.spool)
    return run_dir.spool.exists()


def _placed(source: Source, directory: Path | None) -> Source:
    return source if directory is None else PlacedSource(source, Places(directory / PLACES_FILE))


def _repeated(options: RunOptions) -> Source:
    assert options.payload is not None
    payload = options.payload.encode("utf-8", "surrogatepass")
    return RepeatSource(payload, 1 if options.repeat is None else options.repeat)


def _path(location: str) -> str | None:
    """The absolute path of a file, for a resume from another directory."""
    if location == "-" or is_url(location) or "://" in location:
        return None
    return str(Path(location).absolute())


def recorded_place(state: Mapping[str, Any]) -> str | None:
    """The location in run.json, files by their absolute paths; None for records of a program."""
    recorded = recorded_input(state)
    return None if recorded is None or recorded.location == ITERABLE else " ".join(recorded.places)


def place_of(request: RunRequest) -> str | None:
    """The location of a request's input, in the same form."""
    if request.options.payload is not None or request.location is None:
        return request.location
    return " ".join(map(absolute_location, request.locations))


def absolute_location(location: str) -> str:
    """A path made absolute; anything else as it is."""
    if location == "-" or is_url(location) or "://" in location:
        return location
    return str(Path(location).absolute())
