"""Scans of JSON that keep nothing: the way to the value at a JSON Pointer, and the ends of values."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Generator

from fanout.errors import SourceError

_not_space = re.compile(rb"[^ \t\r\n]").search
_in_string = re.compile(rb'["\\]').search
_in_container = re.compile(rb'["{}\[\]]').search
_after_scalar = re.compile(rb"[,}\] \t\r\n]").search
_KEY_BYTES = 64 * 1024

_Steps = Generator[None, None, None]


class _Scan(ABC):
    """Steps over bytes that come in chunks: each step waits for what it needs of them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._steps = self._run()

    def feed(self, chunk: bytes) -> bytes | None:
        """The bytes that follow what is scanned for, or None as long as it has not ended."""
        self._buffer = chunk if self._at >= len(self._buffer) else self._buffer[self._at :] + chunk
        self._at = 0
        for _ in self._steps:
            return None
        return self._buffer[self._at :]

    @abstractmethod
    def _run(self) -> _Steps: ...

    def _space(self) -> _Steps:
        while (found := _not_space(self._buffer, self._at)) is None:
            self._at = len(self._buffer)
            yield
        self._at = found.start()

    def _peek(self) -> str:
        return chr(self._buffer[self._at])

    def _string_end(self) -> _Steps:
        """From behind an opening quote to behind the closing one."""
        while True:
            found = _in_string(self._buffer, self._at)
            if found is None:
                self._at = len(self._buffer)
                yield
            elif found[0] == b'"':
                self._at = found.end()
                return
            else:
                while found.end() >= len(self._buffer):
                    self._at = found.start()
                    yield
                    found = _in_string(self._buffer, self._at)
                    assert found is not None
                self._at = found.end() + 1

    def _value(self) -> _Steps:
        first = self._peek()
        if first == '"':
            self._at += 1
            yield from self._string_end()
            return
        if first not in "{[":
            while (found := _after_scalar(self._buffer, self._at)) is None:
                self._at = len(self._buffer)
                yield
            self._at = found.start()
            return
        yield from self._containers_end(0)

    def _containers_end(self, depth: int) -> _Steps:
        """To behind the end of the containers that are open, or of the one that begins here."""
        while True:
            found = _in_container(self._buffer, self._at)
            if found is None:
                self._at = len(self._buffer)
                yield
                continue
            self._at = found.end()
            if found[0] == b'"':
                yield from self._string_end()
            elif found[0] in b"{[":
                depth += 1
            else:
                depth -= 1
                if not depth:
                    return


class ValueScan(_Scan):
    """Passes one value, which begins with the first byte."""

    def _run(self) -> _Steps:
        yield from self._value()


class RestScan(_Scan):
    """Passes what follows a value that stands inside ``depth`` containers, to the end of the outermost."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        super().__init__()

    def _run(self) -> _Steps:
        yield from self._containers_end(self._depth)


class PointerScan(_Scan):
    """Passes all that stands before the value at a JSON Pointer. Raises SourceError where there is none."""

    def __init__(self, pointer: str) -> None:
        self._pointer = pointer
        self._parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        super().__init__()

    def finish(self) -> None:
        """The input ended before the value began."""
        raise SourceError(f"has nothing at {self._pointer}: it ends before")

    def _run(self) -> _Steps:
        while len(self._buffer) < 3:  # a byte order mark
            yield
        if self._buffer.startswith(b"\xef\xbb\xbf"):
            self._at = 3
        for part in self._parts:
            yield from self._space()
            if self._peek() == "{":
                yield from self._member(part)
            elif self._peek() == "[" and part.isascii() and part.isdigit() and len(part) < 16:
                yield from self._element(int(part))
            else:
                raise self._absent()
        yield from self._space()

    def _member(self, wanted: str) -> _Steps:
        self._at += 1
        yield from self._space()
        while self._peek() == '"':
            key_at = self._at
            while (end := self._key_end(key_at)) is None:
                if len(self._buffer) - key_at > _KEY_BYTES:
                    raise SourceError(f"has a member name longer than {_KEY_BYTES:,} bytes")
                self._at = key_at
                yield
                key_at = 0
            name = self._buffer[key_at:end]
            self._at = end
            yield from self._punctuation(":")
            yield from self._space()
            try:
                is_wanted = json.loads(name) == wanted
            except ValueError as error:
                raise SourceError(f"is not JSON: the member name {name[:40]!r}: {error}") from error
            if is_wanted:
                return
            yield from self._value()
            yield from self._space()
            if self._peek() == "}":
                break
            yield from self._punctuation(",")
            yield from self._space()
        raise self._absent()

    def _element(self, wanted: int) -> _Steps:
        self._at += 1
        yield from self._space()
        for _ in range(wanted):
            if self._peek() == "]":
                raise self._absent()
            yield from self._value()
            yield from self._space()
            if self._peek() == "]":
                raise self._absent()
            yield from self._punctuation(",")
            yield from self._space()
        if self._peek() == "]":
            raise self._absent()

    def _key_end(self, at: int) -> int | None:
        at += 1
        while (found := _in_string(self._buffer, at)) is not None:
            if found[0] == b'"':
                return found.end()
            at = found.end() + 1
        return None

    def _punctuation(self, wanted: str) -> _Steps:
        yield from self._space()
        if self._peek() != wanted:
            raise SourceError(f"is not JSON: {self._peek()!r} where {wanted!r} should be")
        self._at += 1

    def _absent(self) -> SourceError:
        return SourceError(f"has nothing at {self._pointer}: check --items")
