"""The pool of connections: a free one for each request, or a new one through proxy and TLS.

The gate bounds the calls in flight, so nothing waits here for a free connection. One timer watches
over the silence of all calls, whatever their number.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from aiohappyeyeballs import start_connection

from fanout.errors import ConnectFailed
from fanout.transports.endpoint import without_password
from fanout.transports.http.gathered_writes import GatheredWrites
from fanout.transports.http.http1 import MAX_HEAD_BYTES, Connection
from fanout.transports.http.sockets import POOL_IDLE_S, keep_alive, look_up, make_socket
from fanout.transports.http.tls import client_context, in_words

_ADDRESSES_KEPT_S = 10.0
_SECOND_FAMILY_AFTER_S = 0.25  # RFC 8305
# A thousand handshakes begun at once hold up one another and the first replies, and none can go on from
# another's session; so they begin by the sixteen, when those before are done, or 5 ms old on a long way.
_OPENINGS = 16
_OPENING_S = 0.005
# Unless the last took far longer than the quickest did: then the endpoint is behind, and not far away.
_BEHIND_TIMES, _BEHIND_S = 4, 0.02
_OPENINGS_MOST = 512  # under way at once: more would wait for the CPU till they time out
_LOOK_BEFORE_USE_S = 0.1
_LEAST_WATCH_S = 0.02
_CLOSING_S = 2.0
_PORTS = {"http": 80, "https": 443}


class ConnectionPool:
    """Connections to one endpoint, as many as are asked for at once; idle ones are kept for 20 s.

    ``base_url`` is http or https with a host; ``proxy`` is a URL, and may hold user and password;
    ``verify`` as in ``client_context``; ``unknown_host_hint`` follows the message when the host has no
    address. Belongs to the running event loop. Raises ConfigError for a bundle that holds no authority.
    """

    def __init__(
        self,
        base_url: str,
        *,
        proxy: str | None,
        verify: bool | str,
        max_idle: int,
        connect_timeout_s: float,
        unknown_host_hint: str = "",
    ) -> None:
        self._endpoint = urlsplit(base_url)
        self._proxy = None if proxy is None else urlsplit(proxy)
        self._where = base_url
        self._unknown_host_hint = unknown_host_hint
        self._max_idle = max_idle
        self._connect_timeout_s = connect_timeout_s
        self._loop = asyncio.get_running_loop()
        is_tls = "https" in (self._endpoint.scheme, self._proxy and self._proxy.scheme)
        self._context = client_context(verify) if is_tls else None
        self._session: ssl.SSLSession | None = None
        self.writes = GatheredWrites(self._loop)
        self.idle: list[Connection] = []  # by when they were last used, the last at the end
        self._all: set[Connection] = set()
        self._openings = asyncio.Semaphore(_OPENINGS)
        self._quickest_opening_s = self._last_opening_s = float("inf")
        self._openings_under_way = asyncio.Semaphore(_OPENINGS_MOST)
        self._resolving = asyncio.Lock()
        self._addresses: list[Any] = []
        self._resolved_at_s = 0.0
        self._turn = 0
        self._watch: asyncio.TimerHandle | None = None
        self.watch_at_s = float("inf")
        self._pruning: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._all_closed = asyncio.Event()

    @property
    def forwarded_target(self) -> str:
        """The prefix of the path in a request line: a proxy forwards plain requests by the whole address."""
        is_forwarded = self._proxy is not None and self._endpoint.scheme == "http"
        return f"http://{self._endpoint.netloc}" if is_forwarded else ""

    @property
    def forwarded_headers(self) -> str:
        """Header lines for the proxy that such a request needs."""
        return _authorization(self._proxy) if self._proxy is not None and self.forwarded_target else ""

    async def aclose(self) -> None:
        """Close every connection; calls under way end with ConnectionError."""
        self._is_closed = True
        for timer in (self._watch, self._pruning):
            if timer is not None:
                timer.cancel()
        for connection in list(self._all):
            connection.abort()
        if self._all:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_S):
                    await self._all_closed.wait()

    def keep_idle(self, most: int) -> None:
        """Keep so many idle connections from now on: a connection for each call that may be in flight."""
        self._max_idle = most

    # What connections tell: see ``http1.ConnectionOwner``

    def release(self, connection: Connection) -> None:
        """Keep a connection that is free."""
        if self._is_closed or len(self.idle) >= self._max_idle:
            connection.close()
            return
        connection.idle_since_s = self._loop.time()
        self.idle.append(connection)
        if self._pruning is None:
            self._pruning = self._loop.call_later(POOL_IDLE_S, self._prune)

    def forget(self, connection: Connection) -> None:
        """A connection has ended. Among the idle ones it is found out when its turn comes."""
        self._all.discard(connection)
        if not self._all:
            self._all_closed.set()

    def remember(self, session: ssl.SSLSession | None) -> None:
        """Later connections go on from this session: it halves their handshake."""
        self._session = session

    def expect_within(self, deadline_s: float) -> None:
        """Look after calls at this time of the loop's clock, which comes sooner than ``watch_at_s``."""
        if self._watch is not None:
            self._watch.cancel()
        self.watch_at_s = deadline_s
        self._watch = self._loop.call_at(deadline_s, self._look)

    # Taking and timing out

    def take(self) -> Connection | None:
        """A connection that is free."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if not connection.is_open:
                continue
            age_s = self._loop.time() - connection.idle_since_s
            if age_s < _LOOK_BEFORE_USE_S:
                return connection
            if age_s < POOL_IDLE_S and not connection.has_news():
                return connection
            connection.close()
        return None

    def take_several(self, most: int) -> list[Connection]:
        """Connections that are free, up to ``most``."""
        idle = self.idle
        taken: list[Connection] = []
        used_just_now_s = self._loop.time() - _LOOK_BEFORE_USE_S
        while idle and len(taken) < most:
            connection = idle[-1]
            if connection.is_open and connection.idle_since_s > used_just_now_s:
                taken.append(idle.pop())
            elif (found := self.take()) is not None:
                taken.append(found)
        return taken

    def _look(self) -> None:
        """Give up the calls whose time is over, and come back for the next."""
        self._watch, self.watch_at_s = None, float("inf")
        now_s = self._loop.time()
        earliest_s = float("inf")
        for connection in list(self._all):
            if (deadline_s := connection.deadline_s) is None:
                continue
            if deadline_s <= now_s:
                connection.give_up()
            elif deadline_s < earliest_s:
                earliest_s = deadline_s
        if earliest_s < float("inf"):
            self.expect_within(max(earliest_s, now_s + _LEAST_WATCH_S))

    def _prune(self) -> None:
        self._pruning = None
        oldest_s = self._loop.time() - POOL_IDLE_S
        kept = []
        for connection in self.idle:
            if connection.is_open and connection.idle_since_s > oldest_s:
                kept.append(connection)
            else:
                connection.close()
        self.idle = kept
        if kept:
            self._pruning = self._loop.call_later(POOL_IDLE_S / 2, self._prune)

    # Opening

    async def open(self) -> Connection:
        """A new connection, or one that has become free meanwhile. Raises ConnectFailed."""
        async with self._openings_under_way:
            await self._openings.acquire()
            place = _Place(self._openings)
            is_behind = self._last_opening_s > _BEHIND_TIMES * self._quickest_opening_s + _BEHIND_S
            timer = None if is_behind else self._loop.call_later(_OPENING_S, place.give_back)
            began_s = self._loop.time()
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    connection = await self._open_now()
                self._note_opening(self._loop.time() - began_s)
                return connection
            except TimeoutError as error:
                self._note_opening(self._loop.time() - began_s)
                raise ConnectFailed(f"no connection to {self._where}: the connecting timed out") from error
            finally:
                if timer is not None:
                    timer.cancel()
                place.give_back()

    def _note_opening(self, took_s: float) -> None:
        self._last_opening_s = took_s
        self._quickest_opening_s = min(self._quickest_opening_s, took_s)

    async def _open_now(self) -> Connection:
        # A reply may have come while this call waited for its turn, and with it a connection that nobody
        # wants. One that came free just now is its own caller's: to take it would make that one wait here,
        # and a busy pool would grow no more.
        idle = self.idle
        is_spare = bool(idle) and self._loop.time() - idle[0].idle_since_s >= _OPENING_S
        if is_spare and (connection := self.take()) is not None:
            return connection
        through = self._proxy or self._endpoint
        try:
            connection = await self._connect(through)
        except (OSError, UnicodeError) as error:  # of a name that cannot be one
            raise self._proxy_fault(_reason(error)) if self._proxy else self._fault(error) from error
        try:
            if self._proxy is not None:
                await self._pass_proxy(connection, self._proxy)
            if self._endpoint.scheme == "https":
                assert self._context is not None
                await connection.shake_hands(self._context, _host(self._endpoint), self._session)
            connection.begin()
        except OSError as error:  # of which ssl.SSLError is one
            connection.abort()
            raise self._fault(error) from error
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect(self, through: SplitResult) -> Connection:
        found = await self._resolve(through)
        # Turn about: an endpoint's name stands for several machines.
        self._turn = (self._turn + 1) % len(found)
        addresses = found[self._turn :] + found[: self._turn]
        try:
            if len({address[0] for address in addresses}) > 1:
                connection = await self._race(addresses)
            else:
                connection = await self._connect_in_turn(addresses)
        except OSError:
            self._addresses = []  # the machines may have changed
            raise
        if connection.is_open:  # and not lost again already
            self._all.add(connection)
            self._all_closed.clear()
        if self._is_closed:
            connection.abort()
        return connection

    async def _connect_in_turn(self, addresses: list[Any]) -> Connection:
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return await self._connect_to(address)
        return await self._connect_to(addresses[-1])

    async def _connect_to(self, address: Any) -> Connection:
        transport, connection = await self._loop.create_connection(self._new, *address[4][:2])
        keep_alive(transport.get_extra_info("socket"))
        return connection

    async def _race(self, addresses: list[Any]) -> Connection:
        """IPv6 first, and IPv4 soon after, as one of them often leads nowhere."""
        made = await start_connection(
            addresses, happy_eyeballs_delay=_SECOND_FAMILY_AFTER_S, interleave=1, socket_factory=make_socket
        )
        try:
            _, connection = await self._loop.create_connection(self._new, sock=made)
        except BaseException:
            made.close()
            raise
        return connection

    def _new(self) -> Connection:
        return Connection(self, self._loop)

    async def _resolve(self, through: SplitResult) -> list[Any]:
        async with self._resolving:
            now_s = self._loop.time()
            if not self._addresses or now_s - self._resolved_at_s > _ADDRESSES_KEPT_S:
                self._addresses = await look_up(_host(through), through.port or _PORTS[through.scheme])
                self._resolved_at_s = now_s
            return self._addresses

    async def _pass_proxy(self, connection: Connection, proxy: SplitResult) -> None:
        try:
            if proxy.scheme == "https":
                assert self._context is not None
                await connection.shake_hands(self._context, _host(proxy))
            if self._endpoint.scheme == "https":
                await self._tunnel(connection, proxy)
        except OSError as error:
            raise self._proxy_fault(_reason(error)) from error

    async def _tunnel(self, connection: Connection, proxy: SplitResult) -> None:
        host = f"[{name}]" if ":" in (name := _host(self._endpoint)) else name
        target = f"{host}:{self._endpoint.port or _PORTS['https']}"
        ask = f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{_authorization(proxy)}\r\n"
        connection.send(ask.encode("latin-1"))
        told = b""
        while b"\r\n\r\n" not in told:
            told += await connection.receive()
            if len(told) > MAX_HEAD_BYTES:
                raise self._proxy_fault(f"its answer's head is larger than {MAX_HEAD_BYTES:,} bytes")
        status, _, _ = told.partition(b"\r\n")
        if status.split(b" ")[1:2] != [b"200"]:
            raise self._proxy_fault(status.decode("latin-1"))

    def _fault(self, error: Exception) -> ConnectFailed:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConnectFailed(
                f"the certificate of {self._where} is refused ({error.verify_message}): "
                "if its authority is your own, set AWS_CA_BUNDLE to its file"
            )
        is_host_unknown = isinstance(error, socket.gaierror)
        hint = self._unknown_host_hint if is_host_unknown else ""
        fault = ConnectFailed(f"no connection to {self._where}: {_reason(error)}{hint}")
        fault.is_host_unknown = is_host_unknown
        return fault

    def _proxy_fault(self, why: str) -> ConnectFailed:
        assert self._proxy is not None
        proxy = without_password(self._proxy.geturl())
        return ConnectFailed(f"the proxy {proxy} does not lead to {self._where}: {why}")


class _Place:
    """One of the openings that go on at once; given back once, by whoever is first."""

    __slots__ = ("_openings",)

    def __init__(self, openings: asyncio.Semaphore) -> None:
        self._openings: asyncio.Semaphore | None = openings

    def give_back(self) -> None:
        if self._openings is not None:
            self._openings.release()
            self._openings = None


def _host(parts: SplitResult) -> str:
    assert parts.hostname is not None
    return parts.hostname


def _authorization(proxy: SplitResult) -> str:
    if proxy.username is None:
        return ""
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"proxy-authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return in_words(error)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
