"""docs/reference.md names everything there is: commands, options, files, members, the library."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import click
import pytest

import fanout
from fanout import exit_codes
from fanout.cli import VERBS
from fanout.commands.options import OWN_OPTIONS
from fanout.config import Options
from fanout.emulator import EmulatorProcess
from fanout.model import STATUSES, AttemptEnd, ErrorDetail, Outcome, Record
from fanout.runs.result import STOPS
from fanout.stats import FailureCluster

from .pages import ROOT, named, sections

REFERENCE = ROOT / "docs" / "reference.md"
SHARED = "Options of a run"
# Of the library alone and for its own tests, or not yet in use.
NOT_PUBLIC = {"function", "seed", "is_local"}


def command_of(verb: str) -> click.Command:
    command: click.Command = importlib.import_module(f"fanout.cli.{verb}").command
    return command


def options_of(command: click.Command) -> list[str]:
    return [
        flag
        for param in command.params
        if isinstance(param, click.Option)
        for flag in (*param.opts, *param.secondary_opts)
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_command_is_documented(verb: str) -> None:
    """A command, or an option of one, that is not in the reference does not exist for its readers."""
    parts = sections(REFERENCE)
    options = options_of(command_of(verb))
    assert f"fanout {verb}" in parts, f"docs/reference.md has no section `### fanout {verb}`"
    part = parts[f"fanout {verb}"]
    if "](#options-of-a-run), and:" in part:
        part += parts[SHARED]
    part += parts["Options from elsewhere"]
    missing = [option for option in options if option not in named(part)]
    assert not missing, f"docs/reference.md does not say what these of `fanout {verb}` do: {missing}"


@pytest.mark.parametrize("verb", VERBS)
def test_no_option_is_documented_that_does_not_exist(verb: str) -> None:
    """An option that was renamed or removed leaves the reference, too."""
    options = set(options_of(command_of(verb)))
    table = re.findall(r"^\| (`-.*?) \|", sections(REFERENCE)[f"fanout {verb}"], re.MULTILINE)
    documented = {option for row in table for option in re.findall(r"`(--?[\w-]+)", row)}
    assert documented <= options


def test_no_shared_option_is_documented_that_does_not_exist() -> None:
    """The table of shared options says nothing that ``fanout run`` does not take."""
    table = re.findall(r"^\| (`-.*?) \|", sections(REFERENCE)[SHARED], re.MULTILINE)
    documented = {option for row in table for option in re.findall(r"`(--?[\w-]+)", row)}
    assert documented <= set(options_of(command_of("run")))


@pytest.mark.parametrize(("struct", "section"), [(Outcome, "Outcomes"), (ErrorDetail, "error")])
def test_every_member_of_an_outcome_is_documented(struct: type, section: str) -> None:
    """People's programs read these lines: each member has its meaning written down."""
    part = named(sections(REFERENCE)[section])
    assert set(struct.__struct_encode_fields__) <= part  # type: ignore[attr-defined]


def test_every_member_of_a_history_is_documented() -> None:
    """So has each attempt."""
    assert set(AttemptEnd.__struct_fields__) <= named(sections(REFERENCE)["history"])


def test_every_status_is_documented() -> None:
    """In the reference, and with its meaning in the README."""
    assert set(STATUSES) <= named(sections(REFERENCE)["Outcomes"])
    assert set(STATUSES) <= named(sections(ROOT / "README.md")["Outcomes"])


def test_every_exit_code_is_documented() -> None:
    """Scripts branch on them."""
    codes = {exit_codes.OK, exit_codes.FAILURES, *(code for _, code in STOPS.values())}
    documented = set(re.findall(r"^\| (\d+) \|", sections(REFERENCE)["Exit codes"], re.MULTILINE))
    assert {str(code) for code in codes} == documented


def test_every_member_of_run_json_and_of_the_summary_is_documented(
    my_function: EmulatorProcess, tmp_path: Path
) -> None:
    """Of a real run and its redrive: what is written there is explained in the reference."""
    out = tmp_path / "run"
    report = fanout.run("my-function", [b"1", b"{", "three"], out=out, concurrency=2)
    state = json.loads((out / "run.json").read_text())
    parts = sections(REFERENCE)
    in_state = named(parts["run.json"])
    members = set(state) | set(state["function_configuration"]) | set(state["limits"])
    members |= {"redrive", "is_planned", "records_planned", "size_bytes", "first_mib_sha256"}
    assert members <= in_state
    assert set(STOPS) <= in_state
    summary = report.to_dict()
    in_summary = named(parts["The summary as data"])
    assert set(summary) | set(summary["latency_ms"]) | set(summary["cost"]) <= in_summary
    assert set(FailureCluster.__struct_fields__) <= in_summary
    files = {path.name for path in out.iterdir()}
    assert files <= named(parts["The run directory"])


def test_every_name_of_the_library_is_documented() -> None:
    """What ``from fanout import …`` offers is in the reference."""
    part = named(sections(REFERENCE)["The library"])
    missing = [name for name in fanout.__all__ if f"fanout.{name}" not in part]
    assert not missing


def test_every_option_of_the_library_is_documented() -> None:
    """Options of a dispatcher and of a run; members of a record."""
    part = named(sections(REFERENCE)["The library"])
    options = (OWN_OPTIONS | Options.names()) - NOT_PUBLIC
    assert options <= part
    record = named(sections(REFERENCE)["fanout.Record"])
    assert all(any(member in name for name in record) for member in Record.__struct_fields__)


def test_every_attribute_of_a_report_is_documented(my_function: EmulatorProcess) -> None:
    """What ``fanout.run`` returns can be used without reading its source."""
    report = fanout.run("my-function", [1], concurrency=1)
    public = {name for name in vars(report) if not name.startswith("_")} - {"run", "stats"}
    public |= {name for name in vars(type(report)) if not name.startswith("_")} - {
        "from_stats",
        "invocation_type",
    }
    part = " ".join(named(sections(REFERENCE)["fanout.RunReport"]))
    missing = [name for name in sorted(public) if name not in part]
    assert not missing
