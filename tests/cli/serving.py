"""A scripted endpoint in a thread, and the command in this process: for tests of one verb."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fanout.cli import main
from tests.service_models import share_service_models
from tests.transports.wire import Wire, wire

# On Python 3.11 pytest-asyncio's first question makes a loop, which asyncio.run would leave unclosed.
asyncio.set_event_loop(None)


@contextlib.contextmanager
def serving() -> Iterator[Wire]:
    """A ``Wire`` on an event loop in another thread."""
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()
    found: list[Wire] = []

    async def serve() -> None:
        async with wire() as endpoint:
            found.append(endpoint)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(60)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(60)
        loop.close()


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: bytes
    err: str


class Terminal:
    """Runs ``fanout`` in this process with its output captured byte by byte."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        capture: pytest.CaptureFixture[bytes],
        directory: Path,
        endpoint: Wire,
    ) -> None:
        self.patch, self.capture, self.directory, self.endpoint = patch, capture, directory, endpoint

    def fanout(self, *words: str, stdin: bytes | None = None) -> Ran:
        """The exit code and what was written. ``stdin`` is piped in; without it there is none."""
        self.patch.setattr(sys, "argv", ["fanout", *words])
        with contextlib.ExitStack() as stack:
            if stdin is None:
                source = stack.enter_context(Path("/dev/null").open())
            else:
                piped = self.directory / "stdin"
                piped.write_bytes(stdin)
                source = stack.enter_context(piped.open())
            self.patch.setattr(sys, "stdin", source)
            self.capture.readouterr()
            with pytest.raises(SystemExit) as end:
                main()
        out, err = self.capture.readouterr()
        return Ran(int(end.value.code or 0), out, err.decode())


def in_region(patch: pytest.MonkeyPatch, endpoint: Wire) -> None:
    """Credentials, Region and endpoint as a user sets them."""
    share_service_models(patch)
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    patch.setenv("AWS_ENDPOINT_URL_LAMBDA", endpoint.url)


def arguments(*words: str) -> Sequence[str]:
    """The installed command with these words."""
    return [str(Path(sys.executable).with_name("fanout")), *words]
