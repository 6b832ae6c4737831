"""The live page's server: on loopback, in the event loop of the run, and gone when the run is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fanout.dashboard import view
from fanout.dashboard.app import App, Tune
from fanout.errors import ConfigError
from fanout.stats import Snapshot

if TYPE_CHECKING:
    import uvicorn

BEAT_S = 0.5  # one chart at a time, so that drawing never holds up the run for long
_FAREWELL_S = 1.0
_PARTS = (*view.LIVE_CHARTS, "failures")


class Dashboard:
    """An async context manager that serves the page of one run on 127.0.0.1.

    ``port`` 0 takes a free one; ``address`` is to be printed. Raises ConfigError for a port that is
    taken. While nobody has the page open it costs nothing.
    """

    def __init__(self, function: str, *, port: int) -> None:
        self._function = function
        self._snapshot: Snapshot | None = None
        self._run: view.Watched | None = None
        self._controls: view.Controls | None = None
        self._app = App(page=self._page, first_events=self._first_events, tune=self._tune)
        try:
            self._socket = socket.create_server(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"dashboard {port}: {why}: choose another port, or 0 for a free one") from error
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/?token={self._app.token}"
        self._tasks: list[asyncio.Task[None]] = []

    def attach(self, run: view.Watched, controls: view.Controls | None = None) -> None:
        """Show this run, and let the page change it where there are controls."""
        self._run, self._controls = run, controls

    def update(self, snapshot: Snapshot) -> None:
        """Take how the run stands."""
        self._snapshot = snapshot

    async def __aenter__(self) -> Self:
        self._server = _server(self._app)
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets=[self._socket])),
            asyncio.create_task(self._beat()),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._app.publish(view.end_event("stopped", "The run has stopped."))
        self._app.publish(None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._app.emptied.wait(), _FAREWELL_S)
        self._server.should_exit = True
        serving, beating = self._tasks
        beating.cancel()
        await asyncio.wait((serving,), timeout=_FAREWELL_S)
        serving.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def finish(self, state: str, said: str) -> None:
        """Show the last figures, and that the run has ended: ``state`` in a word, ``said`` in a sentence."""
        for event in self._first_events():
            self._app.publish(event)
        self._app.publish(view.end_event(state, said))

    async def _beat(self) -> None:
        for part in itertools.cycle(_PARTS):
            await asyncio.sleep(BEAT_S)
            if self._app.has_readers and self._snapshot is not None and self._run is not None:
                for event in self._figures(self._snapshot):
                    self._app.publish(event)
                self._app.publish(view.chart_event(self._run.stats, part))

    def _page(self) -> str:
        return view.page(self._function, has_controls=self._controls is not None)

    def _first_events(self) -> list[bytes]:
        if self._snapshot is None or self._run is None:
            return []
        charts = [view.chart_event(self._run.stats, part) for part in _PARTS]
        return [*self._figures(self._snapshot), *charts]

    def _figures(self, snapshot: Snapshot) -> list[bytes]:
        events = [view.now_event(snapshot)]
        return [*events, view.workers_event(snapshot.workers)] if snapshot.workers else events

    def _tune(self) -> Tune | None:
        return self._controls


def _server(app: App) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves the signals to the run, and ends without waiting for readers."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
            for server in self.servers:
                server.close()

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # a browser's bad HTTP is answered
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    return Server(config)
