"""The page: one file, whole, light, offline and inert, with the figures of run.json; seen by a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.errors import ConfigError
from fanout.model import ErrorDetail, Outcome
from fanout.report import RunReport
from fanout.report.html import page
from fanout.stats import Stats
from tests.report.realistic import HOSTILE, write_run

CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FIGURES = {"flight", "throughput", "latency", "histogram", "executions", "throttles"}


class Page(HTMLParser):
    """What a page says to a program that reads it: figures, elements, text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, float] = {}
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.links: list[str] = []
        self.hover: dict[str, Any] = {}
        self.scripts: list[str] = []
        self._plot = ""
        self._is_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        found = dict(attrs)
        self.tags.append(tag)
        self.handlers += [name for name in found if name.startswith("on")]
        self.links += [value for name in ("src", "href") if (value := found.get(name))]
        if found.get("data-figure"):
            self.figures[str(found["data-figure"])] = float(str(found["data-value"]))
        if str(found.get("id")).startswith("plot-"):
            self._plot = str(found["id"])[5:]
        if tag == "svg" and found.get("aria-label"):
            self.hover[self._plot] = json.loads(str(found["data-hover"]))
        self._is_script = tag == "script"
        if self._is_script:
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        """Note what scripts hold."""
        if self._is_script:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        """A script ends."""
        self._is_script = False


class Run(NamedTuple):
    """A run on disk and its page."""

    said: dict[str, Any]
    report: RunReport
    path: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with all kinds of failures, throttles and cold starts."""
    run_dir = tmp_path_factory.mktemp("run")
    said = write_run(run_dir, 20_000, limit=900, mean_s=0.5)
    report = RunReport.from_run_dir(run_dir)
    path = run_dir / "report.html"
    report.write_html(path)
    return Run(said, report, path)


def browse(path: Path, profile: Path, *arguments: str) -> tuple[str, list[str]]:
    """The document after its scripts have run, and the lines on its console; those of Chromium's own pages,
    which tell of a slow network where there is none, are left out."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"),
            *("--virtual-time-budget=5000", "--dump-dom", f"--user-data-dir={profile}", *arguments),
            path.as_uri(),
        ],
        capture_output=True,
        env=os.environ | {"TMPDIR": "/tmp"},  # for its socket, whose name must be short
        timeout=200,
        check=True,
    )
    lines = done.stderr.decode(errors="replace").splitlines()
    return done.stdout.decode(), [each for each in lines if "CONSOLE" in each and "chrome://" not in each]


@needs_browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_a_browser_draws_it(run: Run, tmp_path: Path, scheme: str, width: int) -> None:
    """Chromium logs no error, shows every figure, and runs no hostile text."""
    dark = int(scheme == "light")
    text, log = browse(
        run.path, tmp_path, f"--blink-settings=preferredColorScheme={dark}", f"--window-size={width},900"
    )
    assert log == []
    seen = Page(text)
    assert set(seen.hover) == FIGURES
    assert "PWNED" not in text[text.index("<title>") : text.index("</title>")]
    assert "img" not in seen.tags
    for status, count in run.said["counts"].items():
        assert seen.figures[f"count-{status}"] == count
    assert seen.figures["records"] == run.said["records_read"]


def test_figures_equal_run_json(run: Run) -> None:
    """Every figure on the page is that of run.json and of the summary."""
    seen = Page(run.path.read_text(encoding="utf-8")).figures
    for status, count in run.said["counts"].items():
        assert seen[f"count-{status}"] == count
    summary = run.report.to_dict()
    assert seen["records"] == run.said["records_read"]
    assert seen["ok"] == run.said["counts"]["succeeded"]
    assert seen["failed"] == sum(n for status, n in run.said["counts"].items() if status != "succeeded")
    assert seen["throughput_per_s"] == pytest.approx(summary["throughput_per_s"], abs=0.001)
    assert seen["p50_ms"] == pytest.approx(summary["latency_ms"]["p50"], abs=0.001)
    assert seen["throttles"] == sum(summary["throttles"].values())
    assert (seen["retries"], seen["cold_starts"]) == (summary["retries"], summary["cold_starts"])
    assert seen["usd"] == summary["cost"]["usd"]


def test_nothing_is_fetched(run: Run) -> None:
    """The page asks for nothing outside of itself, and would not be allowed to."""
    seen = Page(run.path.read_text(encoding="utf-8"))
    assert seen.links == ["data:,"]
    assert "default-src 'none'" in run.path.read_text(encoding="utf-8")


def test_hostile_text_becomes_no_element(run: Run) -> None:
    """Whatever functions say, the page has the elements and scripts that it was written with."""
    text = run.path.read_text(encoding="utf-8")
    seen = Page(text)
    assert len(seen.scripts) == 1
    assert seen.handlers == []
    assert "img" not in seen.tags
    assert "\x1b" not in text
    assert "\u202e" not in text


def everything_hostile(evil: str) -> RunReport:
    """A report in which every text comes from somebody who means harm."""
    stats = Stats(started_s=0.0)
    error = ErrorDetail(
        type=evil, message=evil, stack_trace=[evil, f'File "{evil}", line 1, in {evil}'], reason=evil
    )
    for seq in range(3):
        stats.add(
            Outcome(
                seq=seq,
                key=evil,
                status="function_error",
                attempts=1,
                throttles=0,
                duration_ms=5.0,
                started_at="1970-01-01T00:00:00Z",
                request_id=evil,
                error=error,
                log_tail=evil,
            )
        )
    stats.note_throttle(evil)
    stats.sample(now_s=1.0, in_flight=1, limit=2, cause=evil)
    meta = {
        "function": evil,
        "state": evil,
        "halted_by": evil,
        "region": evil,
        "run_dir": "x",
        "input": {"location": evil},
        "options": {evil: evil},
        "started_at": evil,
    }
    return RunReport.from_stats(stats, meta)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["", '"', "'", "{{data}}", "</title>", "-->", "]]>", "{{"]), st.text(max_size=20))
def test_any_text_is_inert(prefix: str, rest: str) -> None:
    """Whatever text stands wherever text can stand: the page keeps its elements, and hover data is JSON."""
    harmless = Page(page(everything_hostile("x")))
    evil = Page(page(everything_hostile(f"{prefix}{HOSTILE}{rest}<svg/onload=alert(1)>")))
    assert evil.tags == harmless.tags
    assert evil.handlers == []
    assert evil.scripts == harmless.scripts
    assert set(evil.hover) == set(harmless.hover)


@needs_browser
def test_a_browser_runs_no_text(tmp_path: Path) -> None:
    """With hostile text everywhere, labels and hover texts of the drawings too, Chromium runs none of it."""
    path = tmp_path / "page.html"
    everything_hostile(HOSTILE).write_html(path)
    text, log = browse(path, tmp_path / "profile")
    assert log == []
    seen = Page(text)
    assert "throttles" in seen.hover
    assert "img" not in seen.tags
    assert "&lt;/script&gt;" in text[text.index("<title>") : text.index("</title>")]


def test_the_page_is_light(run: Run) -> None:
    """Under 300 kB, drawings and all, however many points a course has."""
    assert run.path.stat().st_size < 300_000
    stats = Stats(started_s=0.0)
    for second in range(6_000):
        stats.note_throttle("CallerRateLimitExceeded")
        stats.add(
            Outcome(
                seq=second,
                key=f"a key of some length {second}",
                status="succeeded" if second % 3 else "function_error",
                attempts=1 + second % 2,
                throttles=0,
                started_at="1970-01-01T00:00:00Z",
                duration_ms=1.0 + second % 997,
                init_ms=1.5 if second % 7 == 0 else None,
            )
        )
        stats.sample(now_s=second + 1.0, in_flight=second % 900, limit=1000.25, cause="throttles")
    assert len(page(RunReport.from_stats(stats, {"function": "f"})).encode()) < 300_000


def test_every_drawing_is_told_in_words(run: Run) -> None:
    """Each drawing has a title and a sentence for screen readers, and values for a pointer."""
    text = run.path.read_text(encoding="utf-8")
    labels = re.findall(r'role="img" tabindex="0" aria-label="([^"]+)"', text)
    assert len(labels) == len(FIGURES)
    assert all(re.search(r"\. .*\d", label) for label in labels)
    for name, hover in Page(text).hover.items():
        if name == "executions":
            assert all(0 <= x <= 1 and 0 <= y <= 1 and words for x, y, words, _ in hover["points"])
        else:
            assert all(len(texts) == len(hover["x"]) for _, _, texts in hover["lines"]), name


def test_throughput_stands_against_its_limit(run: Run) -> None:
    """The limit over the mean latency is what the limit allows: Little's law, and never above the rate."""
    lines = {
        name: texts
        for name, _, texts in Page(run.path.read_text(encoding="utf-8")).hover["throughput"]["lines"]
    }
    allowed = [float(text.replace(",", "").rstrip("/s")) for text in lines["what the limit allows"] if text]
    reached = [float(text.replace(",", "").rstrip("/s")) for text in lines["succeeded"]]
    assert max(allowed) == pytest.approx(max(reached), rel=0.2)


def test_a_run_without_anything(tmp_path: Path) -> None:
    """A run without records, timeline or times has a page, too."""
    (tmp_path / "run.json").write_text('{"function": "f", "state": "running"}')
    (tmp_path / "outcomes.jsonl").write_text("")
    text = page(RunReport.from_run_dir(tmp_path))
    assert "no records" in text
    assert "left no timeline" in text


def test_events_are_not_called_executed(tmp_path: Path) -> None:
    """The page of an Event run says that accepted is not executed."""
    stats = Stats(started_s=0.0)
    stats.add(Outcome(seq=0, status="accepted", attempts=1, throttles=0, duration_ms=5.0))
    text = page(RunReport.from_stats(stats, {"options": {"invocation_type": "Event"}}))
    assert "accepted is not executed" in text


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    """One line that names the file, and no half page."""
    with pytest.raises(ConfigError, match=r"absent"):
        run.report.write_html(tmp_path / "absent" / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timed
def test_the_end_of_a_run_is_not_held_up(run: Run) -> None:
    """Making the page from figures at hand takes less than 0.2 s of CPU."""
    import time

    begun = time.process_time()
    page(run.report)
    assert time.process_time() - begun < 0.2
