"""Durable functions: each call under a name of the run's, so that a lost reply starts nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.emulator import EmulatorProcess
from fanout.errors import ConfigError
from fanout.journal import iter_outcomes
from tests.cli.running import environment


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An emulator with durable functions that lose replies or fail; unnamed calls would start again."""
    specs = ["name=lossy,lost_rate=0.3,runs_on=10ms,durable=30s", "name=stumbling,error_rate=0.4,durable=30s"]
    with EmulatorProcess(simulate=specs, extra=["--seed", "5", "--region", "us-east-1"]) as emulator:
        yield emulator.endpoint_url


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


def run(url: str, function: str, out: Path, count: int = 40, **options: Any) -> fanout.RunReport:
    return fanout.run(
        function, [{"n": n} for n in range(count)], out=out, endpoint_url=url, report=False,
        **{"durable": True, **options},
    )  # fmt: skip


def names(out: Path) -> dict[int, str]:
    """The name of each record's execution, from its ARN."""
    found = {}
    for outcome in iter_outcomes(out):
        assert outcome.durable_execution_arn is not None
        found[outcome.seq] = outcome.durable_execution_arn.split("/")[-2]
    return found


def test_a_lost_reply_leaves_no_unknown(url: str, tmp_path: Path) -> None:
    """It is sent again under the same name, which brings back what runs already."""
    out = tmp_path / "run"
    report = run(url, "lossy:$LATEST", out, retries=10)
    assert report.counts["succeeded"] == 40
    assert any(outcome.attempts > 1 for outcome in iter_outcomes(out))
    run_id = json.loads((out / "run.json").read_text())["id"]
    assert names(out) == {seq: f"{run_id}-{seq}-0-0" for seq in range(40)}


def test_a_repetition_after_a_function_error_has_a_name_of_its_own(url: str, tmp_path: Path) -> None:
    """Under the old one the failed execution would come back."""
    out = tmp_path / "run"
    run(url, "stumbling:$LATEST", out, retry_function_errors=8)
    repetitions = {name.rsplit("-", 1)[1] for name in names(out).values()}
    assert {"0", "1"} <= repetitions


def test_a_redrive_has_names_of_its_own(url: str, tmp_path: Path) -> None:
    """The generation stands in them."""
    from fanout.cli import main

    out = tmp_path / "run"
    report = run(url, "stumbling:$LATEST", out)
    assert report.counts["function_error"]
    failed = [outcome.seq for outcome in iter_outcomes(out) if not outcome.ok]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("sys.argv", ["fanout", "redrive", str(out), "-q", "--no-report"])
        main()
    again = names(out)
    assert {again[seq].rsplit("-", 2)[1] for seq in failed} == {"1"}


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        ("lossy", {}, "qualifier"),
        ("lossy:7", {}, "not known to be durable"),
        ("lossy:$LATEST", {"out": None}, "out"),
        ("lossy:$LATEST", {"stream": True}, "stream"),
        ("lossy:$LATEST", {"batch": 5}, "batch"),
        ("lossy:$LATEST", {"durable_expr": "n"}, "durable_name"),
    ],
)
def test_what_cannot_be_named_is_refused(
    url: str, tmp_path: Path, function: str, options: dict[str, Any], says: str
) -> None:
    """Before the first call; believed only where GetFunction shows it."""
    out = options.pop("out", tmp_path / "run")
    with pytest.raises(ConfigError, match=says):
        run(url, function, out, 3, **options)
    assert not (tmp_path / "run").exists()


def test_outcomes_of_event_calls_come_from_the_list_of_executions(url: str, tmp_path: Path) -> None:
    """Statuses for all, details of failures; no destination is needed."""
    out = tmp_path / "run"
    report = run(url, "stumbling:$LATEST", out, 30, invocation_type="Event", collect=True)
    counts = {status: count for status, count in report.counts.items() if count}
    assert set(counts) <= {"succeeded", "function_error"}
    assert sum(counts.values()) == 30
    for outcome in iter_outcomes(out):
        assert outcome.collected_at is not None
        assert outcome.ok or (outcome.error is not None and outcome.input == {"n": outcome.seq})
    assert len(list(iter_outcomes(out, latest=False))) == 60
