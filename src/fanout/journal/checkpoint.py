"""A checkpoint: what was known of a run when its journal was so long. It only saves time.

The file ``checkpoint`` of a run directory is written while a large run goes on and when it stops. A reader
takes it only if it is whole, and if the journal still holds, up to that length, the bytes that it was made
of, by a hash of the last of them. A checkpoint that is missing, torn, of another journal or of another
format is passed over, and the journal is read from its beginning, with the same result.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from fanout.journal.run_dir import CHECKPOINT_FILE, OUTCOMES_FILE
from fanout.journal.seqs import SeqSet
from fanout.private_files import write_whole

_FORMAT = b"fanout checkpoint 1\n"
_DIGEST_BYTES = 16
_TAIL_BYTES = 1 << 16


class Checkpoint(msgspec.Struct, kw_only=True):
    """The knowledge after the first ``position`` bytes of a journal, in which no record stands twice.

    ``figures`` are statistics and cost, in the form of those who wrote them. ``timeline_bytes``: how long
    the timeline was.
    """

    run_id: str
    position: int
    lines: int
    counts: dict[str, int]
    finished: dict[int, bytes]
    finished_max: int
    figures: dict[str, Any]
    timeline_bytes: int
    at_s: float  # Unix time

    def seqs(self) -> SeqSet:
        """The records with an outcome."""
        return SeqSet.of_pages(self.finished, self.finished_max)


class _File(msgspec.Struct):
    checkpoint: Checkpoint
    tail: bytes  # a hash of the journal's last bytes before ``position``


_decode = msgspec.msgpack.Decoder(_File).decode


def write_checkpoint(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of a run. Blocking. Raises OSError.

    Text with lone surrogates, as in a record's key, has no form here: such a run has no checkpoint.
    """
    tail = _tail(run_dir, checkpoint.position)
    if tail is None:
        return
    try:
        body = msgspec.msgpack.encode(_File(checkpoint, tail))
    except UnicodeEncodeError:
        return
    write_whole(run_dir / CHECKPOINT_FILE, _FORMAT + _digest(body) + body)


def read_checkpoint(run_dir: Path, run_id: object) -> Checkpoint | None:
    """The checkpoint of a run, if there is one and the journal is still the one it was made of."""
    try:
        content = (run_dir / CHECKPOINT_FILE).read_bytes()
    except OSError:
        return None
    digest, body = (
        content[len(_FORMAT) : len(_FORMAT) + _DIGEST_BYTES],
        content[len(_FORMAT) + _DIGEST_BYTES :],
    )
    if not content.startswith(_FORMAT) or digest != _digest(body):
        return None
    try:
        found = _decode(body)
        is_right = found.checkpoint.run_id == run_id and found.tail == _tail(
            run_dir, found.checkpoint.position
        )
        found.checkpoint.seqs()
    except (ValueError, OSError):
        return None
    return found.checkpoint if is_right else None


def _tail(run_dir: Path, position: int) -> bytes | None:
    """A hash of the journal's last bytes before a position; None where no line ends there."""
    with (run_dir / OUTCOMES_FILE).open("rb") as file:
        first = max(0, position - _TAIL_BYTES)
        file.seek(first)
        tail = file.read(position - first)
    if len(tail) < position - first or not tail.endswith(b"\n"):
        return None
    return _digest(b"%d\n" % position + tail)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
