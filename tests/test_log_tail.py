"""The log tail: both formats, whole, cut and hostile."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.log_tail import decode_tail, parse_report
from fanout.model import ReportLine

ID = "3f5c8f3e-0000-4000-8000-000000000000"
OTHER = "99999999-0000-4000-8000-000000000000"
COLD = (
    f"START RequestId: {ID} Version: $LATEST\nhello\nEND RequestId: {ID}\n"
    f"REPORT RequestId: {ID}\tDuration: 3.10 ms\tBilled Duration: 546 ms\tMemory Size: 2048 MB\t"
    "Max Memory Used: 95 MB\tInit Duration: 542.01 ms\t\n"
    "XRAY TraceId: 1-5e3d83c1\tSegmentId: 1\tSampled: true\n"
)
RESTORED = (
    f"REPORT RequestId: {ID}\tDuration: 2338.66 ms\tBilled Duration: 2521 ms\tMemory Size: 512 MB\t"
    "Max Memory Used: 120 MB\tRestore Duration: 398.97 ms\tBilled Restore Duration: 182 ms\t\n"
)
TIMED_OUT = (
    f"REPORT RequestId: {ID}\tDuration: 10000.00 ms\tBilled Duration: 10938 ms\tMemory Size: 128 MB\t"
    "Max Memory Used: 40 MB\tStatus: timeout"
)


def json_report(request_id: str = ID, status: str = "success", **metrics: float) -> str:
    """A ``platform.report`` as JSON logs have it."""
    record = {
        "time": "2026-11-21T08:00:00.000Z",
        "type": "platform.report",
        "record": {"requestId": request_id, "metrics": metrics, "status": status},
    }
    return json.dumps(record)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (COLD, ReportLine(546, 3.10, 542.01, None, 2048, 95, timed_out=False)),
        (RESTORED, ReportLine(2521, 2338.66, None, 398.97, 512, 120, timed_out=False)),
        (TIMED_OUT, ReportLine(10938, 10000.0, None, None, 128, 40, timed_out=True)),
        (
            json_report(
                durationMs=3.1,
                billedDurationMs=546,
                memorySizeMB=2048,
                maxMemoryUsedMB=95,
                initDurationMs=542.01,
            ),
            ReportLine(546, 3.1, 542.01, None, 2048, 95, timed_out=False),
        ),
        (
            json_report(status="timeout", durationMs=1000, billedDurationMs=1000, restoreDurationMs=7.5),
            ReportLine(1000, 1000.0, None, 7.5, None, None, timed_out=True),
        ),
    ],
    ids=["cold", "restored", "timeout", "json", "json-timeout"],
)
def test_reads_the_figures_of_both_formats(tail: str, expected: ReportLine) -> None:
    """Billed, duration, init, restore, memory and the timeout status come out of either format."""
    assert parse_report(tail, ID) == expected
    assert parse_report(tail) == expected


def test_takes_the_line_of_its_own_request() -> None:
    """Another request's line in the same tail is not taken, whichever format and order they are in."""
    other = COLD.replace(ID, OTHER).replace("546", "1")
    mine = parse_report(COLD)
    assert parse_report(other + COLD, ID) == mine
    assert parse_report(COLD + other, ID) == mine
    assert parse_report(json_report(OTHER, billedDurationMs=1) + COLD, ID) == mine
    assert parse_report(other, ID) is None


def test_without_a_request_id_the_last_line_counts() -> None:
    """The tail ends with the call that was asked for."""
    first, last = json_report(billedDurationMs=1), json_report(billedDurationMs=2)
    assert parse_report(first + "\n" + last) == ReportLine(billed_ms=2)
    assert parse_report(first + "\n" + RESTORED) == parse_report(RESTORED)
    assert parse_report(RESTORED + first) == ReportLine(billed_ms=1)


def test_json_objects_may_share_a_line_with_others_and_with_text() -> None:
    """A function's own output need not end in a line break, and braces in strings are no braces."""
    tail = 'print {not json "' + json.dumps({"msg": "} {"}) + json_report(billedDurationMs=5) + '{"type":"x"}'
    assert parse_report(tail, ID) == ReportLine(billed_ms=5)


def test_one_figure_is_never_read_for_another() -> None:
    """Billed, Init and Restore Duration all end in the name of a figure that may be missing."""
    line = (
        f"REPORT RequestId: {ID}\tBilled Duration: 2 ms\tInit Duration: 3 ms\tBilled Restore Duration: 4 ms\t"
    )
    assert parse_report(line, ID) == ReportLine(billed_ms=2, init_ms=3.0)


@pytest.mark.parametrize("tail", ["", "hello", COLD[:60], 'x {"type":"platform.report","record":{"requ'])
def test_a_tail_without_its_report_gives_none(tail: str) -> None:
    """The REPORT line may be missing: that is no error."""
    assert parse_report(tail, ID) is None


def test_every_cut_of_a_tail_gives_right_figures_or_none() -> None:
    """A tail that begins anywhere never gives a wrong figure."""
    whole = parse_report(COLD)
    for start in range(len(COLD)):
        report = parse_report(COLD[start:], ID)
        assert report in (None, whole)
    text = json_report(durationMs=3.1, billedDurationMs=546)
    for start in range(len(text)):
        assert parse_report(text[start:], ID) in (None, ReportLine(546, 3.1))


def test_decodes_a_tail_that_begins_within_a_character() -> None:
    """4 KB may cut a character in two; its rest is left out, the text is kept."""
    raw = "é€😀 rest\n".encode()
    assert decode_tail(base64.b64encode(raw).decode()) == "é€😀 rest\n"
    for start in range(1, 10):
        text = decode_tail(base64.b64encode(raw[start:]).decode())
        assert text.endswith("rest\n")
        assert "\N{REPLACEMENT CHARACTER}" not in text


def test_broken_base64_gives_what_stands_before_the_fault() -> None:
    """A damaged header never fails the call that carries it."""
    encoded = base64.b64encode(b"REPORT RequestId: x\n").decode()
    assert decode_tail(encoded[:-3]) == "REPORT RequestId"[:15] + decode_tail(encoded)[15:18]
    assert decode_tail("%%%") == ""
    assert decode_tail("") == ""
    assert decode_tail("é") == ""


@given(st.text(max_size=200), st.one_of(st.none(), st.text(max_size=10)))
def test_hostile_tails_never_raise(text: str, request_id: str | None) -> None:
    """Any text is a log a function may have written."""
    decode_tail(text)
    parse_report(text, request_id)
    parse_report(f"REPORT RequestId: {text}\tDuration: {text} ms", request_id)
    parse_report(f'{{"type":"platform.report","record":{{"requestId":"{text}"}}}}', request_id)


@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5)), st.lists, max_leaves=5
    )
)
def test_hostile_metrics_never_raise(value: object) -> None:
    """A figure of the wrong kind, or beyond reason, is left out."""
    record = {"type": "platform.report", "record": {"requestId": ID, "metrics": {"billedDurationMs": value}}}
    report = parse_report(json.dumps(record), ID)
    assert report is None or report.billed_ms is None or isinstance(report.billed_ms, int)


def test_many_braces_take_no_long_time() -> None:
    """The work is bounded: a tail of braces is read in no time, not in the square of it."""
    parse_report('{"type":"platform.report",' * 160 + "{" * 100, ID)
