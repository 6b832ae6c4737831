"""Hashes of a sample of the records read, so that a resumed run notices a changed input.

The file ``samples`` holds 16 bytes each: the sequence number and eight bytes of BLAKE2b. The first 16
records are in it, and every 64th after them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

from fanout.errors import JournalError

SAMPLES_FILE = "samples"
ALL_BELOW = 16
EVERY = 64
_pack = struct.Struct("<Q8s")
ENTRY_BYTES = _pack.size


def is_sampled(seq: int) -> bool:
    """True if the record's hash is kept."""
    return seq % EVERY == 0 or seq < ALL_BELOW


def sampled_of(first: int, count: int) -> Sequence[int]:
    """Those of ``count`` records from ``first`` on whose hash is kept."""
    if first < ALL_BELOW:
        return [seq for seq in range(first, first + count) if is_sampled(seq)]
    return range(first + -first % EVERY, first + count, EVERY)


def sample_entry(seq: int, payload: bytes) -> bytes:
    """The file's entry for one record."""
    return _pack.pack(seq, _hash(payload))


class Samples:
    """The samples a run left behind."""

    def __init__(self, hashes: dict[int, bytes]) -> None:
        self._hashes = hashes

    def differs(self, seq: int, payload: bytes) -> bool:
        """True if this record was sampled before and was another then."""
        kept = self._hashes.get(seq)
        return kept is not None and kept != _hash(payload)

    def __len__(self) -> int:
        return len(self._hashes)


def check_samples(directory: Path) -> Samples:
    """Read the samples of a run; an entry cut short by a crash is left out. Raises JournalError."""
    path = directory / SAMPLES_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Samples({})
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    whole = len(data) - len(data) % ENTRY_BYTES
    return Samples(dict(_pack.iter_unpack(data[:whole])))


def _hash(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=8).digest()
