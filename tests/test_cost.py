"""Cost: sums are those of the price list, and what they rest on is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.cost import MOST_MEMORY_MB
from fanout.errors import ConfigError
from fanout.model import AttemptEnd, ErrorDetail, Outcome, Status
from fanout.report import CostEstimate, CostMeter, load_prices, meter_of

REQUEST = 0.20 / 1e6
X86 = 0.0000166667
ARM = 0.0000133334


def outcome(status: Status = "succeeded", **members: object) -> Outcome:
    """One record's end."""
    given: dict[str, object] = {"attempts": 1, "throttles": 0, "duration_ms": 999.2}
    return Outcome(seq=0, status=status, **(given | members))  # type: ignore[arg-type]


def estimate(*outcomes: Outcome, **settings: object) -> CostEstimate:
    """What these cost with 1,024 MB."""
    meter = CostMeter(**({"memory_mb": 1024} | settings))  # type: ignore[arg-type]
    for one in outcomes:
        meter.add(one)
    return meter.estimate()


def test_billed_time_is_charged_as_billed() -> None:
    """With a REPORT line the sum is exact: requests, plus billed time times memory."""
    found = estimate(outcome(billed_ms=1500, memory_mb=2048), outcome(billed_ms=1, memory_mb=128))
    assert found.usd == pytest.approx(2 * REQUEST + (3.0 + 0.001 * 0.125) * X86)
    assert (found.is_upper_bound, found.is_lower_bound) == (False, False)
    assert found.basis == "billed time of every execution"


def test_durations_are_an_upper_bound() -> None:
    """Without one, the round trip rounded up to a millisecond is charged, and said to be an upper bound."""
    found = estimate(outcome())
    assert found.usd == pytest.approx(REQUEST + 1.0 * X86)
    assert found.is_upper_bound
    assert str(found).startswith("at most $")


def test_some_report_lines_missing_is_an_upper_bound() -> None:
    """A log tail may lack its REPORT line: the sum is then a bound, and says of how many."""
    found = estimate(outcome(billed_ms=900, memory_mb=1024), outcome())
    assert found.is_upper_bound
    assert found.basis == "billed time of 1 executions, round-trip time of 1"


def test_arm_and_storage_have_their_own_prices() -> None:
    """The architecture's price is used, and ephemeral storage above 512 MB is charged."""
    found = estimate(outcome(billed_ms=1000, memory_mb=1024), architecture="arm64", storage_mb=512 + 1024)
    assert found.usd == pytest.approx(REQUEST + ARM + 0.0000000309)


def test_the_most_that_one_execution_can_cost() -> None:
    """So many seconds of its memory and storage; of the largest memory where it is not known."""
    meter = CostMeter(memory_mb=1024, storage_mb=512 + 1024)
    assert meter.most_usd(3.0) == pytest.approx(REQUEST + 3 * X86 + 3 * 0.0000000309)
    assert CostMeter().most_usd(3.0) == pytest.approx(REQUEST + 3 * MOST_MEMORY_MB / 1024 * X86)


def test_what_did_not_run_costs_nothing() -> None:
    """Rejected and undelivered records, and dry runs, are free; an unknown one may have run."""
    assert estimate(outcome("rejected"), outcome("undelivered"), outcome("valid")).usd == 0
    assert (estimate(outcome("unknown")).usd or 0) > 0


def test_a_function_that_no_price_fits_has_no_cost() -> None:
    """Managed instances and accelerators are charged otherwise: no figure is better than a wrong one."""
    found = estimate(outcome(billed_ms=1000, memory_mb=1024), unpriced="managed instances")
    assert (found.usd, str(found)) == (None, "not known")
    assert "managed instances" in found.basis


def test_earlier_attempts_that_ran_are_charged() -> None:
    """A function error that was tried again is paid for twice; a throttle or a refusal is not."""
    history = [
        AttemptEnd(verdict="function_error", at="", duration_ms=500),
        AttemptEnd(verdict="transient", at="", duration_ms=500),
        AttemptEnd(verdict="success", at="", duration_ms=1000),
    ]
    found = estimate(outcome(attempts=3, duration_ms=1000.0, history=history))
    assert found.usd == pytest.approx(2 * REQUEST + 1.5 * X86)


def test_events_are_a_lower_bound() -> None:
    """What an accepted event costs when it runs is not known here, and not guessed."""
    missing = outcome("unknown", error=ErrorDetail("ResultMissing"))
    lost = outcome("unknown", error=ErrorDetail("ReplyLost"))  # perhaps accepted
    found = estimate(outcome("accepted"), missing, lost, invocation_type="Event")
    assert found.usd == pytest.approx(2 * REQUEST)
    assert found.is_lower_bound
    assert str(found).startswith("at least")
    assert "not seen" in found.basis


def test_unknown_memory_is_a_lower_bound() -> None:
    """Where the function's configuration could not be read, only requests are charged, and that is said."""
    found = estimate(outcome(), memory_mb=None)
    assert found.usd == pytest.approx(REQUEST)
    assert found.is_lower_bound
    assert found.basis == "without the time of 1 executions: their memory size is not known"


def test_memory_is_learnt_from_report_lines() -> None:
    """A REPORT line tells the memory size also for later records that have none."""
    found = estimate(outcome(billed_ms=1000, memory_mb=1024), outcome(duration_ms=1000.0), memory_mb=None)
    assert found.usd == pytest.approx(2 * REQUEST + 2 * X86)
    assert found.is_upper_bound


def test_blocks_make_no_difference() -> None:
    """What ran before the memory was known is charged once it is, however the outcomes are put together."""
    outcomes = [outcome(), outcome(billed_ms=10, memory_mb=512), outcome()]
    meters = [CostMeter(memory_mb=None) for _ in range(2)]
    meters[0].add_many(outcomes)
    for one in outcomes:
        meters[1].add(one)
    assert meters[0].saved() == meters[1].saved()
    assert meters[0].estimate() == meters[1].estimate()


def test_other_regions_say_whose_prices() -> None:
    """A Region without prices is charged as us-east-1, in so many words."""
    found = estimate(outcome(), region="ap-east-1")
    assert "us-east-1 prices assumed for ap-east-1" in found.basis
    assert "assumed" not in estimate(outcome(), region="eu-west-1").basis


def test_prices_can_be_edited(tmp_path: Path) -> None:
    """A table of one's own replaces ours wholly."""
    path = tmp_path / "prices.toml"
    path.write_text("[mars-north-1]\nrequest = 1\ngb_s_x86_64 = 2\ngb_s_arm64 = 3\n")
    found = estimate(outcome(billed_ms=1000, memory_mb=1024), region="mars-north-1", prices=load_prices(path))
    assert found.usd == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "No such file"),
        ("[us-east-1]\nrequest = 'dear'\n", "request"),
        ("[us-east-1]\nrequest = 1\n", "gb_s_x86_64"),
        ("[us-east-1\n", "line 1"),
        ("", "no Region"),
    ],
)
def test_prices_that_are_none(tmp_path: Path, text: str | None, fault: str) -> None:
    """A table that cannot be used is one line that names the file and what is wrong with it."""
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=fault) as raised:
        load_prices(path)
    assert "prices.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_meter_from_run_json() -> None:
    """What run.json says of the function is what is charged; strange members are passed over."""
    run = {
        "region": "us-east-1",
        "function_configuration": {"memory_mb": 2048, "architecture": "arm64"},
        "options": {"invocation_type": "RequestResponse"},
    }
    meter = meter_of(run)
    meter.add(outcome(duration_ms=1000.0))
    assert meter.usd == pytest.approx(REQUEST + 2 * ARM)
    assert meter_of({"function_configuration": None, "options": None}).usd == 0
