"""The quick reading of a reply as nearly all are: whole, in one piece, and of stated length.

It takes what leaves no room for doubt, and nothing else: everything that differs is left to the parser,
from which it knows which header names there are. Lines that come again, as most do, are looked up whole.
"""

from __future__ import annotations

from collections.abc import Mapping

Answer = tuple[int, dict[str, str], bytes]  # status, headers by lower-case names, body

_STATUSES = {b"HTTP/1.1 200 OK": 200, b"HTTP/1.1 202 Accepted": 202}
_LINES: dict[bytes, tuple[str, str]] = {}  # header lines as they came, and what they say
_LINES_KEPT = 256
_LONGEST_KEPT_BYTES = 256
_LONGEST_HEAD_BYTES = 16_384  # the parser has a bound of its own for longer ones
_CHANGING = frozenset({"x-amzn-requestid", "x-amzn-trace-id", "x-amz-log-result"})  # in every reply another
_FRAMING = frozenset(
    {"transfer-encoding", "upgrade", "trailer", "proxy-connection"}
)  # these change what follows


def read_plain_reply(data: bytes, names: Mapping[bytes, str]) -> Answer | None:
    """The reply, if ``data`` is one and nothing more; None leaves it to the parser.

    ``names``: header names that the parser has accepted before, and in lower case.
    """
    end = data.find(b"\r\n\r\n")
    if not 0 <= end <= _LONGEST_HEAD_BYTES:
        return None
    lines = data[:end].split(b"\r\n")
    status = _STATUSES.get(lines[0])
    if status is None:
        return None
    del lines[0]
    headers: dict[str, str] = {}
    for line in lines:
        found = _LINES.get(line) or _read_line(line, names)
        if found is None:
            return None
        headers[found[0]] = found[1]
    length = headers.get("content-length")
    if length is None or len(data) != end + 4 + int(length) or len(headers) != len(lines):
        return None
    return status, headers, data[end + 4 :]


def _read_line(line: bytes, names: Mapping[bytes, str]) -> tuple[str, str] | None:
    """One header; None when there is anything uncommon about it."""
    before, separator, after = line.partition(b": ")
    name, value = names.get(before), after.decode("latin-1")
    if name is None or not separator or name in _FRAMING or value.strip() != value or not value.isprintable():
        return None
    if name == "connection" and value.lower() != "keep-alive":
        return None
    if name == "content-length" and not (value.isascii() and value.isdigit() and len(value) < 10):
        return None
    found = name, value
    if name not in _CHANGING and len(line) <= _LONGEST_KEPT_BYTES:
        if len(_LINES) >= _LINES_KEPT:
            _LINES.clear()
        _LINES[line] = found
    return found
