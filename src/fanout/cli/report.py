"""``fanout report``: what became of a run, as a summary, as JSON, or as a page."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanout.cli.run_dir_argument import run_dir_argument

if TYPE_CHECKING:
    from fanout.report import RunReport

_EPILOG = """\b
Examples:
  1. The summary of a run, on the terminal:
       fanout report runs/nightly
  2. The page, written to runs/nightly/report.html:
       fanout report runs/nightly --html
  3. The page, somewhere else, with prices of your own:
       fanout report runs/nightly --html -o /tmp/page.html --prices prices.toml
  4. One figure of it, by program:
       fanout report runs/nightly --json | jq .latency_ms.p99
"""


@click.command("report", epilog=_EPILOG)
@run_dir_argument()
@click.option("--html", "as_html", is_flag=True, help="Write a page that opens offline, and print its path.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write to FILE; the page goes to RUN_DIR/report.html without it.",
)
@click.option(
    "--prices",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A table of prices, as TOML by Region; without it, AWS's for four Regions.",
)
def command(run_dir: Path, as_html: bool, as_json: bool, output: Path | None, prices: Path | None) -> None:
    """Show the results of the run in RUN_DIR, or write them as a page with --html.

    Reads the journal once, in memory that does not grow with it. A run that is going on, or was
    interrupted, is shown as far as it came.
    """
    if as_html and as_json:
        raise click.UsageError("--html and --json exclude each other: give one of them")
    from fanout.report import RunReport, load_prices

    report = RunReport.from_run_dir(run_dir, prices=None if prices is None else load_prices(prices))
    is_to_stdout = output == Path("-")  # as everywhere
    if as_html and is_to_stdout:
        from fanout.report.html import page

        click.echo(page(report).encode("utf-8", "replace"), nl=False)
        return
    if as_html:
        path = output or run_dir / "report.html"
        report.write_html(path)
        click.echo(os.fspath(path))
        return
    text = _json(report.to_dict()) if as_json else summary_text(report, to_file=output is not None)
    if output is None or is_to_stdout:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{output}: {error.strerror}; give a place that can be written") from error


def _json(summary: dict[str, object]) -> str:
    from fanout.payload import indented

    return indented(summary).decode() + "\n"


def summary_text(report: RunReport, *, to_file: bool = False) -> str:
    """The summary as stdout shows it: as wide as the terminal, in its colours, plain elsewhere."""
    is_terminal = sys.stdout.isatty() and not to_file
    color = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return report.render(shutil.get_terminal_size().columns if is_terminal else 100, color=color)
