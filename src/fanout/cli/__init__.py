"""The command: finds the file of a verb, and turns errors into one line and an exit code.

Each verb lives in a module of its own that defines ``command`` (a click command); it is imported
only when it is asked for, so that ``fanout --help`` and a run's first call come quickly.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import NoReturn

import click

from fanout import exit_codes
from fanout.cli.config_file import add_config_option
from fanout.early_signals import hand_back
from fanout.errors import FanoutError, FatalRefusal, is_short_of_memory
from fanout.standard_streams import ReaderGone, guard_streams, open_missing_streams

VERBS_BY_THEME = {
    "Runs": {
        "run": "Invoke FUNCTION once per record of INPUT.",
        "resume": "Go on where a run stopped.",
        "redrive": "Send the failed records of a run again.",
        "plan": "Send a few records, and project time and cost.",
        "invoke": "Make one call, as `aws lambda invoke`.",
    },
    "During a run": {
        "watch": "Follow a run from another terminal.",
        "tune": "Change a run while it goes on.",
    },
    "After a run": {
        "runs": "List runs, with state and counts.",
        "report": "Show the results of a run; --html for a page.",
        "export": "Write inputs, outputs or outcomes of a run, by status.",
        "collect": "Collect the results of Event calls.",
    },
    "Account": {
        "limits": "Show what the account allows FUNCTION, and why.",
        "functions": "List the functions of the account.",
    },
    "This machine": {
        "emulate": "Run Lambda on this machine.",
        "completion": "Print a script that completes commands in a shell.",
    },
}
_HEED_SIGNALS = ("run", "resume", "redrive", "plan", "collect")  # as long as they are there
VERBS = {verb: summary for verbs in VERBS_BY_THEME.values() for verb, summary in verbs.items()}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            from difflib import get_close_matches

            near = get_close_matches(cmd_name, VERBS, n=1)
            hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(VERBS)}"
            raise click.UsageError(f"no command {cmd_name!r}{hint}", ctx)
        module = importlib.import_module(f"fanout.cli.{cmd_name}")
        command: click.Command = module.command
        _collect_garbage_from_now_on()
        if cmd_name not in _HEED_SIGNALS:
            hand_back()
        return add_config_option(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        widest = max(map(len, VERBS))
        for theme, verbs in VERBS_BY_THEME.items():
            with formatter.section(theme):
                formatter.write_dl([(verb.ljust(widest), summary) for verb, summary in verbs.items()])


_EXAMPLES = """
\b
Examples:
  1. A handler on this machine, with no AWS account:
       fanout run demo in.jsonl --local handler.py:handler
  2. What the account allows; a canary; then all of it:
       fanout limits my-function
       fanout plan my-function in.jsonl --out runs/today
       fanout run my-function in.jsonl --out runs/today
  3. What became of it, and the failed records once more:
       fanout report runs/today
       fanout redrive runs/today
"""


@click.group(
    cls=_LazyGroup,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FANOUT"},
)
@click.version_option(package_name="lambda-fanout", prog_name="fanout")
def cli() -> None:
    """Invoke an AWS Lambda function once per record, and know what became of every one."""


def main() -> NoReturn:
    """Run the command and exit; errors a user can cause are one line on stderr, never a traceback."""
    if os.getpid() == 1:
        from fanout.first_process import go_on_in_child

        go_on_in_child()
    closed = open_missing_streams()
    guard_streams()
    try:
        code = cli.main(prog_name="fanout", standalone_mode=False, obj=closed)
        sys.stdout.flush()
    except click.ClickException as error:
        _end(_in_one_line(error), error.exit_code)
    except ReaderGone:
        sys.exit(exit_codes.CLOSED_PIPE)
    except FatalRefusal as error:
        _end(str(error), exit_codes.FATAL)
    except FanoutError as error:
        _end(str(error), exit_codes.USAGE)
    except (click.Abort, KeyboardInterrupt):
        _end("interrupted", exit_codes.SIGINT)
    except Exception as error:
        if not is_short_of_memory(error):
            raise
        _end("not enough memory, or threads: give the process more", exit_codes.USAGE)
    finally:
        gc.freeze()  # and so is looking through them once more at the very end
    sys.exit(code if isinstance(code, int) else 0)


def _collect_garbage_from_now_on() -> None:
    """In the command's own process, but for what was imported: a hundred thousand objects that stay."""
    if gc.isenabled():
        return
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def _end(message: str, code: int) -> NoReturn:
    one_line = message.strip().replace("\r", "\\r").replace("\n", "\\n")  # as a name may hold
    click.echo(f"fanout: {one_line}", err=True)
    sys.exit(code)


def _in_one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return message if context is None else f"{message} (see {context.command_path} --help)"
