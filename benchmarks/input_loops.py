"""Other ways to read lines, each with a loop of its own: what fanout's reading is compared with.

    python benchmarks/input_loops.py floor|smart_open|s3fs LOCATION

Prints records, seconds and seconds of CPU as JSON, from the first record on; nothing where the library is not
installed. ``floor`` is what Python itself takes for the work of a reader in the tightest loop: bytes read or
unpacked, split, checked, and an object made for each line; no thread, no event loop, no place to resume from.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 48 * 1024


def main() -> None:
    kind, location = sys.argv[1:]
    lines = {"floor": _floor, "smart_open": _smart_open, "s3fs": _s3fs}[kind](location)
    try:
        records = next(lines)
    except ImportError:
        return
    began_s, cpu_s = time.perf_counter(), time.process_time()
    records += sum(lines)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    print(json.dumps({"records": records, "first_s": 0.0, "wall_s": wall_s, "cpu_s": cpu_s}))


def _floor(location: str) -> Iterator[int]:
    import msgspec

    from fanout.inputs import Item

    check = msgspec.json.Decoder(msgspec.Raw).decode
    rest = b""
    for chunk in _chunks(location):
        start = 0
        while end := chunk.rfind(b"\n", start, start + _PIECE_BYTES) + 1:
            lines = (rest + chunk[start:end]).split(b"\n")
            rest, start = lines.pop(), end
            deque(map(check, lines), maxlen=0)
            yield len(list(map(Item, lines, range(len(lines)))))
        rest += chunk[start:]


def _chunks(location: str) -> Iterator[bytes]:
    with Path(location).open("rb", buffering=0) as file:
        if not location.endswith(".zst"):
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
            return
        zstd: Any
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        unpack = zstd.ZstdDecompressor()
        while not unpack.eof:
            yield unpack.decompress(file.read(_CHUNK_BYTES) if unpack.needs_input else b"", _CHUNK_BYTES)


def _smart_open(location: str) -> Iterator[int]:
    from smart_open import open as open_anything

    with open_anything(location, "rb") as file:
        for line in file:
            json.loads(line)
            yield 1


def _s3fs(location: str) -> Iterator[int]:
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
    with files.open(location, "r") as file:  # lines of the bytes alone would each read a block
        for line in file:
            json.loads(line)
            yield 1


if __name__ == "__main__":
    main()
