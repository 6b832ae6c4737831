"""OpenTelemetry metrics and spans of a run: none, unless the program has set a provider up.

Metrics and attributes have the names of the semantic conventions for FaaS
(https://opentelemetry.io/docs/specs/semconv/faas/); what those do not know is under ``fanout.``.
Durations are those that the client saw: a caller does not learn the function's own.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from fanout.model import OK_STATUSES, Outcome
from fanout.version import version

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
    from opentelemetry.trace import Span, SpanContext, Tracer

_SCOPE = "fanout"
# The default boundaries are made for milliseconds: all of a second's calls would be in one bucket.
_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900)
_BOUNDS_BYTES = tuple(
    megabytes * 1024.0 * 1024 for megabytes in (64, 128, 256, 512, 1024, 2048, 4096, 10_240)
)
_alive: WeakKeyDictionary[object, WeakSet[Telemetry]] = WeakKeyDictionary()  # by meter provider
_X_RAY = "X-Amzn-Trace-Id"


class Telemetry:
    """Feeds the providers that are set when it is made; without any every method returns at once.

    ``in_flight`` is asked when metrics are collected. Spans are children of the span that is current
    when this is made, and are made after the fact, when a record has its outcome; but for calls that
    take on a trace (``trace``), whose spans begin with them. ``spans=False`` makes none.
    """

    def __init__(
        self,
        function: str,
        *,
        region: str | None = None,
        in_flight: Callable[[], int] | None = None,
        spans: bool = True,
    ) -> None:
        self._function = function
        self._attributes = {"faas.invoked_name": function, "faas.invoked_provider": "aws"}
        if region:
            self._attributes["faas.invoked_region"] = region
        self._instruments: _Instruments | None = None
        self._in_flight: Callable[[], int] = int  # none
        self._tracer: Tracer | None = None
        self._context: Any = None
        if not _may_be_set_up():
            return
        try:
            from opentelemetry import context, metrics, trace
        except ImportError:
            return
        if _does_something(metrics.get_meter_provider()):
            self._instruments = _Instruments(metrics.get_meter(_SCOPE, version()))
            if in_flight is not None:
                self._in_flight = in_flight
                _observe(metrics.get_meter_provider(), self)
        if spans and _does_something(trace.get_tracer_provider()):
            self._tracer = trace.get_tracer(_SCOPE, version())
            self._context = context.get_current()

    def in_flight_now(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Calls in flight, and the attributes to count them under."""
        return self._in_flight(), tuple(self._attributes.items())

    @property
    def is_enabled(self) -> bool:
        """True if anything is recorded: OpenTelemetry is set up."""
        return self._instruments is not None or self._tracer is not None

    def on_outcome(self, outcome: Outcome, span: Span | None = None) -> None:
        """Tell of one finished record. ``span`` is that of its call, where one was begun."""
        if self._instruments is not None:
            self._instruments.count(outcome, self._attributes)
        if self._tracer is not None:
            self._end_span(self._tracer, outcome, span)

    def trace(self) -> CallTrace | None:
        """The trace that is current now, for calls to take on; None when nobody traces."""
        header = inject_trace().get(_X_RAY)
        if self._tracer is not None:
            from opentelemetry import context

            return CallTrace(header, self._begin_span, context.get_current())
        return None if header is None else CallTrace(header)

    def _begin_span(self, parent: Context | None) -> Span:
        from opentelemetry.trace import SpanKind

        assert self._tracer is not None
        return self._tracer.start_span(
            self._function, parent, kind=SpanKind.CLIENT, attributes=self._attributes
        )

    def on_throttle(self, reason: str) -> None:
        """Tell of one 429."""
        if self._instruments is not None:
            self._instruments.throttles.add(1, {**self._attributes, "fanout.throttle.reason": reason})

    def _end_span(self, tracer: Tracer, outcome: Outcome, span: Span | None) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        if outcome.started_at is None:
            return
        start_ns = int(datetime.fromisoformat(outcome.started_at).timestamp() * 1e9)
        attributes: dict[str, str | int | bool] = {
            **self._attributes,
            "fanout.seq": outcome.seq,
            "fanout.status": outcome.status,
            "fanout.attempts": outcome.attempts,
            "fanout.throttles": outcome.throttles,
        }
        if outcome.request_id is not None:
            attributes["faas.invocation_id"] = outcome.request_id
        if outcome.billed_ms is not None:
            attributes["faas.coldstart"] = outcome.init_ms is not None
        if outcome.http_status is not None:
            attributes["http.response.status_code"] = outcome.http_status
        if span is None:
            span = tracer.start_span(
                self._function,
                self._context,
                kind=SpanKind.CLIENT,
                attributes=attributes,
                start_time=start_ns,
            )
        else:
            span.set_attributes(attributes)
        if outcome.status not in OK_STATUSES:
            kind, message = _error_type(outcome), "" if outcome.error is None else outcome.error.message
            span.set_attribute("error.type", kind)
            span.set_status(Status(StatusCode.ERROR, f"{kind}: {message}"[:500]))
        span.end(end_time=start_ns + int((outcome.duration_ms or 0.0) * 1e6))


class CallTrace:
    """A trace that calls take on: each call has a span of its own, which is the parent the function sees.

    Without a tracer the function's parent is the caller's span, ``header`` as X-Ray has it.
    """

    def __init__(
        self,
        header: str | None,
        begin: Callable[[Context | None], Span] | None = None,
        parent: Context | None = None,
    ) -> None:
        self.header = header
        self._begin = begin
        self._parent = parent

    def begin(self) -> tuple[Span, str] | None:
        """A call's span and its header; None where the caller's span stands for every call."""
        if self._begin is None:
            return None
        span = self._begin(self._parent)
        return span, _x_ray(span.get_span_context())


class _Instruments:
    """The metrics, made once."""

    def __init__(self, meter: Meter) -> None:
        counter = meter.create_counter

        def histogram(name: str, unit: str, description: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)

        self.invocations = counter("faas.invocations", "{invocation}", "Number of successful invocations.")
        self.errors = counter("faas.errors", "{error}", "Number of invocation errors.")
        self.timeouts = counter("faas.timeouts", "{timeout}", "Number of invocation timeouts.")
        self.cold_starts = counter("faas.coldstarts", "{coldstart}", "Number of invocation cold starts.")
        self.duration = histogram(
            "faas.invoke_duration", "s", "Round trip of an invocation, as the client saw it.", _BOUNDS_S
        )
        self.init = histogram(
            "faas.init_duration", "s", "Duration of the function's initialization.", _BOUNDS_S
        )
        self.memory = histogram("faas.mem_usage", "By", "Max memory usage per invocation.", _BOUNDS_BYTES)
        self.throttles = counter("fanout.throttles", "{throttle}", "Calls that Lambda refused for a limit.")

    def count(self, outcome: Outcome, base: dict[str, str]) -> None:
        """Count one outcome."""
        attributes = base | {"fanout.status": outcome.status}
        if outcome.status in OK_STATUSES:
            self.invocations.add(1, attributes)
        else:
            attributes["error.type"] = _error_type(outcome)
            self.errors.add(1, attributes)
            if outcome.timed_out or attributes["error.type"] == "Sandbox.Timedout":
                self.timeouts.add(1, base)
        if outcome.duration_ms is not None:
            self.duration.record(outcome.duration_ms / 1000, attributes)
        init_ms = outcome.restore_ms if outcome.init_ms is None else outcome.init_ms
        if init_ms is not None:
            self.cold_starts.add(1, base)
            self.init.record(init_ms / 1000, base)
        if outcome.max_memory_mb is not None:
            self.memory.record(outcome.max_memory_mb * 1024 * 1024, base)


def _observe(provider: object, telemetry: Telemetry) -> None:
    """Count a dispatcher's calls in flight with those of every other one in this process.

    A provider keeps the first callback of an instrument of one name only; so there is one gauge for
    each provider, and it asks all that are alive.
    """
    if provider in _alive:
        _alive[provider].add(telemetry)
        return
    from opentelemetry import metrics

    alive = _alive[provider] = WeakSet((telemetry,))

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        sums: Counter[tuple[tuple[str, str], ...]] = Counter()
        for each in list(alive):
            count, attributes = each.in_flight_now()
            sums[attributes] += count
        return [metrics.Observation(count, dict(attributes)) for attributes, count in sums.items()]

    meter = metrics.get_meter(_SCOPE, version())
    meter.create_observable_gauge("fanout.in_flight", [observe], "{invocation}", "Calls in flight.")


def inject_trace() -> dict[str, str]:
    """Headers that carry the current trace on: X-Ray's, and those of the propagator that is set up.

    Empty when no span is current. What of it a call may carry is the caller's to choose: Lambda takes
    the X-Ray header as it is, and the others inside the client context.
    """
    if not _may_be_set_up():
        return {}
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        return {}
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    carrier[_X_RAY] = _x_ray(current)
    return carrier


def _x_ray(span: SpanContext) -> str:
    trace_id = f"{span.trace_id:032x}"
    root = f"Root=1-{trace_id[:8]}-{trace_id[8:]}"
    return f"{root};Parent={span.span_id:016x};Sampled={int(span.trace_flags.sampled)}"


def _may_be_set_up() -> bool:
    # Whoever sets a provider up has imported the package, or names one in the environment. Importing
    # it to find out would cost every other program some tens of milliseconds.
    return "opentelemetry" in sys.modules or any(
        name in os.environ for name in ("OTEL_PYTHON_METER_PROVIDER", "OTEL_PYTHON_TRACER_PROVIDER")
    )


def _does_something(provider: object) -> bool:
    # The providers of the API package itself are stand-ins that do nothing.
    return type(provider).__module__.split(".")[:2] not in (
        ["opentelemetry", "metrics"],
        ["opentelemetry", "trace"],
    )


def _error_type(outcome: Outcome) -> str:
    return outcome.status if outcome.error is None else outcome.error.type[:200]
