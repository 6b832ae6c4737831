"""The laboratory works: each benchmark runs to its end at a size that says nothing of speed."""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from benchmarks.__main__ import NAMES
from benchmarks.endpoint import Endpoint, has_nginx
from benchmarks.limits_run import pace
from benchmarks.measuring import Rounds
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import measuring

ROOT = Path(__file__).parent.parent.parent


# What they measure at length is slow even at its smallest.
_SLOW = frozenset(
    {
        "batches",
        "inputs",
        "journals",
        "limits",
        "littles_law",
        "many_permits",
        "memory",
        "overhead",
        "startup",
        "throughput",
    }
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in NAMES]
)
def test_runs_and_leaves_its_results(name: str, tmp_path: Path) -> None:
    """Exit code 0, and JSON that names the machine."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--tiny", "--results", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / f"{name}.json").read_text())
    assert results["benchmark"] == name
    assert results["machine"]["python"]


# Parts of others: servers and loops in a process of their own. And what draws, which measures nothing.
_PARTS = frozenset({"endpoint_server", "input_loops", "object_files", "raw_client", "report"})
_PROGRAMS = sorted(
    path.stem
    for path in Path(measuring.__file__).parent.glob("*.py")
    if 'if __name__ == "__main__":' in path.read_text() and path.stem not in _PARTS
)


class _Asked(Exception):
    """The parser was asked, which is all."""


@pytest.mark.parametrize("name", _PROGRAMS)
def test_each_takes_quick(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at any of them costs little."""
    parse = argparse.ArgumentParser.parse_args

    def asked(parser: argparse.ArgumentParser, _: object = None) -> None:
        assert parse(parser, ["--quick"]).quick
        raise _Asked

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", asked)
    with pytest.raises(_Asked):
        importlib.import_module(f"benchmarks.{name}").main()


_needs_nginx = pytest.mark.skipif(not has_nginx(), reason="no nginx with its echo module")


@pytest.mark.parametrize("tls", [False, True])
def test_the_endpoint_without_nginx_answers_as_the_one_with_it(tls: bool) -> None:
    """fanout itself finds a function, its limits and a reply there."""
    with Endpoint((0,), use_nginx=False) as endpoint:
        done = measuring.run_process(
            [measuring.FANOUT, "invoke", "lab-7", "--endpoint-url", endpoint.url(0, tls=tls)],
            environment=endpoint.environment(),
        )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"ok": True}


@pytest.mark.parametrize("use_nginx", [False, pytest.param(True, marks=_needs_nginx)])
@pytest.mark.parametrize("delay_ms", [0, 20])
def test_the_endpoint_refuses_as_many_calls_as_it_is_told(use_nginx: bool, delay_ms: int) -> None:
    """At once, and with the reason that Lambda gives."""
    with Endpoint((delay_ms,), use_nginx=use_nginx, throttle_rate=0.5) as endpoint:
        url = f"{endpoint.url(delay_ms)}/2015-03-31/functions/lab-7/invocations"
        statuses = []
        for _ in range(200):
            try:
                urllib.request.urlopen(urllib.request.Request(url, data=b"{}")).close()
                statuses.append(200)
            except urllib.error.HTTPError as exc:
                with exc:
                    statuses.append(exc.code)
                    told = json.loads(exc.read())
    assert told["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert set(statuses) == {200, 429}
    assert 60 <= statuses.count(429) <= 140


def test_a_round_that_would_end_too_late_is_not_taken() -> None:
    """One is, in any case; without a time they are as many as were asked for."""
    assert list(Rounds(3)) == [0, 1, 2]
    assert list(Rounds(3, within_s=0.0)) == [0]
    assert list(Rounds(3, within_s=60.0)) == [0, 1, 2]


def test_a_pace_counts_whole_rounds_of_calls() -> None:
    """Calls of a second end in bunches, here of 200: no stretch says more than 200 a second."""
    finished_s = [second * 1.01 + n / 10_000 for second in range(1, 6) for n in range(200)]
    assert pace(finished_s, 1.0, 0.0, 5.5) == 200.0
    assert pace(finished_s, 1.0, 2.0, 4.0) <= 200.0
    assert pace(finished_s, 1.0, 2.0, 2.05) == 0.0  # which made 4,000 a second of one bunch
    assert pace(finished_s, 1.0, 9.0, 20.0) == pace([], 1.0, 0.0, 1.0) == 0.0


@given(
    st.lists(st.lists(st.floats(1.0, 3.0), min_size=1, max_size=8), min_size=1, max_size=5),
    st.floats(0.0, 5.0),
    st.floats(0.0, 20.0),
)
def test_no_pace_is_above_the_limit(permits: list[list[float]], from_s: float, for_s: float) -> None:
    """Each permit makes one call after the other, of a second or more."""
    finished_s = sorted(t for calls in permits for t in itertools.accumulate(calls))
    assert pace(finished_s, 1.0, from_s, from_s + for_s) <= len(permits) * (1 + 1e-6)


def test_a_process_that_fails_has_its_exit_code_and_words() -> None:
    """Nothing is measured of a client that did not work."""
    usage = measuring.run_process([sys.executable, "-c", "raise SystemExit('no')"])
    assert usage.exit_code == 1
    assert usage.stderr.strip() == "no"


def test_the_peak_of_a_process_does_not_begin_with_what_its_parent_held() -> None:
    """As the kernel's own count of a child does."""
    held = b"x" * 150_000_000
    for hold_s in (0.1, 1, 10):  # it is looked at while it runs
        program = f"import time; own = b'x' * 30_000_000; time.sleep({hold_s})"
        usage = measuring.run_process([sys.executable, "-c", program])
        if usage.peak_rss_mb > 30:
            break
    del held
    assert 30 < usage.peak_rss_mb < 100


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that was twice as slow in one round was so for both."""
    assert measuring.ratios([2.0, 4.0], [1.0, 2.0]) == {"median": 2.0, "least": 2.0, "most": 2.0, "runs": 2}


def test_a_noisy_machine_is_named() -> None:
    """Figures of a busy machine are worth little: the share that is left is measured, and said."""
    from benchmarks.noise import least_share, verdict

    assert 0 < least_share(0.05) < 1.1
    assert verdict(0.99).startswith("quiet")
    assert verdict(0.6).startswith("TOO NOISY: other work left 60% of a core")
