"""``fanout limits``, as a person or a script runs it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.forks import run_command
from tests.cli.inside import Inside


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(
        simulate=["name=orders,concurrency=50,timeout=30s,versions=2,alias=live:2", "name=mails"]
    ) as running:
        yield running


def limits(
    emulator: EmulatorProcess, *arguments: str, key: str | None = "AKID"
) -> subprocess.CompletedProcess[str]:
    """Run the installed command, with nothing of this machine's AWS settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1", "HOME": "/nonexistent"}
    if key is not None:
        environment |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "secret"}
    done = run_command("limits", *arguments, "--endpoint-url", emulator.endpoint_url, env=environment)
    return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_each_figure_has_a_value_and_a_source(emulator: EmulatorProcess) -> None:
    """Piped, it is one figure a line, tab-separated, and the budget last."""
    done = limits(emulator, "orders")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert done.stderr == ""
    assert ["reserved concurrency", "50", "GetFunction"] in lines
    assert ["timeout (s)", "30", "GetFunction"] in lines
    assert ["requests per second", "500", "10 x the reserved concurrency"] in lines
    assert lines[-1] == ["budget (calls in flight)", "50", "reserved concurrency of the function"]


def test_json_is_for_scripts(emulator: EmulatorProcess) -> None:
    """One object: the budget, why, and the figures that it follows from."""
    told = json.loads(limits(emulator, "mails", "--concurrency", "50%", "--json").stdout)
    assert told["account"] == 1_000
    assert told["unreserved"] == 950
    assert (told["allowed"], told["budget"], told["cause"]) == (760, 380, "account")
    assert {"name": "unreserved pool", "value": 950, "source": "GetAccountSettings"} in told["figures"]


def test_a_number_above_what_is_allowed_is_told(emulator: EmulatorProcess) -> None:
    """The table says that it was bounded, and by what."""
    assert "bounded by the 50 that Lambda allows" in limits(emulator, "orders:live", "-j", "80").stdout


def test_denied_apis_are_no_failure(emulator: EmulatorProcess) -> None:
    """The assumption is stated, with the API that was denied."""
    emulator.set_limits(deny=["GetFunction", "GetAccountSettings"])
    try:
        done = limits(emulator, "orders")
    finally:
        emulator.set_limits(deny=[])
    assert done.returncode == 0
    assert "assumed: 80% of the default quota of 1,000; AccessDenied for GetAccountSettings" in done.stdout


def test_a_missing_function_is_one_line_and_exit_4(emulator: EmulatorProcess) -> None:
    """The name, what is wrong with it, and no traceback."""
    done = limits(emulator, "nothing")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "fanout: nothing: no such function in this account and Region\n"


def test_missing_credentials_are_one_line_and_exit_4(emulator: EmulatorProcess) -> None:
    """What to do about it stands in the line."""
    done = limits(emulator, "orders", key=None)
    assert done.returncode == 4
    assert done.stderr.startswith("fanout: no AWS credentials found")
    assert len(done.stderr.splitlines()) == 1


def test_an_impossible_concurrency_is_a_usage_error(emulator: EmulatorProcess) -> None:
    """Exit 2, and what is allowed."""
    done = limits(emulator, "orders", "-j", "many")
    assert done.returncode == 2
    assert "concurrency is 'many': give a whole number from 1" in done.stderr


def test_event_calls_have_their_lines_and_what_is_left_is_shown_when_asked_for(
    emulator: EmulatorProcess,
) -> None:
    """Retries, age and destinations by Lambda's defaults; what is reserved cannot be left to others."""
    lines = [line.split("\t") for line in limits(emulator, "orders", "--leave", "20%").stdout.splitlines()]
    shown = {name: (value, source) for name, value, source in lines}
    assert shown["Event: more tries"] == ("2", "GetFunctionEventInvokeConfig: Lambda's default")
    assert shown["Event: greatest age (s)"][0] == "21,600"
    assert shown["Event: failures to"][0] == "-"
    assert shown["left for a run"][0] == "-"
    assert "no meaning with reserved concurrency" in shown["left for a run"][1]


def test_a_region_that_does_not_exist_is_asked_about() -> None:
    """One line and exit 4: the name of its endpoint has no address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "HOME": "/nonexistent"}
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        environment.pop(name, None)
    done = run_command("limits", "orders", "--region", "us-esat-1", env=environment)
    assert done.returncode == 4
    assert done.stdout == b""
    assert done.stderr.endswith(b"is the Region 'us-esat-1' right?\n")
    assert done.stderr.count(b"\n") == 1


def test_a_name_that_no_function_has_is_refused(emulator: EmulatorProcess) -> None:
    """Exit 2 and one line, as a run of it: no figures of the account."""
    done = limits(emulator, "bad name")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "function is 'bad name'" in done.stderr


def test_what_cannot_be_read_is_said_where_its_figure_would_stand(
    emulator: EmulatorProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """CloudWatch for what others use, the configuration of Event calls, and at last the account's limit."""
    command = Inside(tmp_path, emulator, monkeypatch, capfd)
    answers: list[tuple[float, int] | str] = ["AccessDenied for GetMetricData", (300.0, 1_795_248_000)]

    async def claimed(_: object) -> tuple[float, int] | str:
        return answers.pop()

    def shown() -> dict[str, tuple[str, str]]:
        lines = command.run("limits", "mails", "--leave", "100").out.splitlines()
        return {name: (value, source) for name, value, source in (line.split("\t") for line in lines)}

    monkeypatch.setattr("fanout.aws.metrics.claimed_concurrency", claimed)
    found = shown()
    assert (found["claimed concurrency"][0], found["left for a run"][0]) == ("300", "600")
    emulator.set_limits(deny=["GetFunctionEventInvokeConfig"])
    try:
        found = shown()
        assert found["claimed concurrency"] == ("-", "unknown, taken for 0: AccessDenied for GetMetricData")
        assert found["left for a run"][0] == "900"
        assert found["Event calls"][1].startswith("unknown: ")
        emulator.set_limits(deny=["GetAccountSettings"])
        assert shown()["left for a run"][1] == "unknown: the account's concurrency cannot be read"
    finally:
        emulator.set_limits(deny=[])
