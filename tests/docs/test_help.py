"""What a person sees who asks the command itself: help, examples, completion."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fanout.cli import VERBS, VERBS_BY_THEME, cli
from fanout.cli.sections import SECTIONS, SectionedCommand

from .pages import ROOT, blocks
from .test_pages import check_command

REFERENCE = ROOT / "docs" / "reference.md"


def help_of(verb: str, width: int = 100) -> str:
    result = CliRunner().invoke(cli, [verb, "--help"], terminal_width=width, max_content_width=width)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_numbered_examples_that_exist(verb: str) -> None:
    """Each help ends with examples, numbered from 1, whose commands and options there are."""
    examples = help_of(verb).partition("Examples:")[2]
    numbers = re.findall(r"^ +(\d)\. .+:$", examples, re.MULTILINE)
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert len(numbers) >= 2
    shown = re.findall(r"fanout ([a-z]+ .*)", examples)
    assert any(call.startswith(f"{verb} ") or call == verb for call in shown)
    for call in shown:
        check_command(shlex.split(re.split(r" \| | > ", call)[0]))


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_each_option_does(verb: str) -> None:
    """No option without a sentence, and none that is cut off at 80 columns."""
    help_of(verb)
    command: click.Command = importlib.import_module(f"fanout.cli.{verb}").command
    silent = [param.opts for param in command.params if isinstance(param, click.Option) and not param.help]
    assert not silent
    before, _, after = help_of(verb, 80).partition("Examples:")
    remark = re.split(r"\n\n", after.strip())[1:]  # what follows the examples, such as exit codes
    assert max(len(line) for line in "\n".join([before, *remark]).splitlines()) <= 80
    assert not re.search(r"^ {6,8}\S", after, re.MULTILINE)  # commands stand in one column in every help


def test_the_overview_names_every_command() -> None:
    """``fanout --help`` lists them with a line each, and loads none of them."""
    result = CliRunner().invoke(cli, ["--help"])
    for verb, summary in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(summary)}$", result.output, re.MULTILINE)
    for call in re.findall(r"^ +fanout ([a-z]+ .*)$", result.output, re.MULTILINE):
        check_command(shlex.split(call))
    assert re.findall(r"^ +(\d)\. ", result.output, re.MULTILINE) == ["1", "2", "3"]


def test_the_overview_groups_commands_by_theme() -> None:
    """Each heading stands over its own commands, in one column."""
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    for theme, verbs in VERBS_BY_THEME.items():
        section = shown.partition(f"\n{theme}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == list(verbs)
    columns = {shown.index(text) - shown.rindex("\n", 0, shown.index(text)) for text in VERBS.values()}
    assert len(columns) == 1


@pytest.mark.parametrize("verb", ["run", "resume", "redrive", "plan"])
def test_help_groups_options_by_theme(verb: str) -> None:
    """Every option stands once, in a section of its own theme, and all sections share their columns."""
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    shown = help_of(verb, 80)
    sections = re.findall(r"^(\w[\w ]*):\n((?:  .*\n)+)", shown, re.MULTILINE)
    by_heading = {heading: text for heading, text in sections if heading in {*SECTIONS, "Other"}}
    assert len(by_heading) >= 9
    assert re.findall(r"^  (?:-h, )?(--[\w-]+)", by_heading["Other"], re.MULTILINE) == ["--config", "--help"]
    left_out = command.left_out() if isinstance(command, SectionedCommand) else frozenset()
    options = [param for param in command.params if isinstance(param, click.Option)]
    for option in options:
        if option.name != "config" and option.name not in left_out:
            places = [heading for heading, names in SECTIONS.items() if option.name in names]
            assert len(places) == 1, f"--{option.name} has no section: give it one in fanout/cli/sections.py"
            assert re.search(rf"^  .*{re.escape(option.opts[-1])}\b", by_heading[places[0]], re.MULTILINE)
    texts = re.findall(r"^  -.*?  +(?=\S)", "".join(by_heading.values()), re.MULTILINE)
    assert len({len(text) for text in texts}) == 1


def test_no_section_names_an_option_that_does_not_exist() -> None:
    """An option that was renamed leaves the sections, too."""
    there_are = {
        param.name
        for verb in ("run", "resume", "redrive", "plan")
        for param in importlib.import_module(f"fanout.cli.{verb}").command.params
    }
    assert {name for names in SECTIONS.values() for name in names} <= there_are


COMPLETIONS = {
    "fanout re": "resume redrive report",
    "fanout run --retry": "--retry-function-errors --retry-on",
    "fanout run f in.jsonl --transport ''": "direct sdk",
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(tmp_path: Path) -> None:
    """The line that the reference gives for bash completes commands, options and values."""
    (line,) = (
        line
        for block in blocks(REFERENCE, "sh")
        for line in block.text.splitlines()
        if "completion bash" in line
    )
    (tmp_path / "fanout").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fanout "$@"\n')
    (tmp_path / "fanout").chmod(0o755)
    script = [line]
    for words in COMPLETIONS:
        script += [f"COMP_WORDS=({words})", "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))", "COMPREPLY=()"]
        script += ["_fanout_completion fanout", 'echo "${COMPREPLY[*]}"']
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == list(COMPLETIONS.values())


@pytest.mark.parametrize("words", [["run", "f", ""], ["plan", "f", ""], ["resume", ""], ["report", ""]])
def test_files_are_completed_where_a_path_is_wanted(words: list[str]) -> None:
    """INPUT and RUN_DIR complete as file names."""
    from click.shell_completion import ShellComplete

    complete = ShellComplete(cli, {}, "fanout", "_FANOUT_COMPLETE")
    assert [item.type for item in complete.get_completions(words[:-1], words[-1])] == ["file"]


def test_a_verb_on_a_run_names_no_option_that_it_would_refuse() -> None:
    """What a run sends is settled; ``resume`` refuses a change of it, and its help does not offer one."""
    for verb in ("resume", "redrive"):
        told = help_of(verb)
        assert "--concurrency" in told
        for option in ("--select", "--payload", "--format", "--batch-shape", "--durable-name", "--tenant-id"):
            assert option not in told, (verb, option)
