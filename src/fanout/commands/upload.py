"""``--results``: the outcomes of a run, taken to S3 when it stops, and a manifest that names them last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from fanout.aws import Clients, ServiceClients
from fanout.aws.s3_faults import split_location
from fanout.config import Options
from fanout.errors import FanoutError, SourceError
from fanout.journal import RunDir, iter_lines
from fanout.journal.run_dir import new_run_id
from fanout.outputs.s3 import S3Upload, Uploaded
from fanout.quantities import iso
from fanout.version import version

_BLOCK_BYTES = 4 << 20
_OBJECT_BYTES = 256 << 20  # of one part
MANIFEST = "manifest.json"


class _Block(msgspec.Struct):
    """Whole lines of the journal, and what they are of."""

    lines: bytes
    counts: Counter[str]


async def upload_results(
    run_dir: RunDir, location: str, options: Options, on_note: Callable[[str], None] | None = None
) -> str:
    """Upload the latest outcome of each record; returns the manifest's location.

    The caller holds the directory's lock. Each upload has a number of its own, noted before it begins:
    no two of them ever write the same part, and a manifest that is there names parts that are there.
    ``on_note`` gets what goes on, in one line each. Raises FanoutError; run.json then says so.
    """
    before = run_dir.state.get("results") or {}
    number = int(before.get("n") or 0) + 1
    done = {"location": location, "n": number}
    own = _own_exit_code(run_dir)
    noted = {**done, "run_exit_code": own, "run_finished_at": run_dir.state.get("finished_at")}
    kept = {**(run_dir.state.get("options") or {}), "results": location}
    run_dir.write_state(
        {
            "id": run_dir.state.get("id") or new_run_id(),
            "options": kept,
            "results": {**noted, "error": "was not finished"},
        }
    )
    clients = ServiceClients.of(options)
    if on_note is not None:
        on_note(f"uploading the results to {location}")
    try:
        manifest = await _Uploading(run_dir, location, number, clients, on_note).upload()
    except FanoutError as error:
        run_dir.write_state({"results": {**noted, "error": str(error)}})
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await clients.aclose()
    run_dir.write_state(
        {"exit_code": own, "results": {**done, "manifest": manifest, "uploaded_at": iso(time.time())}}
    )
    return manifest


def _own_exit_code(run_dir: RunDir) -> int | None:
    """The exit code of the run as it ended, whatever a failed upload of its results has made of it."""
    before = run_dir.state.get("results") or {}
    code: int | None = run_dir.state.get("exit_code")
    if "run_exit_code" in before and before.get("run_finished_at") == run_dir.state.get("finished_at"):
        code = before["run_exit_code"]
    return code


class _Uploading:
    """One upload: parts below ``<prefix>/<run id>/<n>/``, then the manifest beside ``<n>``."""

    def __init__(
        self,
        run_dir: RunDir,
        location: str,
        number: int,
        clients: Clients,
        on_note: Callable[[str], None] | None,
    ) -> None:
        self._on_note = on_note
        self._run_dir = run_dir
        self._clients = clients
        self._number = number
        try:
            self._bucket, prefix = split_location(location)
        except SourceError as error:
            raise FanoutError(str(error)) from error
        prefix = prefix.rstrip("/")
        self._base = f"{prefix}/{run_dir.state['id']}" if prefix else str(run_dir.state["id"])
        self._counts: Counter[str] = Counter()
        self._parts: list[dict[str, Any]] = []

    async def upload(self) -> str:
        blocks = _blocks(self._run_dir)
        block = await anyio.to_thread.run_sync(next, blocks, None)
        while block is not None:
            block = await self._upload_part(block, blocks)
        key = f"{self._base}/{MANIFEST}"
        async with self._object(key, "application/json") as manifest:
            await manifest.write(msgspec.json.format(msgspec.json.encode(self._manifest()), indent=2) + b"\n")
            await manifest.finish()
        return f"s3://{self._bucket}/{key}"

    def _object(self, key: str, content_type: str) -> S3Upload:
        return S3Upload(self._clients, self._bucket, key, content_type=content_type, on_wait=self._waits)

    def _waits(self, reason: str, wait_s: float) -> None:  # noqa: ARG002 - said at once
        if self._on_note is not None:
            self._on_note(f"the upload tries again: {reason}")

    async def _upload_part(self, block: _Block, blocks: Iterator[_Block]) -> _Block | None:
        """One object of whole lines; returns the block that it has no room for."""
        key = f"{self._base}/{self._number}/part-{len(self._parts):05}.jsonl"
        counts: Counter[str] = Counter()
        following: _Block | None = block
        async with self._object(key, "application/x-ndjson") as part:
            while following is not None and part.size < _OBJECT_BYTES:
                counts += following.counts
                await part.write(following.lines)
                following = await anyio.to_thread.run_sync(next, blocks, None)
            done: Uploaded = await part.finish()
        self._counts += counts
        self._parts.append({**msgspec.to_builtins(done), "outcomes": counts.total()})
        return following

    def _manifest(self) -> dict[str, Any]:
        state = self._run_dir.state
        return {
            "format": 1,
            "run_id": state["id"],
            "function": state.get("function"),
            "state": state.get("state"),
            "halted_by": state.get("halted_by"),
            "counts": dict(self._counts),
            "outcomes": self._counts.total(),
            "records_read": state.get("records_read"),
            "generation": state.get("generation", 0),
            "n": self._number,
            "started_at": state.get("started_at"),
            "finished_at": state.get("finished_at"),
            "uploaded_at": iso(time.time()),
            "fanout_version": version(),
            "bucket": self._bucket,
            "parts": self._parts,
        }


def _blocks(run_dir: RunDir) -> Iterator[_Block]:
    lines: list[bytes] = []
    size, counts = 0, Counter[str]()
    for head, line in iter_lines(run_dir.path):
        lines.append(line)
        counts[head.status] += 1
        size += len(line)
        if size >= _BLOCK_BYTES:
            yield _Block(b"".join(lines), counts)
            lines, size, counts = [], 0, Counter()
    if lines:
        yield _Block(b"".join(lines), counts)
