"""OpenTelemetry: nothing without a provider, the conventions' names with one, and a trace that goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from fanout.model import ErrorDetail, Outcome
from fanout.stats import Telemetry, inject_trace


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """A metrics provider that keeps what it is told."""
    made = InMemoryMetricReader()
    provider = MeterProvider([made])
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    yield made
    provider.shutdown()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A trace provider that keeps its spans."""
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield made
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """What was told, by the metric's name."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


SUCCESS = Outcome(
    seq=0,
    status="succeeded",
    attempts=1,
    throttles=0,
    request_id="8f1c",
    http_status=200,
    started_at="2026-11-21T08:00:00.500Z",
    duration_ms=250.0,
    billed_ms=240,
    init_ms=100.0,
    max_memory_mb=64,
)
FAILURE = Outcome(
    seq=1,
    status="function_error",
    attempts=2,
    throttles=1,
    started_at="2026-11-21T08:00:01Z",
    duration_ms=3000.0,
    error=ErrorDetail(type="Sandbox.Timedout", message="Task timed out"),
)


def test_without_a_provider_nothing_happens() -> None:
    """In a program that set none up, telling costs a comparison and does nothing."""
    telemetry = Telemetry("f", in_flight=lambda: 1 // 0)
    telemetry.on_outcome(SUCCESS)
    telemetry.on_throttle("rate")
    assert not telemetry.is_enabled
    assert inject_trace() == {}


def test_a_program_whose_telemetry_is_half_there_runs_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package's parts are of several versions."""
    for part in ("metrics", "trace", "context", "propagate"):
        monkeypatch.delattr(f"opentelemetry.{part}", raising=False)
        monkeypatch.setitem(sys.modules, f"opentelemetry.{part}", None)
    assert not Telemetry("f").is_enabled
    assert inject_trace() == {}


def test_the_package_is_not_imported_for_nothing() -> None:
    """A program that does not use OpenTelemetry does not pay for its import."""
    code = (
        "import sys\nfrom fanout.stats import Telemetry, inject_trace\n"
        "assert not Telemetry('f').is_enabled and inject_trace() == {}\n"
        "assert 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_have_the_conventions_names(reader: InMemoryMetricReader) -> None:
    """Invocations, errors, timeouts, cold starts, durations, memory, throttles and calls in flight."""
    flying = 7
    telemetry = Telemetry("resize", region="eu-west-1", in_flight=lambda: flying)
    assert telemetry.is_enabled
    telemetry.on_outcome(SUCCESS)
    telemetry.on_outcome(FAILURE)
    telemetry.on_throttle("CallerRateLimitExceeded")
    told = points(reader)
    base = {
        "faas.invoked_name": "resize",
        "faas.invoked_provider": "aws",
        "faas.invoked_region": "eu-west-1",
    }
    (invocations,) = told["faas.invocations"]
    assert (invocations.value, dict(invocations.attributes)) == (1, base | {"fanout.status": "succeeded"})
    (errors,) = told["faas.errors"]
    assert errors.attributes["error.type"] == "Sandbox.Timedout"
    assert sorted(point.sum for point in told["faas.invoke_duration"]) == [0.25, 3.0]
    assert [point.sum for point in told["faas.init_duration"]] == [0.1]
    assert [point.sum for point in told["faas.mem_usage"]] == [64 * 1024 * 1024]
    assert [point.value for point in told["faas.coldstarts"]] == [1]
    assert [point.value for point in told["faas.timeouts"]] == [1]
    (throttles,) = told["fanout.throttles"]
    assert throttles.attributes["fanout.throttle.reason"] == "CallerRateLimitExceeded"
    assert [point.value for point in told["fanout.in_flight"]] == [7]


def test_the_gauge_counts_every_dispatcher(reader: InMemoryMetricReader) -> None:
    """All dispatchers of the process, those of one function added up; one that is gone is not counted."""
    first = Telemetry("resize", in_flight=lambda: 7)
    second = Telemetry("resize", in_flight=lambda: 5)
    third = Telemetry("other", in_flight=lambda: 2)
    told = {
        point.attributes["faas.invoked_name"]: point.value for point in points(reader)["fanout.in_flight"]
    }
    assert told == {"resize": 12, "other": 2}
    del first
    told = {
        point.attributes["faas.invoked_name"]: point.value for point in points(reader)["fanout.in_flight"]
    }
    assert told == {"resize": 5, "other": 2}
    assert second.is_enabled
    assert third.is_enabled


def test_durations_have_boundaries_of_their_own(reader: InMemoryMetricReader) -> None:
    """From 5 ms to Lambda's 900 s, so that a quarter of a second is told from three seconds."""
    telemetry = Telemetry("resize")
    telemetry.on_outcome(SUCCESS)
    (duration,) = points(reader)["faas.invoke_duration"]
    assert (duration.explicit_bounds[0], duration.explicit_bounds[-1]) == (0.005, 900)
    at = duration.bucket_counts.index(1)
    assert duration.explicit_bounds[at] == 0.25


def test_the_scope_has_a_version(reader: InMemoryMetricReader, spans: InMemorySpanExporter) -> None:
    """Whoever reads a metric or a span can tell which version of fanout made it."""
    Telemetry("resize").on_outcome(SUCCESS)
    data = reader.get_metrics_data()
    assert data is not None
    scopes = {scope.scope.version for metrics_ in data.resource_metrics for scope in metrics_.scope_metrics}
    (span,) = spans.get_finished_spans()
    assert span.instrumentation_scope is not None
    assert scopes == {span.instrumentation_scope.version} == {version("lambda-fanout")}


def test_one_span_for_each_record(spans: InMemorySpanExporter) -> None:
    """A client span as long as the call, under the span that the run was started in."""
    with trace.get_tracer("test").start_as_current_span("batch") as batch:
        telemetry = Telemetry("resize")
    telemetry.on_outcome(SUCCESS)
    telemetry.on_outcome(FAILURE)
    telemetry.on_outcome(Outcome(seq=2, status="rejected", attempts=0, throttles=0))
    _, good, bad = spans.get_finished_spans()
    assert (good.name, good.kind) == ("resize", SpanKind.CLIENT)
    assert good.parent is not None
    assert good.parent.span_id == batch.get_span_context().span_id
    assert good.start_time is not None
    assert good.end_time is not None
    assert good.end_time - good.start_time == 250_000_000
    assert good.attributes is not None
    assert good.attributes["faas.invocation_id"] == "8f1c"
    assert good.attributes["faas.coldstart"] is True
    assert bad.status.status_code is StatusCode.ERROR
    assert bad.attributes is not None
    assert bad.attributes["error.type"] == "Sandbox.Timedout"


def test_a_call_that_takes_on_a_trace_is_the_functions_parent(spans: InMemorySpanExporter) -> None:
    """Its span begins before it is sent, under the caller's, and ends with its outcome."""
    telemetry = Telemetry("resize")
    with trace.get_tracer("test").start_as_current_span("request") as request:
        taken = telemetry.trace()
    assert taken is not None
    begun = taken.begin()
    assert begun is not None
    span, header = begun
    telemetry.on_outcome(SUCCESS, span)
    _, call = spans.get_finished_spans()
    assert call.parent is not None
    assert call.parent.span_id == request.get_span_context().span_id
    assert call.context is not None
    assert f"Parent={call.context.span_id:016x};" in header
    assert call.attributes is not None
    assert call.attributes["fanout.status"] == "succeeded"


def test_spans_can_be_left_out(spans: InMemorySpanExporter) -> None:
    """Metrics without a span for each of a million records."""
    Telemetry("resize", spans=False).on_outcome(SUCCESS)
    assert not spans.get_finished_spans()


def test_the_trace_goes_on(spans: InMemorySpanExporter) -> None:
    """Inside a span the headers carry it on, in X-Ray's form and in the propagator's."""
    with trace.get_tracer("test").start_as_current_span("batch") as batch:
        headers = inject_trace()
    context = batch.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    assert headers["X-Amzn-Trace-Id"] == (
        f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={context.span_id:016x};Sampled=1"
    )
    assert headers["traceparent"].startswith(f"00-{trace_id}-{context.span_id:016x}-")
