"""Random runs: options of every theme at once, each way in, a Lambda that fails in each way; then a resume.

Most faults sit where two features meet. Whatever is drawn, the sums must be right, no record may run twice
that must not, and no run may hang or end in another error than one of ours. ``python -m pytest
tests/features/test_random_runs.py -m slow`` plays many more of them.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.model import Reply
from tests.scripted import UNAVAILABLE, Answer, Call, Scripted, function_error, lost, ok, refused, throttled

PATIENCE = {"outage_patience": 0.3, "throttle_patience": 0.3, "function_timeout": 0.2, "timeout": 1}
OK = {"succeeded", "accepted", "valid"}
WAYS = ("list", "generator", "async generator", "bytes", "Record", "jsonl", "gzip", "csv")


def _drawn_options(rng: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = dict(PATIENCE)

    def maybe(share: float, name: str, *values: Any) -> None:
        if rng.random() < share:
            options[name] = rng.choice(values)

    maybe(1, "concurrency", 1, 3, 20)
    maybe(0.2, "take", 0, 1, 5, 50)
    maybe(0.2, "retries", 0, 1, 5)
    maybe(0.2, "retry_function_errors", 1, 3)
    maybe(0.3, "idempotent", True)
    maybe(0.35, "batch", 1, 2, 5, 50)
    if "batch" in options:
        maybe(0.7, "batch_shape", "items", "sqs", "array")
        if options.get("idempotent") and options["batch"] > 1:
            maybe(0.3, "bisect", True)
    maybe(0.15, "enough", 1, 5, 40)
    maybe(0.1, "max_cost", 1e-6, 1.0)
    maybe(0.1, "deadline", 0.05, 5)
    maybe(0.15, "tolerated_failure_count", 0, 3)
    maybe(0.1, "threshold", "p95<9s")
    maybe(0.3, "key", "id")
    maybe(0.15, "select", "@", "{v: id}", "nope")
    maybe(0.1, "invocation_type", "Event", "DryRun")
    if options.get("idempotent") and "batch" not in options and "invocation_type" not in options:
        maybe(0.3, "hedge", True)
    maybe(0.1, "fsync", "always", "never")
    maybe(0.1, "rate", 2000)
    return options


def _input(way: str, count: int, directory: Path) -> Any:
    records = [{"id": f"k{number}", "n": number} for number in range(count)]
    lines = "".join(json.dumps(record) + "\n" for record in records)

    async def one_by_one() -> AsyncIterator[object]:
        for record in records:
            yield record

    if way == "generator":
        return (record for record in records)
    if way == "async generator":
        return one_by_one()
    if way == "bytes":
        return lines.encode().splitlines()
    if way == "Record":
        return [fanout.Record(record, key=f"K{number}") for number, record in enumerate(records)]
    path = directory / {"jsonl": "in.jsonl", "gzip": "in.jsonl.gz", "csv": "in.csv"}.get(way, "in")
    if way == "jsonl":
        path.write_text(lines)
    elif way == "gzip":
        path.write_bytes(gzip.compress(lines.encode(), mtime=0))
    elif way == "csv":
        path.write_text("id,n\n" + "".join(f"k{number},{number}\n" for number in range(count)))
    return path if path.exists() else records


class _Server:
    """Answers at random, and counts which payloads ran."""

    def __init__(self, rng: random.Random, options: dict[str, Any]) -> None:
        self.ran: Counter[str] = Counter()
        self._rng = rng
        self._options = options
        self._answers: list[tuple[float, Callable[[], Answer], bool]] = [
            (rng.choice((0, 0, 0, 0.05, 0.3)), lambda: UNAVAILABLE, False),
            (rng.choice((0, 0, 0, 0.05, 0.3)), throttled, False),
            (rng.choice((0, 0, 0, 0.05)), lost, True),
            (rng.choice((0, 0, 0, 0.05, 0.3)), function_error, True),
            (rng.choice((0, 0, 0, 0.05, 0.3)), lambda: refused(400, "InvalidRequestContentException"), False),
        ]

    def heal(self) -> None:
        """Every call succeeds from now on."""
        self._answers = []

    def answer(self, call: Call) -> Answer:
        payload = call.json()
        batch, shape = self._options.get("batch"), self._options.get("batch_shape")
        if shape == "sqs":
            records = [record["body"] for record in payload["Records"]]
        elif shape == "array":
            records = [json.dumps(record) for record in payload]
        elif shape == "items" or (batch or 1) > 1:
            records = [json.dumps(record) for record in payload["Items"]]
        else:
            records = [call.body.decode()]
        drawn = self._rng.random()
        invocation_type = self._options.get("invocation_type")
        for share, make, has_run in self._answers:
            if drawn < share and not (invocation_type and has_run):
                if has_run:
                    self.ran.update(records)
                return make()
            drawn -= share
        if invocation_type == "DryRun":
            return Reply(204)
        self.ran.update(records)
        if invocation_type == "Event":
            return Reply(202)
        return ok(json.dumps(records).encode() if shape == "array" else b'{"ok": 1}')


def _check(
    report: fanout.RunReport, directory: Path, count: int, take: int | None, refused: frozenset[int]
) -> dict[str, Any]:
    """What holds of every run and of every resume, read from its directory.

    ``refused``: records whose outcome was the refusal that stopped the run; a resume sends them again.
    """
    state: dict[str, Any] = json.loads((directory / "run.json").read_text())
    lines = [json.loads(line) for line in (directory / "outcomes.jsonl").read_text().splitlines()]
    newest = {line["seq"]: line for line in lines}
    counts = Counter(line["status"] for line in newest.values())
    twice = {seq for seq, times in Counter(line["seq"] for line in lines).items() if times > 1}
    assert twice <= refused, "two outcomes of one record"
    for told in (state["counts"], report.counts):
        assert {status: n for status, n in told.items() if n} == counts
    assert len(newest) <= state["records_read"] <= count
    assert state["state"] == report.state != "running"
    if report.state == "finished":
        assert len(newest) == state["records_read"] == min(count, count if take is None else take)
    if report.exit_code == 0:
        is_enough = state.get("halted_by") == "enough"
        assert is_enough or (report.state == "finished" and set(counts) <= OK)
    assert report.exit_code in (0, 1, 3, 4, 5)
    return state


def play(seed: int, directory: Path) -> None:
    """One random run and, where it stopped early, its resume with a Lambda that works again."""
    rng = random.Random(seed)
    options, count, way = _drawn_options(rng), rng.choice((0, 1, 2, 7, 30, 80)), rng.choice(WAYS)
    server = _Server(rng, options)
    transport = Scripted(server.answer, latency_s=0.0005)
    out = directory / "run"
    report = fanout.run("f", _input(way, count, directory), out=out, transport=transport, **options)
    state = _check(report, out, count, options.get("take"), frozenset())
    may_repeat = options.get("idempotent") or options.get("retry_function_errors")
    assert may_repeat or all(times == 1 for times in server.ran.values()), "a record ran twice"
    counts = report.counts
    assert counts["succeeded"] + counts["accepted"] <= len(server.ran)
    if report.state == "finished" or "enough" in options:
        return
    server.heal()
    lifted = {"max_cost": 1.0, "deadline": 60.0, "tolerated_failure_count": count}
    again = options | {name: value for name, value in lifted.items() if name in options}
    payloads = _input(way, count, directory)
    report = fanout.run("f", payloads, out=out, resume=True, transport=transport, **again)
    assert report.state == "finished", (report.state, report.halted_by)
    _check(report, out, count, options.get("take"), frozenset(state["refused"]))


@pytest.mark.parametrize("seed", range(30))
def test_a_random_run_adds_up(seed: int, tmp_path: Path) -> None:
    """Thirty of them at every change."""
    play(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 4000, 100))
def test_many_random_runs_add_up(first: int, tmp_path: Path) -> None:
    """Three thousand."""
    for seed in range(first, first + 100):
        directory = tmp_path / str(seed)
        directory.mkdir()
        try:
            play(seed, directory)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error}") from error
