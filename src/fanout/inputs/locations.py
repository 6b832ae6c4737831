"""Locations of inputs: what an INPUT means by its form and its name."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import AsyncIterable, Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from fanout.aws.s3_faults import is_s3, split_location
from fanout.errors import ConfigError, SourceError
from fanout.inputs.compression import SUFFIXES
from fanout.inputs.options import InputOptions
from fanout.inputs.redaction import shown_location
from fanout.payload import json_fault

_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_LONGEST_PATH = 4096
_KNOWN = " or ".join(", ".join(_BY_SUFFIX).rsplit(", ", 1))


def is_url(location: str) -> bool:
    """True for an INPUT that is read over HTTP."""
    return location[: len("https://")].lower().startswith(("http://", "https://"))


def is_pattern(location: str, directory: str = "") -> bool:
    """True for an INPUT that stands for the files or objects whose names match it.

    Here and below, ``directory`` is what a relative path is relative to, where it is not the current one.
    """
    if location == "-" or is_url(location) or not any(each in location for each in "*?["):
        return False
    return is_s3(location) or not _exists(absolute(location, directory))


def is_prefix(location: str) -> bool:
    """True for an INPUT that stands for a list of objects, one record for each."""
    return (
        is_s3(location) and not is_pattern(location) and (location.endswith("/") or location.count("/") == 2)
    )


def is_list(location: str, directory: str = "") -> bool:
    """True for an INPUT whose members are found by listing, and so must be kept."""
    return is_s3(location) or is_pattern(location, directory)


def check_text(location: str) -> None:
    """Raise SourceError for what names no input: no text, JSON itself, a queue, a URL that is none."""
    if not location:  # a shell's variable without a value
        raise SourceError("an INPUT is empty: give a file, a pattern, s3://… or a URL")
    if location.startswith("sqs://"):
        raise SourceError(
            f"{location} is a queue: only a run in a directory reads one, as its only input (fanout run, "
            "fanout.run with out)"
        )
    if is_s3(location):
        split_location(location)
        return
    if is_url(location):
        fault = _url_fault(location)
        if fault is not None:
            raise SourceError(f"{shown_location(location)} is no URL: {fault}")
        return
    text = location.strip()
    looks_so = text[:1] in ("{", "[") and ('"' in text or json_fault(text.encode(errors="replace")) is None)
    if looks_so and not _exists(location):
        raise SourceError(
            f"INPUT is JSON itself ({location.strip()[:20]}…): pipe it in, or give it as --payload"
        )


def _url_fault(location: str) -> str | None:
    """What is wrong with the address in a URL, or None."""
    try:
        parts = urlsplit(location)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        return str(error)
    if not host:
        return "it names no host"
    if port == 0 or any(not each.isprintable() or each.isspace() for each in host):
        return f"{parts.netloc.rpartition('@')[2]!r} is no host and port"
    try:
        host.encode("idna")
    except UnicodeError:
        return f"{host!r} is no name of a host"
    return None


def format_of(location: str, options: InputOptions) -> str:
    """The format by the option, or else by the name.

    Raises SourceError for an unknown one, and for one that has no ``items``.
    """
    if options.format is not None:
        return options.format
    suffix = "" if location == "-" else _suffix(location, options.rules)[0]
    known = _BY_SUFFIX.get(suffix)
    if options.items is not None:
        if known not in (None, "json"):
            raise SourceError(
                f"{shown_location(location)} is no JSON document by its name ({suffix}), and items is for "
                "those alone: leave items out, or give format json if it is one"
            )
        return "json"
    if location == "-":
        return "jsonl"
    if known is not None and (options.rules > 1 or known in ("jsonl", "json", "csv")):
        return known
    if not is_url(location) and not is_s3(location) and _is_pipe(location):
        return "jsonl"  # <(command), /dev/stdin
    is_perhaps_prefix = is_s3(location) and "." not in location.rpartition("/")[2]
    below = f"; for one call per object below it, {location}/" if is_perhaps_prefix else ""
    raise SourceError(
        f"{location}: unknown format: name it {_KNOWN} (or .gz, .zst, .bz2, .xz of these), or give --format"
        f"{below}"
    )


def named_format(location: str) -> str | None:
    """The format that a name promises; None where it promises none, as those of lists and prefixes do."""
    return "jsonl" if location == "-" else _BY_SUFFIX.get(_suffix(location, 2)[0])


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


def matching_files(pattern: str, directory: str = "") -> list[tuple[str, int]]:
    """The files that match and their sizes, in the order of their names. Raises SourceError for none."""
    names = sorted(glob.glob(pattern, root_dir=directory or None, recursive=True))  # noqa: PTH207
    found = [(name, path) for name in names if not (path := Path(directory, name)).is_dir()]
    if not found:
        raise SourceError(f"{pattern}: no file matches")
    return [(name, path.stat().st_size) for name, path in found]


def absolute(path: str, directory: str = "") -> str:
    """The path from any directory."""
    return str(Path(directory, path).absolute())


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
        elif key[i] == "[" and (end := key.find("]", i + (3 if key[i + 1 : i + 2] == "!" else 2))) > 0:
            out, i = out + _one_of(key[i + 1 : end]), end + 1
        else:
            out, i = out + re.escape(key[i]), i + 1
    return key[:first], re.compile(out, re.DOTALL)


def _one_of(members: str) -> str:
    """A set of characters, as in patterns of files: a range that ends before it begins holds none."""
    ranges = re.findall("(.)-(.)|(.)", members.removeprefix("!"), re.DOTALL)
    held = "".join(
        re.escape(one) or f"{re.escape(first)}-{re.escape(last)}"
        for first, last, one in ranges
        if one or first <= last
    )
    if members.startswith("!"):
        return f"[^/{held}]"
    return f"[{held}]" if held else "(?!)"


def _exists(location: str) -> bool:
    try:
        return Path(location).exists()
    except (OSError, ValueError):
        return False


def _is_pipe(location: str) -> bool:
    path = Path(location)
    return _exists(location) and not path.is_file() and not path.is_dir()


class Input:
    """Inputs that a program names, where a list of strings could be payloads: files, patterns, ``s3://…``.

    They are read in the order given, as the command reads several INPUTs.
    """

    __slots__ = ("locations",)

    def __init__(self, *locations: str | os.PathLike[str]) -> None:
        if not locations:
            raise ConfigError("Input names nothing: give paths, patterns, s3://… or URLs")
        for each in locations:
            if not isinstance(each, (str, os.PathLike)):
                raise ConfigError(f"Input takes strings and paths, not {type(each).__name__}")
        self.locations = tuple(map(_text_of, locations))

    def __repr__(self) -> str:
        return f"Input({', '.join(repr(shown_location(each)) for each in self.locations)})"


def locations_of(payloads: object) -> tuple[str, ...]:
    """The inputs that a program names: an ``Input``, a string, a path, or a list with a path in it.

    Empty for records. A list of strings alone is one of payloads; where all of them look like inputs, and
    one at least is there, what is meant must be said: raises ConfigError. TypeError for what is no iterable
    of payloads: bytes and a dict are one payload, not many.
    """
    if isinstance(payloads, Input):
        return payloads.locations
    if isinstance(payloads, (str, os.PathLike)):
        return (_text_of(payloads),)
    if isinstance(payloads, (bytes, bytearray, memoryview, Mapping)):
        raise TypeError(
            f"payloads is {type(payloads).__name__}, one payload: give a list of payloads, [payload]"
        )
    if not isinstance(payloads, (AsyncIterable, Iterable)):
        raise TypeError(
            f"payloads is {type(payloads).__name__}: give an iterable of payloads, a path or an Input"
        )
    if not isinstance(payloads, (list, tuple, set, frozenset)):
        return ()
    if not all(isinstance(each, (str, os.PathLike)) for each in payloads):
        return ()
    if all(isinstance(each, str) for each in payloads):
        _check_meant(payloads)
        return ()
    return () if isinstance(payloads, (set, frozenset)) else tuple(map(_text_of, payloads))


def _text_of(location: str | os.PathLike[str]) -> str:
    text = os.fsdecode(location)
    if not isinstance(location, str) and re.match(r"(s3|https?|sqs):/(?!/)", text):
        raise ConfigError(f"{text!r} is a Path, which drops a slash of an address: give it as a string")
    return text


def _check_meant(strings: Collection[str]) -> None:
    if not all(map(_looks_like_input, strings)):
        return
    named = next((each for each in strings if is_s3(each) or _is_there(each)), None)
    if named is None:
        return
    text = shown_location(named)
    raise ConfigError(
        f"payloads are strings that name inputs, such as {text!r}: give fanout.Input({text!r}, …) to read "
        f"them, or [fanout.Record({text!r}), …] to send the names themselves"
    )


def _looks_like_input(text: str) -> bool:
    if is_s3(text):
        return True
    if is_url(text) or not text or len(text) > _LONGEST_PATH or "\n" in text:
        return False
    return _suffix(text, 2)[0] in _BY_SUFFIX or _is_there(text)


def _is_there(text: str) -> bool:
    """True for a file, or a pattern that one matches."""
    try:
        if Path(text).is_file():
            return True
        return is_pattern(text) and any(glob.iglob(text, recursive=True))  # noqa: PTH207
    except (OSError, ValueError):
        return False
