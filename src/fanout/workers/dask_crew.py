"""Workers placed by dask.distributed: processes of its own on this machine, or those of a cluster.

The Dask client lives on an event loop of its own, in a thread; what is asked of it is handed there.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread

from fanout.errors import ConfigError
from fanout.workers.crew import Link
from fanout.workers.dask_logs import first_line, pass_on_exceptions, pass_on_logs
from fanout.workers.scheduler_errors import SilentScheduler, why_not
from fanout.workers.worker import WorkerActor

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

_CONNECT_S = 10
_MISSING = (
    "workers need dask.distributed: pip install 'lambda-fanout[dask]', or leave workers out "
    "(--workers 0 where a run has them)"
)
_CONFIG = {
    "distributed.admin.event-loop": "uvloop",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.logging.distributed": "error",
    # Dask's own 64 KiB gives the memory of each message back to the system, and page faults take it again:
    # 300 µs for 100 kB received, where this takes 75.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 256 * 1024 * 1024,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 64 * 1024 * 1024,
}


_loaded: list[str] = []  # "distributed", if it is loaded for fanout alone; the program's logs as it likes


def load_dask() -> None:
    """Import Dask, which takes a second: before there is a run that a signal could leave without a word.

    Raises ConfigError where it is not installed.
    """
    if sys.modules.get("distributed") is not None:
        return
    try:
        import distributed
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    _loaded.append(distributed.__name__)


class DaskCrew:
    """``workers`` processes on this machine, or the workers of ``scheduler``: an address or a Client."""

    actor_class = WorkerActor

    def __init__(self, *, workers: int | None = None, scheduler: str | Client | None = None) -> None:
        load_dask()
        self._undo_logs: Callable[[], None] | None = None
        self._count = workers
        self._scheduler = scheduler
        self._client: Any = None
        self._cluster: Any = None
        self.is_child = scheduler is None
        where = scheduler if isinstance(scheduler, str) else "a Dask client"
        self.start_message = (
            f"starting {workers} workers" if scheduler is None else f"looking for the workers of {where}"
        )

    async def open(self) -> None:
        await anyio.to_thread.run_sync(self._open)

    def _open(self) -> None:
        import dask
        from distributed import Client, LocalCluster

        if self._scheduler is not None and not isinstance(self._scheduler, str):
            self._client = self._scheduler
            return
        self._undo_logs = pass_on_logs()
        if self._scheduler is None:
            try:
                with dask.config.set(_CONFIG), _signals_kept_from_children():
                    self._cluster = LocalCluster(  # type: ignore[no-untyped-call]
                        n_workers=self._count,
                        threads_per_worker=1,
                        processes=True,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:0",
                        scheduler_kwargs={"dashboard": False},
                        silence_logs=logging.CRITICAL,
                        memory_limit=0,
                    )
                    self._client = Client(  # type: ignore[no-untyped-call]
                        self._cluster, set_as_default=False, direct_to_workers=True
                    )
            except Exception as error:  # Dask's own: a process that was killed, a machine without room
                raise ConfigError(f"workers cannot be started: {first_line(error)}: try again") from error
        else:
            try:
                asyncio.run(_greet(self._scheduler))
                self._client = Client(  # type: ignore[no-untyped-call]
                    self._scheduler, timeout=_CONNECT_S, set_as_default=False
                )
            except Exception as error:  # Dask's own; a MemoryError where something else than Dask answers
                raise ConfigError(f"scheduler {self._scheduler} {why_not(error)}") from error
        loop = self._client.loop.asyncio_loop
        loop.call_soon_threadsafe(pass_on_exceptions, loop)

    async def members(self) -> list[str]:
        identity: dict[str, Any] = await self.on_its_loop(self._client.scheduler.identity(n_workers=-1))
        return list(identity["workers"])

    async def link(self, name: str) -> Link:
        async def place() -> Any:
            future = self._client.submit(
                self.actor_class, actor=True, workers=[name], allow_other_workers=False, pure=False
            )
            with self._client.as_current():
                return await future

        return ActorLink(self, await self.on_its_loop(place()))

    async def aclose(self) -> None:
        client, cluster, self._client, self._cluster = self._client, self._cluster, None, None

        def close() -> None:
            with suppress(Exception):  # it is going anyway
                if client is not None and client is not self._scheduler:
                    client.close(timeout=2)
            with suppress(Exception):
                if cluster is not None:
                    cluster.close(timeout=5)

        await anyio.to_thread.run_sync(close)
        if self._undo_logs is not None and not _loaded:
            self._undo_logs()

    def as_current(self) -> AbstractContextManager[Any]:
        """While an actor looks for its client, this one is found."""
        found: AbstractContextManager[Any] = self._client.as_current()
        return found

    async def on_its_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the event loop of the Dask client."""
        loop = self._client.loop.asyncio_loop
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def _greet(address: str) -> None:
    """See that a scheduler answers there: a Client would wait without end where something else is silent."""
    import dask
    from distributed import Security
    from distributed.comm.core import connect

    if dask.config.get("distributed.client.security-loader", None) is not None:
        return  # it makes the keys of each connection, for a Client alone
    security: Any = Security()  # type: ignore[no-untyped-call]
    options = security.get_connection_args("client")
    try:
        async with asyncio.timeout(_CONNECT_S + 1) as limit:
            comm = await connect(address, timeout=_CONNECT_S, **options)  # type: ignore[no-untyped-call]
    except TimeoutError as error:
        if limit.expired():
            raise SilentScheduler from error
        raise
    comm.abort()


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Processes and threads started meanwhile get no signal of the terminal or of a supervisor.

    A mask is inherited from the thread that starts them, whenever they start. They end with this process,
    and when they are told to: a drain needs them.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()  # it ignores the other two, and starting it would unblock them
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ActorLink:
    """The coordinator's end of one worker: orders go to its actor, and what follows comes back."""

    def __init__(self, crew: DaskCrew, actor: Any) -> None:
        self._crew = crew
        self._actor = actor

    async def begin(self, settings: bytes) -> bytes:
        return await self._call("begin", settings)

    async def exchange(self, order: bytes) -> bytes:
        return await self._call("exchange", order)

    async def _call(self, method: str, message: bytes) -> bytes:
        async def call() -> bytes:
            with self._crew.as_current():
                future = getattr(self._actor, method)(message)
            answer: bytes = await future
            return answer

        return await self._crew.on_its_loop(call())
