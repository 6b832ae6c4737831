"""``fanout run``: one call per record of an input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from fanout.cli.resume import may_have_run_option
from fanout.cli.run_display import watch
from fanout.cli.run_options import dashboard_option, default_names, given_options, queue_options, run_options
from fanout.cli.sections import SectionedCommand
from fanout.commands.options import RunOptions
from fanout.commands.run_request import RunRequest
from fanout.runs.audience import Audience

if TYPE_CHECKING:
    from fanout.report.summary import RunReport

_EXAMPLES = """
\b
Examples:
  1. Every line of a file, as fast as the account allows:
       fanout run my-function orders.jsonl
  2. At most 50 at once, retrying what passes, into a directory of your choice:
       fanout run my-function orders.jsonl -j 50 --retries 5 --out runs/orders
  3. From a pipe, outcomes to the next program:
       zcat events.gz | fanout run my-function - --out - | jq .status
  4. Stop when more than 2 % fail, or after an hour:
       fanout run my-function in.csv --tolerated-failure-percentage 2 --deadline 1h
  5. A handler on this machine, with no AWS account:
       fanout run demo in.jsonl --local handler.py:handler --local-concurrency 20

\b
Exit codes: 0 all succeeded, 1 some did not, 2 usage, 3 too many failures or
a --threshold, 4 fatal (access, credentials, no such function), 5 deadline,
spending cap or outage, 130 and 143 interrupted.
"""


@click.command(cls=SectionedCommand, epilog=_EXAMPLES, short_help="Invoke FUNCTION once per record of INPUT.")
@click.argument("function")
@click.argument("inputs", nargs=-1, type=click.Path(allow_dash=True, readable=False), metavar="[INPUT]...")
@click.option(
    "--out",
    metavar="DIR",
    help="The run directory (default runs/<function>-<UTC time>); - streams outcomes to stdout.",
)
@click.option("--take", type=click.IntRange(min=0), metavar="N", help="Only the first N records.")
@click.option("--enough", type=click.IntRange(min=1), metavar="N", help="Stop once N records have succeeded.")
@click.option("--name", metavar="NAME", help="What the run is called in `fanout runs`, and its directory.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label of the run (repeatable).")
@queue_options
@click.option("--collect", is_flag=True, help="For Event calls: collect the results in the same run.")
@click.option("--keep-order", is_flag=True, help="With --out -: outcomes in the order of the input.")
@click.option(
    "--spool/--no-spool", default=None, help="Keep standard input, so that the run can be resumed (default)."
)
@click.option(
    "--resume",
    "resumes",
    is_flag=True,
    help="Go on with the run that --out holds, if it is this one; begin it if there is none.",
)
@may_have_run_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read and check the whole input, count, and send nothing. --json counts on stdout.",
)
@click.option("--preflight", is_flag=True, help="Check permission and limits before the first real call.")
@dashboard_option
@run_options
def command(
    function: str,
    inputs: tuple[str, ...],
    out: str | None,
    take: int | None,
    collect: bool,
    keep_order: bool,
    spool: bool | None,
    resumes: bool,
    may_have_run: Literal["send", "skip"] | None,
    dry_run: bool,
    preflight: bool,
    dashboard: int | None,
    as_json: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Invoke FUNCTION once for each record of INPUT.

    INPUT is a path, a quoted pattern ('in/*.jsonl'), - (standard input), a URL, s3://BUCKET/KEY, a
    prefix s3://BUCKET/PREFIX/ (one call for each object), or a queue, sqs://NAME. Formats: .jsonl,
    .json, .csv, .tsv, .parquet; plain, .gz, .zst, .bz2 or .xz. Several are read in the order given.
    """
    if not inputs and chosen.get("payload") is None:
        inputs = ("-",)
    if inputs == ("-",) and sys.stdin.isatty():
        raise click.UsageError("no INPUT: give a file, a URL, or pipe records into it")
    is_stdout = out == "-"
    if keep_order and not is_stdout:
        raise click.UsageError("--keep-order goes with --out -")
    if as_json and is_stdout:
        raise click.UsageError("--json and --out - both want stdout: choose one")
    if resumes and (out is None or is_stdout):
        raise click.UsageError("--resume goes with --out DIR, so that the run is found again")
    if may_have_run is not None and not resumes:
        raise click.UsageError("--may-have-run goes with --resume: a new run has no such records")
    closed: frozenset[int] = click.get_current_context().obj or frozenset()
    if is_stdout and 1 in closed:
        raise click.UsageError("--out is -, and standard output is closed")
    if inputs == ("-",) and 0 in closed:
        raise click.UsageError("no INPUT, and standard input is closed: give a file or a URL")
    given = given_options(
        {
            **chosen,
            "take": take,
            "collect": collect or None,
            "keep_order": keep_order or None,
            "spool": spool,
            "preflight": preflight or None,
        }
    )
    defaults = default_names()

    if dry_run:
        for flag, is_given in (("--resume", resumes), ("--dashboard", dashboard is not None)):
            if is_given:
                raise click.UsageError(f"--dry-run sends nothing, and {flag} needs a run: leave one out")
        request = RunRequest(options=RunOptions.of(function, given), locations=inputs, defaults=defaults)
        _dry_run(request, quiet=quiet, as_json=as_json)

    async def begin(audience: Audience) -> RunReport:
        from fanout.commands.new_run import run as do_run
        from fanout.commands.run_request import default_directory

        named = default_directory(given.get("name") or function) if out is None else Path(out)
        directory = None if is_stdout else named
        request = RunRequest(
            options=RunOptions.of(function, given),
            locations=inputs,
            out=directory,
            to_stdout=is_stdout,
            defaults=defaults,
        )
        if resumes:
            from fanout.commands.restart import start_or_resume

            return await start_or_resume(request, audience, may_have_run=may_have_run)
        return await do_run(request, audience)

    watch(
        begin,
        quiet=quiet,
        as_json=as_json,
        dashboard=dashboard,
        title=function,
        run_dir=Path(out) if resumes and out is not None else None,
    )


def _dry_run(request: RunRequest, *, quiet: bool, as_json: bool) -> NoReturn:
    import json

    from fanout.commands.dry_runner import perform_dry_run
    from fanout.commands.event_loop import run_blocking

    audience = Audience(on_message=lambda text: click.echo(f"fanout: {text}", err=True))
    report = run_blocking(lambda: perform_dry_run(request, audience))
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    if not quiet:
        click.echo(report.render(), err=True)
    sys.exit(report.exit_code)
