"""``fanout report``: what goes where, and one line for what a person can get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

import pytest
from click.testing import CliRunner, Result

from fanout.cli import cli
from fanout.errors import ConfigError, JournalError
from tests.report.realistic import write_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on disk."""
    path = tmp_path_factory.mktemp("run dir")
    write_run(path, 2000, limit=200, mean_s=0.1)
    return path


def report(*arguments: object) -> Result:
    """``fanout report`` with these arguments."""
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_summary_to_stdout(run_dir: Path) -> None:
    """Without options the summary is printed, without colours where there is no terminal."""
    done = report(run_dir)
    assert done.exit_code == 0
    assert done.stdout.startswith("nightly-orders: 2,000 records in ")
    assert f"fanout redrive {quote(str(run_dir))}" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_is_data(run_dir: Path) -> None:
    """--json prints one JSON value: the same figures."""
    data = json.loads(report(run_dir, "--json").stdout)
    assert data["records"] == 2000
    assert sum(data["counts"].values()) == 2000


def test_page_beside_the_journal(run_dir: Path) -> None:
    """--html writes report.html into the run directory and prints where it is."""
    done = report(run_dir, "--html")
    assert done.stdout == f"{run_dir / 'report.html'}\n"
    assert (run_dir / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_output_goes_where_it_is_told(run_dir: Path, tmp_path: Path) -> None:
    """-o takes the page, the summary or the JSON."""
    for name, option in (("page.html", ["--html"]), ("summary.txt", []), ("summary.json", ["--json"])):
        assert report(run_dir, *option, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "page.html").stat().st_size < 300_000
    assert (tmp_path / "summary.txt").read_text().startswith("nightly-orders")
    assert json.loads((tmp_path / "summary.json").read_text())["state"] == "finished"


def test_prices_of_ones_own(run_dir: Path, tmp_path: Path) -> None:
    """--prices charges by another table."""
    path = tmp_path / "prices.toml"
    path.write_text("[us-east-1]\nrequest = 1\ngb_s_x86_64 = 0\ngb_s_arm64 = 0\n")
    data = json.loads(report(run_dir, "--json", "--prices", path).stdout)
    assert data["cost"]["usd"] >= 1900


def test_no_run_there(tmp_path: Path) -> None:
    """A directory that is no run is an error of one line, which the command turns into exit code 2."""
    done = report(tmp_path)
    assert isinstance(done.exception, JournalError)
    assert "\n" not in str(done.exception)
    assert getattr(done.exception, "exit_code", 2) == 2


def test_prices_that_are_not_there(run_dir: Path, tmp_path: Path) -> None:
    """A missing table is named."""
    done = report(run_dir, "--prices", tmp_path / "none.toml")
    assert isinstance(done.exception, ConfigError)
    assert "none.toml" in str(done.exception)


def test_a_dash_is_standard_output(run_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page and the summary alike; no file gets that name."""
    monkeypatch.chdir(tmp_path)
    assert report(run_dir, "--html", "-o", "-").stdout.startswith("<!doctype html>")
    assert report(run_dir, "-o", "-", "--json").stdout == report(run_dir, "--json").stdout
    assert not Path("-").exists()


def test_one_form_at_a_time(run_dir: Path) -> None:
    """--html and --json together are a usage error."""
    assert report(run_dir, "--html", "--json").exit_code == 2


def test_a_place_that_cannot_be_written(run_dir: Path, tmp_path: Path) -> None:
    """A summary that cannot be written is a usage error that names the file."""
    done = report(run_dir, "-o", tmp_path / "absent" / "x")
    assert done.exit_code == 2
    assert "absent" in done.stderr


def test_help_has_numbered_examples() -> None:
    """--help shows how it is used."""
    assert "1. The summary of a run" in report("--help").stdout
