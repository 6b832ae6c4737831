"""Locations of inputs: what an INPUT means by its form and its name."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from fanout.aws.s3_faults import is_s3, split_location
from fanout.errors import SourceError
from fanout.inputs.compression import SUFFIXES
from fanout.inputs.options import InputOptions
from fanout.payload import json_fault

_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_KNOWN = ".jsonl, .ndjson, .json, .csv, .tsv or .parquet"


def is_url(location: str) -> bool:
    """Whether an INPUT is read over HTTP."""
    return location.startswith(("http://", "https://"))


def is_pattern(location: str) -> bool:
    """Whether an INPUT stands for the files or objects whose names match it."""
    if location == "-" or is_url(location) or not any(each in location for each in "*?["):
        return False
    return is_s3(location) or not _exists(location)


def is_prefix(location: str) -> bool:
    """Whether an INPUT stands for a list of objects, one record for each."""
    return (
        is_s3(location) and not is_pattern(location) and (location.endswith("/") or location.count("/") == 2)
    )


def is_list(location: str) -> bool:
    """Whether what an INPUT is made of is found by looking, and so must be kept."""
    return is_s3(location) or is_pattern(location)


def check_text(location: str) -> None:
    """Raise SourceError for a JSON text where its location should be, and for a queue."""
    if location.startswith("sqs://"):
        raise SourceError(
            f"{location} is a queue: only a run in a directory reads one, as its only input (fanout run, "
            "fanout.run with out)"
        )
    text = location.strip()
    looks_so = text[:1] in ("{", "[") and ('"' in text or json_fault(text.encode(errors="replace")) is None)
    if looks_so and not _exists(location):
        raise SourceError(
            f"INPUT is JSON itself ({location.strip()[:20]}…): pipe it in, or give it as --payload"
        )


def format_of(location: str, options: InputOptions) -> str:
    """The format by the option, or else by the name. Raises SourceError for an unknown one."""
    if options.format is not None:
        return options.format
    if options.items is not None:
        return "json"
    if location == "-":
        return "jsonl"
    known = _BY_SUFFIX.get(_suffix(location, options.rules)[0])
    if known is not None and (options.rules > 1 or known in ("jsonl", "json", "csv")):
        return known
    if not is_url(location) and not is_s3(location) and _is_pipe(location):
        return "jsonl"  # <(command), /dev/stdin
    raise SourceError(
        f"{location}: unknown format: name it {_KNOWN} (or .gz, .zst, .bz2, .xz of these), or give --format"
    )


def compression_suffix(location: str) -> str:
    """The suffix by which a name promises a compression, or nothing."""
    return "" if location == "-" else _suffix(location, 2)[1]


def _suffix(location: str, rules: int) -> tuple[str, str]:
    name = urlsplit(location).path if is_url(location) else location
    path = Path(name.rpartition("/")[2] or ".")
    packed = path.suffix.lower() if rules > 1 else path.suffix
    if packed in (SUFFIXES if rules > 1 else (".gz",)):
        return path.with_suffix("").suffix.lower(), packed
    return path.suffix.lower(), ""


def matching_files(pattern: str) -> list[tuple[str, int]]:
    """The files that match and their sizes, in the order of their names. Raises SourceError for none."""
    found = sorted(each for each in glob.glob(pattern, recursive=True) if not Path(each).is_dir())  # noqa: PTH207
    if not found:
        raise SourceError(f"{pattern}: no file matches")
    return [(each, Path(each).stat().st_size) for each in found]


def absolute(path: str) -> str:
    """The path from any directory."""
    return str(Path(path).absolute())


def key_pattern(location: str) -> tuple[str, re.Pattern[str]]:
    """The literal beginning of a pattern of keys, and the pattern: ``*`` and ``?`` stop at ``/``."""
    _, key = split_location(location)
    first = next(i for i, each in enumerate(key) if each in "*?[")
    out, i = "", 0
    while i < len(key):
        if key.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif key.startswith("**", i):
            out, i = out + ".*", i + 2
        elif key[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif key[i] == "?":
            out, i = out + "[^/]", i + 1
        elif key[i] == "[" and (end := key.find("]", i + 2)) > 0:
            members = key[i + 1 : end].replace("\\", "\\\\")
            members = "^" + members[1:] if members.startswith("!") else members
            out, i = out + f"[{members}]", end + 1
        else:
            out, i = out + re.escape(key[i]), i + 1
    return key[:first], re.compile(out, re.DOTALL)


def _exists(location: str) -> bool:
    try:
        return Path(location).exists()
    except (OSError, ValueError):
        return False


def _is_pipe(location: str) -> bool:
    path = Path(location)
    return _exists(location) and not path.is_file() and not path.is_dir()


def locations_of(payloads: object) -> tuple[str, ...]:
    """The inputs that a program names: a string, a path, or a list of these with a path in it.

    Empty for records: a list of nothing but strings is one of payloads.
    """
    if isinstance(payloads, (str, os.PathLike)):
        return (os.fsdecode(payloads),)
    if not isinstance(payloads, (list, tuple)):
        return ()
    if not all(isinstance(each, (str, os.PathLike)) for each in payloads):
        return ()
    if all(isinstance(each, str) for each in payloads):
        return ()
    return tuple(os.fsdecode(each) for each in payloads)
