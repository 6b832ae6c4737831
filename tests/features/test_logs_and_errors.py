"""What is kept of a call: log tails and their figures, and every shape of failure, on both transports."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

import fanout
from fanout.emulator import EmulatorProcess
from tests.cli.running import Shell
from tests.cli.serving import in_region, serving
from tests.transports.wire import Received, Script, Wire, http

BOTH = pytest.mark.parametrize("transport", ["direct", "sdk"])
FAILED = {"X-Amz-Function-Error": "Unhandled"}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """A scripted endpoint, in another thread, where this process's calls go."""
    with serving() as wire:
        in_region(monkeypatch, wire)
        yield wire


@pytest.mark.parametrize(("log_type", "kept"), [("Tail", 3), ("OnError", 1)])
def test_tails_are_kept_as_asked_and_figures_always(
    at_emulator: EmulatorProcess, tmp_path: Path, log_type: str, kept: int
) -> None:
    """``OnError`` keeps the tail of what failed alone; billed time is known of all, and the cost exact."""
    outcomes: list[fanout.Outcome] = []
    payloads = [{"do": "fail"}, {"do": "print"}, {"n": 1}]
    report = fanout.run("app", payloads, log_type=log_type, on_outcome=outcomes.append)  # type: ignore[arg-type]
    tails = {outcome.status: outcome.log_tail for outcome in outcomes if outcome.log_tail is not None}
    assert len([outcome for outcome in outcomes if outcome.log_tail is not None]) == kept
    assert "ValueError: bad" in tails["function_error"]
    assert all(outcome.billed_ms and outcome.memory_mb == 128 for outcome in outcomes)
    assert report.cost is not None
    billed_s = sum(outcome.billed_ms or 0 for outcome in outcomes) / 1000
    assert report.cost.usd == pytest.approx(3 * 2e-7 + billed_s / 8 * 0.0000166667)
    assert not report.cost.is_upper_bound


def test_without_tails_the_cost_is_an_upper_bound_and_prices_may_be_ones_own(user: Shell) -> None:
    """The summary says so; ``--prices`` is taken, and a cap stops like a deadline, to be resumed."""
    prices = user.directory / "prices.toml"
    prices.write_text("[us-east-1]\nrequest = 0.5\ngb_s_x86_64 = 0.0\ngb_s_arm64 = 0.0\nstorage_gb_s = 0.0\n")
    path = user.write("in.jsonl", 40)
    words = ["--prices", "prices.toml", "--out", "run", "--no-report"]
    done = user.run("run", "sim", path, "-j", "1", "--max-cost", "1", *words)
    state = user.state()
    assert (done.code, state["state"], state["halted_by"]) == (5, "halted", "cost")
    assert "at most $" in done.err
    assert "allowed" in done.err
    assert f"fanout resume {quote(f'{user.directory}/run')}\n" in done.err
    sent = len(user.outcomes())
    assert sent < 40
    done = user.run("resume", "run", "--max-cost", "100", "--json")
    told = json.loads(done.out)
    assert (done.code, told["counts"]["succeeded"], told["cost"]["usd"]) == (0, 40, pytest.approx(20))


SHAPES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "python": (
        b'{"errorMessage":"no","errorType":"ValueError","requestId":"r","stackTrace":["  File a.py"]}',
        {"type": "ValueError", "message": "no", "stack_trace": ["  File a.py"]},
    ),
    "node": (
        b'{"errorType":"TypeError","errorMessage":"x is no function","trace":["TypeError: x","  at a.js:1"]}',
        {"type": "TypeError", "message": "x is no function", "stack_trace": ["TypeError: x", "  at a.js:1"]},
    ),
    "java": (
        b'{"errorMessage":"outer","errorType":"java.lang.E","stackTrace":["a.B.c"],"cause":{"errorType":"E2"}}',
        {
            "type": "java.lang.E",
            "stack_trace": ["a.B.c"],
            "cause": {"errorType": "E2"},
        },
    ),
    "timeout": (b'{"errorMessage":"2026-11-21T08:00:00Z r Task timed out after 3.00 seconds"}', {}),
    "text": (b"not even JSON", {}),
}


@BOTH
def test_every_runtimes_errors_are_read_through_both_transports(endpoint: Wire, transport: str) -> None:
    """Type, message and trace of each; what is no error object is a function error all the same."""

    def respond(request: Received) -> Script:
        if request.method != "POST":
            return Script(http(403, b"{}", {"x-amzn-ErrorType": "AccessDeniedException"}))
        return Script(http(200, SHAPES[json.loads(request.body)][0], FAILED))

    endpoint.respond = respond
    outcomes: dict[str, fanout.Outcome] = {}
    report = fanout.run(
        "f",
        list(SHAPES),
        transport=transport,
        on_outcome=lambda outcome: outcomes.update({list(SHAPES)[outcome.seq]: outcome}),
    )
    assert report.counts["function_error"] == len(SHAPES)
    for name, (_, expected) in SHAPES.items():
        error = outcomes[name].error
        assert error is not None
        assert error.handled == "Unhandled"
        for member, value in expected.items():
            assert getattr(error, member) == value, (name, member)
    assert outcomes["timeout"].error.type == "Sandbox.Timedout"  # type: ignore[union-attr]


@BOTH
def test_a_retry_waits_as_long_as_lambda_asks(endpoint: Wire, transport: str) -> None:
    """Retry-After is a lower bound; a throttle costs no attempt, and history says what happened."""
    sent_s: list[float] = []

    def respond(request: Received) -> Script:
        if request.method != "POST":
            return Script(http(403, b"{}", {"x-amzn-ErrorType": "AccessDeniedException"}))
        sent_s.append(time.monotonic())
        if len(sent_s) > 1:
            return Script(http(200, b"1"))
        reason = b'{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","message":"Rate Exceeded."}'
        headers = {"x-amzn-ErrorType": "TooManyRequestsException", "Retry-After": "1"}
        return Script(http(429, reason, headers))

    endpoint.respond = respond
    outcomes: list[fanout.Outcome] = []
    fanout.run("f", [1], transport=transport, on_outcome=outcomes.append)
    (outcome,) = outcomes
    assert (outcome.status, outcome.attempts, outcome.throttles) == ("succeeded", 1, 1)
    assert sent_s[1] - sent_s[0] >= 1.0
    assert [end.verdict for end in outcome.history or ()] == ["throttled", "success"]


@BOTH
def test_function_errors_are_repeated_only_on_request_and_by_type(
    at_emulator: EmulatorProcess, transport: str
) -> None:
    """``retry_function_errors`` and ``retry_on``; how each attempt ended is kept."""
    outcomes: dict[int, fanout.Outcome] = {}
    fanout.run(
        "app",
        [
            {"do": "flaky", "name": f"soon-{transport}", "times": 2},
            {"do": "flaky", "name": f"late-{transport}", "times": 9},
            {"do": "fail"},
        ],
        transport=transport,
        retry_function_errors=2,
        retry_on=["KeyError"],
        on_outcome=lambda outcome: outcomes.update({outcome.seq: outcome}),
    )
    soon, late, other = (outcomes[seq] for seq in range(3))
    assert (soon.status, soon.attempts, soon.json()) == ("succeeded", 3, "at last")
    assert [end.verdict for end in soon.history or ()] == ["function_error", "function_error", "success"]
    assert (soon.history or [])[0].error == "KeyError: 'not yet'"
    assert (late.status, late.attempts, len(late.history or ())) == ("function_error", 3, 3)
    assert (other.status, other.attempts, other.history) == ("function_error", 1, None)


@BOTH
def test_a_call_that_is_silent_too_long_is_unknown(endpoint: Wire, transport: str) -> None:
    """``timeout``: the function may have run, so the record is not sent again."""

    def respond(request: Received) -> Script:
        if request.method != "POST":
            return Script(http(403, b"{}", {"x-amzn-ErrorType": "AccessDeniedException"}))
        return Script(wait_s=2.0)

    endpoint.respond = respond
    report = fanout.run("f", [1], transport=transport, timeout=0.4)
    assert report.counts["unknown"] == 1
    assert len([request for request in endpoint.received if request.method == "POST"]) == 1


@pytest.mark.slow
@pytest.mark.timeout(200)
@BOTH
def test_a_function_of_70_seconds_is_waited_for(endpoint: Wire, transport: str) -> None:
    """Longer than every SDK's read timeout of 60 s: one call, one success."""

    def respond(request: Received) -> Script:
        if request.method != "POST":
            return Script(http(200, b'{"Configuration":{"Timeout":900,"MemorySize":128}}'))
        return Script(http(200, b'"done"'), wait_s=70.0)

    endpoint.respond = respond
    report = fanout.run("f", [1], transport=transport, concurrency=1)
    assert report.counts["succeeded"] == 1
    assert len([request for request in endpoint.received if request.method == "POST"]) == 1


def test_a_tail_that_is_cut_or_broken_changes_no_verdict(endpoint: Wire) -> None:
    """Whatever the log is, the record succeeded."""
    report_line = b"Duration: 1 ms\tBilled Duration: 2 ms\tMemory Size: 512 MB\tMax Memory Used: 9 MB\t\n"
    tails = [base64.b64encode(report_line).decode(), "no base64!", base64.b64encode(b"\xff\xfe").decode(), ""]

    def respond(request: Received) -> Script:
        if request.method != "POST":
            return Script(http(403, b"{}", {"x-amzn-ErrorType": "AccessDeniedException"}))
        return Script(http(200, b"1", {"X-Amz-Log-Result": tails[json.loads(request.body)]}))

    endpoint.respond = respond
    report = fanout.run("f", list(range(len(tails))), log_type="Tail")
    assert report.counts["succeeded"] == len(tails)
    assert report.failures == []
