"""What a program sees: callbacks, the report, logging and OpenTelemetry, against real processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import fanout
from fanout.emulator import EmulatorProcess
from fanout.stats import Snapshot
from tests.scripted import UNAVAILABLE, Scripted
from tests.test_telemetry import points, reader, spans

__all__ = ["reader", "spans"]


def test_callbacks_see_every_outcome_and_the_course(at_emulator: EmulatorProcess, tmp_path: Path) -> None:
    """Each outcome once it is written; the last snapshot has it all."""
    outcomes: list[fanout.Outcome] = []
    snapshots: list[Snapshot] = []

    def on_outcome(outcome: fanout.Outcome) -> None:
        assert f'"seq":{outcome.seq},' in (tmp_path / "run" / "outcomes.jsonl").read_text()
        outcomes.append(outcome)

    payloads = [{"n": n} for n in range(30)] + [{"do": "fail"}]
    report = fanout.run(
        "app", payloads, out=tmp_path / "run", on_outcome=on_outcome, on_progress=snapshots.append
    )
    assert sorted(outcome.seq for outcome in outcomes) == list(range(31))
    assert (snapshots[-1].done, snapshots[-1].total) == (31, 31)
    assert snapshots[-1].counts["function_error"] == 1
    assert (report.counts["succeeded"], report.counts["function_error"]) == (30, 1)
    assert 0 < report.latency_ms["p50"] <= report.latency_ms["max"]
    (failure,) = report.failures
    assert (failure.count, failure.type, failure.seq) == (1, "ValueError", 30)
    page: str = report._repr_html_()
    assert "<table" in page
    assert "ValueError" in page
    assert "\x1b" not in page


def test_logging_says_nothing_per_record_above_debug(
    at_emulator: EmulatorProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """The ``fanout`` logger: what the run may use, and how it ended."""
    with caplog.at_level(logging.INFO, logger="fanout"):
        fanout.run("app", [{"do": "fail"}] * 30)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("fanout")]
    assert 1 <= len(lines) < 10
    assert any("30 function_error" in line for line in lines)


async def test_a_dispatcher_tells_opentelemetry(
    at_emulator: EmulatorProcess, reader: InMemoryMetricReader, spans: InMemorySpanExporter
) -> None:
    """Metrics and spans by the conventions' names come out of real calls, under the caller's span."""
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        async with fanout.Dispatcher("app", concurrency=3, log_type="OnError") as dispatcher:
            outcomes = [outcome async for outcome in dispatcher.map([{"n": 1}, {"n": 2}, {"do": "fail"}])]
            told = points(reader)
    assert {outcome.status for outcome in outcomes} == {"succeeded", "function_error"}
    assert sum(point.value for point in told["faas.invocations"]) == 2
    (error,) = told["faas.errors"]
    assert error.attributes["error.type"] == "ValueError"
    assert error.attributes["faas.invoked_name"] == "app"
    assert sum(point.count for point in told["faas.invoke_duration"]) == 3
    assert "fanout.in_flight" in told
    assert "faas.mem_usage" in told
    calls = [span for span in spans.get_finished_spans() if span.name != "request"]
    assert len(calls) == 3
    ids = {outcome.request_id for outcome in outcomes}
    assert {(span.attributes or {})["faas.invocation_id"] for span in calls} == ids
    assert {span.parent.span_id for span in calls if span.parent} == {request.get_span_context().span_id}


@pytest.mark.parametrize("is_in_a_loop", [False, True])
async def test_a_runs_calls_carry_the_trace_on(
    at_emulator: EmulatorProcess, spans: InMemorySpanExporter, is_in_a_loop: bool
) -> None:
    """``fanout.run(…, trace=True)``, in a notebook (where a loop runs) too."""
    import asyncio

    outcomes: list[fanout.Outcome] = []
    options: dict[str, Any] = {"trace": True, "on_outcome": outcomes.append}
    with trace.get_tracer("test").start_as_current_span("nightly") as span:
        if is_in_a_loop:
            fanout.run("app", [{"n": 1}], **options)
        else:
            await asyncio.to_thread(fanout.run, "app", [{"n": 1}], **options)
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert outcomes[0].trace_id is not None
    assert trace_id[8:] in outcomes[0].trace_id


@pytest.mark.looptime
async def test_the_last_five_ends_are_kept() -> None:
    """However many attempts there were, an outcome stays small."""
    transport = Scripted([UNAVAILABLE] * 9)
    async with fanout.Dispatcher("f", transport=transport, concurrency=1, retries=8) as dispatcher:
        outcome = await dispatcher.invoke(1)
    assert (outcome.status, outcome.attempts) == ("undelivered", 9)
    assert [end.verdict for end in outcome.history or ()] == ["transient"] * 5
