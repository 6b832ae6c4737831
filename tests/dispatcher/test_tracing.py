"""The caller's trace reaches the function, on both transports, when it is asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fanout import Dispatcher
from fanout.dispatcher.call import Feed
from fanout.dispatcher.health import HealthCount
from fanout.emulator import EmulatorProcess
from tests.scripted import UNAVAILABLE, PromptScripted, Scripted, ok, throttled
from tests.test_telemetry import points, reader, spans

__all__ = ["reader", "spans"]

HANDLER = """
import os

def handler(event, context):
    return os.environ["_X_AMZN_TRACE_ID"]
"""


@pytest.mark.parametrize("transport", ["direct", "sdk"])
async def test_the_current_span_is_the_functions_parent(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With trace=True the function runs under the caller's span; without, under a trace of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    path = tmp_path / "traced.py"
    path.write_text(HANDLER)
    tracer = TracerProvider().get_tracer("test")
    with EmulatorProcess(handler=f"{path}:handler", name="f", concurrency=2) as emulator:
        where: dict[str, Any] = {"endpoint_url": emulator.endpoint_url, "region": "us-east-1"}
        async with Dispatcher("f", transport=transport, trace=True, **where) as dispatcher:
            with tracer.start_as_current_span("request") as span:
                told = (await dispatcher.invoke({})).json()
                [mapped] = [outcome.json() async for outcome in dispatcher.map([{}])]
            untold = (await dispatcher.invoke({})).json()
    trace_id = f"{span.get_span_context().trace_id:032x}"
    parent = f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span.get_span_context().span_id:016x}"
    assert told.startswith(parent)
    assert mapped.startswith(parent)
    assert trace_id[8:] not in untold


@pytest.mark.parametrize("world", [Scripted, PromptScripted])
async def test_a_tracer_that_fails_costs_its_call_alone(
    world: type[Scripted], spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sampler of one's own may raise: the call gets an outcome, and its permit comes back."""

    def fails(*_: Any) -> Any:
        raise LookupError("of a sampler")

    async with Dispatcher("f", transport=world(), concurrency=1, trace=True, retries=0) as dispatcher:
        await dispatcher.invoke(0)
        with trace.get_tracer("test").start_as_current_span("request"):
            with monkeypatch.context() as patched:
                patched.setattr(Feed, "traced", fails)
                async with asyncio.timeout(60):
                    outcome = await dispatcher.invoke(1)
            assert (outcome.status, outcome.error and outcome.error.type) == ("unknown", "LookupError")
            dispatcher.tune(concurrency=2)  # the permit lingers, as of any call that may have run
            assert (await dispatcher.invoke(2)).ok


@pytest.mark.parametrize("world", [Scripted, PromptScripted])
async def test_a_listener_that_fails_keeps_no_caller_waiting(
    world: type[Scripted], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A span processor or a meter may raise as a call ends: said once, and outcomes come all the same."""

    def fails(*_: Any) -> Any:
        raise LookupError("of a meter")

    monkeypatch.setattr(HealthCount, "on_outcome", fails)
    async with Dispatcher("f", transport=world(), concurrency=2) as dispatcher:
        async with asyncio.timeout(60):
            assert [(await dispatcher.invoke(number)).ok for number in range(4)] == [True] * 4
            assert [outcome.ok async for outcome in dispatcher.map(range(4))] == [True] * 4
    assert [record.getMessage() for record in caplog.records if "listener" in record.getMessage()] == [
        "an outcome could not be told to its listener"
    ]


async def test_a_calls_own_span_is_the_functions_parent(spans: InMemorySpanExporter) -> None:
    """Where spans are exported, each call's header names its own span, in repeats too."""
    replies = iter([UNAVAILABLE, ok(), ok()])
    transport = Scripted(lambda _: next(replies))
    async with Dispatcher("f", transport=transport, concurrency=1, trace=True, retries=1) as dispatcher:
        with trace.get_tracer("test").start_as_current_span("request") as request:
            assert (await dispatcher.invoke(1)).ok
            assert [outcome.ok async for outcome in dispatcher.map([2])] == [True]
    first, second, _ = spans.get_finished_spans()
    headers = [call.template.trace_id for call in transport.calls]
    for span, sent in ((first, headers[:2]), (second, headers[2:])):
        assert span.parent is not None
        assert span.context is not None
        assert span.parent.span_id == request.get_span_context().span_id
        assert all(header and f"Parent={span.context.span_id:016x};" in header for header in sent)


async def test_throttles_of_a_dispatcher_are_counted(reader: InMemoryMetricReader) -> None:
    """By their reason; the caller's own hooks hear of them as well."""
    transport = Scripted([throttled()])
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        assert (await dispatcher.invoke(1)).throttles == 1
    (throttles,) = points(reader)["fanout.throttles"]
    assert throttles.value == 1
