"""What every test may use: nobody's AWS settings, and an eye on tasks that are left over."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests import example_counts

# pytest --hypothesis-profile fuzz: once a week, a hundred times as many examples.
settings.register_profile("fuzz", max_examples=10_000, deadline=None)
# A machine that has more to do, or coverage, makes examples slow; that says nothing of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("unhurried"), max_examples=34)
IS_MEASURED = "COVERAGE_PROCESS_CONFIG" in os.environ


def pytest_configure(config: pytest.Config) -> None:
    """Without the slow tests a third of the examples: ``make test-all`` has all of them."""
    # A shell ignores SIGINT for what runs in its background, nohup SIGHUP; commands would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if IS_MEASURED:
        from xdist.workermanage import NodeManager

        NodeManager.EXIT_TIMEOUT = 120  # it kills its processes after ten seconds: half of their data is none
    if config.getoption("--hypothesis-profile") is None:
        is_quick = "not slow" in config.getoption("markexpr")
        settings.load_profile("quick" if is_quick else "unhurried")
        example_counts.share = 3 if is_quick else 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under coverage all is slower: tests that hold a time to a limit are left out."""
    from tests.scripted import LOOKS

    for item in items:
        if r"\x1f\x8b\x08" in item.nodeid:  # gzip holds the time: workers would differ
            raise pytest.UsageError(f"{item.nodeid}: bytes of gzip are no name for a test: give ids")
        if item.get_closest_marker("looptime") is not None:
            item.add_marker(pytest.mark.looptime(noop_cycles=LOOKS))
        if IS_MEASURED and item.get_closest_marker("timed") is not None:
            item.add_marker(pytest.mark.skip(reason="coverage makes it slow"))


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make, not among the tests.

    Python looks once there is a quarter more than before, and thousands of tests are so much that clients of
    AWS, of which one leaves 20 MB, would pile up.
    """
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, four at most: many tests wait for servers and for signals."""
    return min(4, (os.cpu_count() or 1) + 1)


# Hundreds of tests start the command: where the environment forbids to keep bytecode, each of these processes
# would compile the package again, and each process of the suite rewrite all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# looptime asks each test for the current event loop; before 3.14 that makes one in a test that has none,
# and nobody closes it: some later test would be blamed for the warning. Set once, it is not made.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not reach anybody's account, nor depend on its settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that open nothing, and a Region: for servers on this machine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")


@pytest.fixture(autouse=True)
def _no_recent_answers() -> None:
    """What one test's Lambda answered says nothing about the next one's."""
    if (quotas := sys.modules.get("fanout.quotas")) is not None:
        quotas.RECENT_ANSWERS.clear()


@pytest_asyncio.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail when a task that the test started outlives it."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    assert not left, f"tasks outlived the test: {left}"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of a moto server, an independent imitation of AWS. All servers of a process share one state."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
