"""Every parameter of a call, of a run and of a record: where it goes, and how a bad one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout import Record
from fanout.emulator import EmulatorProcess
from tests.cli.running import Shell

BOTH = pytest.mark.parametrize("transport", ["direct", "sdk"])
ASK: dict[str, Any] = {"do": "context"}
REFUSED = [
    Record(ASK, qualifier="not there"),
    Record(ASK, qualifier=""),
    Record(ASK, qualifier=["live"]),  # type: ignore[arg-type]
    Record(ASK, tenant_id="*"),
    Record(ASK, durable_name="two words"),
    Record(ASK, client_context=[1]),  # type: ignore[arg-type]
    Record(ASK, client_context="no JSON"),
    Record(ASK, client_context={"custom": "x" * 3000}),
]
TAKEN = [
    Record(ASK, key="named", client_context={"custom": {"name": "Zoë"}}),
    Record(ASK, qualifier="$LATEST"),
    Record(ASK, tenant_id="tenant-1"),
    Record(ASK, durable_name="order-17"),
    Record(ASK, key=17, client_context={1: 2, "custom": {}}),  # type: ignore[arg-type, dict-item]
]


@BOTH
def test_a_record_brings_parameters_of_its_own(
    at_emulator: EmulatorProcess, tmp_path: Path, transport: str
) -> None:
    """They reach the function; a bad one rejects its record alone, before and after a redrive."""
    out = tmp_path / "run"
    missing = Record(ASK, qualifier="nobody")
    report = fanout.run("app", [*TAKEN, *REFUSED, missing, {"n": 1}], out=out, transport=transport)
    assert (report.state, report.counts["succeeded"], report.counts["rejected"]) == ("finished", 6, 9)
    lines = [json.loads(line) for line in (out / "outcomes.jsonl").read_bytes().splitlines()]
    outcomes = {line["seq"]: line for line in lines}
    assert (outcomes[0]["key"], outcomes[0]["output"]["custom"]) == ("named", {"name": "Zoë"})
    assert outcomes[1]["output"]["arn"].endswith(":app:$LATEST")
    assert outcomes[2]["output"]["tenant"] == "tenant-1"
    assert "durable_execution_arn" not in outcomes[3]  # the function is not durable
    assert outcomes[4]["key"] == "17"
    for seq in range(len(TAKEN), len(TAKEN) + len(REFUSED)):
        assert (outcomes[seq]["attempts"], outcomes[seq]["error"]["type"]) == (0, "InvalidParameter")
    assert outcomes[13]["error"]["type"] == "ResourceNotFoundException"


def test_a_redrive_never_drops_a_parameter_that_was_refused(
    user: Shell, at_emulator: EmulatorProcess
) -> None:
    """Sent without it, a record would be another call than was asked for."""
    fanout.run("app", REFUSED, out=user.directory / "run")
    done = user.run("redrive", "run", "--json")
    assert (done.code, json.loads(done.out)["counts"]["rejected"]) == (1, len(REFUSED))


@BOTH
def test_a_runs_own_parameters_reach_the_function(user: Shell, transport: str) -> None:
    """Client context and tenant; a bad durable name rejects its record."""
    (user.directory / "in.jsonl").write_text(
        '{"do":"context","id":"a-1"}\n{"do":"context","id":"a b"}\n{"do":"context"}\n'
    )
    words = ["--client-context", '{"custom":{"q":1}}', "--tenant-id", "t", "--transport", transport]
    done = user.run("run", "app", "in.jsonl", "--durable-name", "id", "--out", "-", "--keep-order", *words)
    named, refused, unnamed = done.lines
    assert done.code == 1
    assert (named["output"]["custom"], named["output"]["tenant"]) == ({"q": 1}, "t")
    assert named["status"] == "succeeded"
    assert (refused["status"], refused["durable_name"]) == ("rejected", "a b")
    assert "durable_name is 'a b'" in refused["error"]["message"]
    assert unnamed["status"] == "succeeded"


@BOTH
def test_a_durable_execution_is_named(at_emulator: EmulatorProcess, tmp_path: Path, transport: str) -> None:
    """The name reaches a durable function; its execution's ARN stands in the outcome."""
    records = [Record({"n": 1}, durable_name=f"order-17-{transport}")]
    fanout.run("durable:$LATEST", records, out=tmp_path / "run", transport=transport)
    (line,) = (tmp_path / "run" / "outcomes.jsonl").read_bytes().splitlines()
    assert f"/durable-execution/order-17-{transport}/" in json.loads(line)["durable_execution_arn"]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"invocation_type": "Event", "log_type": "Tail"}, "log_type 'Tail' needs a synchronous call"),
        ({"invocation_type": "Event", "log_type": "OnError"}, "log_type 'OnError' needs a synchronous call"),
        ({"invocation_type": "Event", "client_context": "{}"}, "client_context needs a synchronous call"),
        ({"invocation_type": "DryRun", "durable_expr": "id"}, "durable_name cannot go with .* DryRun"),
        ({"stream": True, "durable_expr": "id"}, "durable_name cannot go with stream"),
        ({"stream": True, "invocation_type": "Event"}, "stream needs .* RequestResponse"),
        ({"client_context": "[1]"}, "client_context is .* a JSON object"),
        ({"client_context": {"a": "x" * 3000}}, "4,012 bytes of base64; Lambda takes 3,583"),
        ({"tenant_id": "*"}, "tenant_id is .* letters"),
        ({"qualifier": "a b"}, "qualifier is .* an alias"),
    ],
)
def test_a_runs_own_bad_parameter_is_refused_at_once(
    tmp_path: Path, options: dict[str, Any], rule: str
) -> None:
    """Before anything is opened, sent or left behind; the message names the rule."""
    with pytest.raises(fanout.ConfigError, match=rule):
        fanout.run("app", [1], out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_bad_parameter_is_a_usage_error_of_the_command(user: Shell) -> None:
    """Exit code 2, one line, nothing left behind."""
    path = user.write("in.jsonl", 1)
    done = user.run("run", "app", path, "--out", "run", "--invocation-type", "DryRun", "--durable-name", "id")
    done.assert_one_line(2, "durable_name cannot go with invocation_type DryRun")
    assert not (user.directory / "run").exists()


def test_a_function_has_many_names(at_emulator: EmulatorProcess, tmp_path: Path) -> None:
    """An alias, a partial ARN, an ARN of another Region (which is called); two qualifiers are too many."""
    for number, (name, version, region) in enumerate(
        [
            ("sim:live", "2", "us-east-1"),
            ("123456789012:function:sim:live", "2", "us-east-1"),
            ("arn:aws:lambda:eu-central-1:123456789012:function:sim", "$LATEST", "eu-central-1"),
        ]
    ):
        outcomes: list[fanout.Outcome] = []
        out = tmp_path / f"run{number}"
        fanout.run(name, [1], out=out, on_outcome=outcomes.append, report=False)
        assert outcomes[0].executed_version == version
        assert json.loads((out / "run.json").read_text())["region"] == region
    with pytest.raises(fanout.ConfigError, match="qualifier is given twice: 'live'"):
        fanout.run("sim:live", [1], qualifier="1")
