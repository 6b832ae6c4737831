"""What a simulation's specification means, and that its draws are what it says."""

from __future__ import annotations

import json
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.emulator.lifecycle import Window
from fanout.emulator.simulation import Dice, Fault
from fanout.emulator.specification import (
    parse_duration,
    parse_latency,
    parse_simulation,
    parse_size,
)
from fanout.errors import EmulatorError


def test_a_specification_is_read_member_by_member() -> None:
    """Every key lands in its member, with its unit."""
    simulation = parse_simulation(
        "name=orders,latency=100ms,init=1s,error_rate=1%,error_type=KeyError,error_message=no such key,"
        "lost_rate=0.1,runs_on=3s,reset_rate=0.2,status_503_rate=0.05,concurrency=7,timeout=2m,memory=512,"
        "versions=2,alias=live:2,chunks=3"
    )
    assert simulation.name == "orders"
    assert simulation.latency(0.3) == 0.1
    assert (simulation.init_s, simulation.runs_on_s, simulation.timeout_s) == (1.0, 3.0, 120.0)
    assert (simulation.error_rate, simulation.lost_rate, simulation.reset_rate) == (0.01, 0.1, 0.2)
    assert simulation.status_rates == {503: 0.05}
    assert (simulation.concurrency, simulation.memory_mb, simulation.chunks) == (7, 512, 3)
    assert simulation.error_message == "no such key"
    assert simulation.aliases == {"live": "2"}


def test_states_and_events_are_read_too() -> None:
    """Windows, durations in hours and days, destinations."""
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    simulation = parse_simulation(
        f"pending=8s,outage=10s@5s+1m@2m,refuse=1s@0s,durable=365d,retention=1h,poison_rate=1%,"
        f"on_success={queue},dead_letter={queue},event_retries=0,event_age=6h"
    )
    assert (simulation.pending_s, simulation.retention_s) == (8.0, 3600.0)
    assert simulation.outages == (Window(5, 10), Window(120, 60))
    assert simulation.refusals == (Window(0, 1),)
    assert simulation.durable_s == 365 * 86_400
    assert (simulation.on_success, simulation.on_failure, simulation.dead_letter) == (queue, "", queue)
    assert (simulation.event_retries, simulation.event_age_s) == (0, 21_600.0)


def test_json_output_may_hold_commas() -> None:
    """Commas inside brackets and quotes do not end a part."""
    text = '{"a":[1,2],"b":"x,y=(z"}'
    simulation = parse_simulation(f"output={text},latency=uniform(1ms,2ms),name=f")
    assert simulation.output is not None
    assert json.loads(simulation.output) == json.loads(text)
    assert simulation.name == "f"


def test_response_size_is_exact() -> None:
    """The output has as many bytes as asked, and is JSON."""
    output = parse_simulation("response_size=10KB").output
    assert output is not None
    assert len(output) == 10_240
    assert len(json.loads(output)) == 10_238


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("latency=fast", "latency=fast"),
        ("latency", "write key=value"),
        ("speed=1", "known keys"),
        ("error_rate=2", "a rate is 0 to 1"),
        ("error_rate=0.6,lost_rate=0.6", "add up to more than 1"),
        ("concurrency=-1", "must not be negative"),
        ("latency=lognormal(2s,1s)", "smaller"),
        ("latency=gamma(2s,1s)", "lognormal"),
        ("output={", "output is JSON"),
        ("alias=live", "alias=live:2"),
        ("status_200_rate=1", "known keys"),
        ("response_size=big", "not a size"),
        ("outage=5s", "LENGTH@START"),
        ("durable=2000d", "1s to 366d"),
        ("retention=91d", "at most 90d"),
        ("on_failure=arn:aws:s3:::bucket", "ARN of an SQS queue"),
        ("event_retries=3", "0, 1 or 2"),
        ("event_age=5s", "60s to 6h"),
        ("poison_rate=2", "a rate is 0 to 1"),
    ],
)
def test_a_wrong_part_is_named(text: str, part: str) -> None:
    """The error is one line that names the option and the part."""
    with pytest.raises(EmulatorError) as caught:
        parse_simulation(text)
    assert part in str(caught.value)
    assert "--simulate" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lognormal_has_the_median_and_the_tail_that_were_asked_for() -> None:
    """lognormal(100ms,2s): half below 100 ms, one in a hundred above 2 s."""
    dice = Dice(parse_simulation("latency=lognormal(100ms,2s)"), 1)
    latencies = sorted(dice.draw().latency_s for _ in range(20_000))
    assert statistics.median(latencies) == pytest.approx(0.1, rel=0.05)
    assert latencies[int(0.99 * len(latencies))] == pytest.approx(2.0, rel=0.15)


def test_faults_come_at_their_rates() -> None:
    """Each fault has its share; the rest goes well."""
    spec = "error_rate=0.1,lost_rate=0.2,reset_rate=0.05,throttle_rate=0.05,status_503_rate=0.15"
    dice = Dice(parse_simulation(spec), 0)
    draws = [dice.draw() for _ in range(20_000)]
    shares = {fault: sum(draw.fault is fault for draw in draws) / len(draws) for fault in Fault}
    expected = {Fault.NONE: 0.45, Fault.ERROR: 0.1, Fault.LOST: 0.2, Fault.RESET: 0.05}
    expected |= {Fault.THROTTLED: 0.05, Fault.STATUS: 0.15}
    for fault, share in expected.items():
        assert shares[fault] == pytest.approx(share, abs=0.02)
    assert {draw.status for draw in draws if draw.fault is Fault.STATUS} == {503}


@given(st.integers(), st.floats(0, 1))
def test_the_same_seed_gives_the_same_calls(seed: int, rate: float) -> None:
    """Draws depend on seed and name alone, and a fault's rate does not move the latencies."""
    plain = Dice(parse_simulation("latency=uniform(1ms,9ms)"), seed)
    again = Dice(parse_simulation("latency=uniform(1ms,9ms)"), seed)
    faulty = Dice(parse_simulation(f"latency=uniform(1ms,9ms),error_rate={rate:.6f}"), seed)
    for _ in range(20):
        draw = plain.draw()
        assert draw == again.draw()
        assert draw.latency_s == faulty.draw().latency_s


@given(st.floats(0.0, 1.0))
def test_latencies_stay_in_their_range(chance: float) -> None:
    """Any random number gives a latency that can be slept."""
    assert 0.05 <= parse_latency("uniform(50ms,150ms)")(chance) <= 0.15
    assert 0 < parse_latency("lognormal(100ms,2s)")(chance) < float("inf")


def test_units() -> None:
    """Durations and sizes have the units that their letters say."""
    assert [parse_duration(text) for text in ("250us", "5ms", "1.5s", "2m", "3")] == [
        0.00025,
        0.005,
        1.5,
        120,
        3,
    ]
    assert [parse_size(text) for text in ("7", "7b", "2KB", "1mb")] == [7, 7, 2_048, 1_048_576]
