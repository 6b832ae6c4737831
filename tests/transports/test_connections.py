"""Connections: kept, closed, refused, trusted, led through proxies; and what each failure means."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from fanout.errors import ConfigError, ConnectFailed, ReplyLost, RequestNotSent, TransportError
from fanout.invoke_request import build_template
from fanout.transports.http.connections import ConnectionPool
from tests.transports.wire import (
    Received,
    Script,
    chunk,
    complete,
    http,
    read_request,
    reset,
    stream,
    transport_to,
    wire,
)

both = pytest.mark.parametrize("kind", ["direct", "sdk"])
TEMPLATE = build_template(function="f")


def sockets_to(port: int) -> Iterator[socket.socket]:
    """This process's connected sockets whose other end is ``port``, found among its file descriptors."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        with found:
            try:
                if found.family == socket.AF_INET and found.getpeername()[1] == port:
                    yield found
            except OSError:
                continue


@both
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
async def test_tcp_keepalive_is_on_and_below_350_seconds(kind: str) -> None:
    """A silent call of 900 s outlives NAT gateways and load balancers, which forget a flow after 350 s."""
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        await transport.send(TEMPLATE, b"{}")
        seen = [
            (
                client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            )
            for client in sockets_to(endpoint.port)
        ]
    assert seen == [(1, 60, 30)]


@both
async def test_connections_are_used_again_up_to_the_concurrency(kind: str) -> None:
    """As many connections as calls in flight, and no more for the calls that follow."""
    async with wire() as endpoint, transport_to(endpoint.url, kind, max_connections=5) as transport:
        endpoint.respond = lambda _: Script(http(200, b"{}"), wait_s=0.02)
        for _ in range(4):
            await asyncio.gather(*(transport.send(TEMPLATE, b"{}") for _ in range(5)))
        assert endpoint.connections == 5


@both
async def test_an_idle_connection_that_the_server_closed_is_no_failure(kind: str) -> None:
    """The next call takes a new one."""
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for close in (lambda writer: writer.close(), reset):
            await transport.send(TEMPLATE, b"{}")
            for writer in list(endpoint.writers):
                close(writer)
            await asyncio.sleep(0.05)
            assert (await transport.send(TEMPLATE, b"{}")).status == 200


@both
async def test_a_connection_closed_in_the_race_repeats_nothing(kind: str) -> None:
    """A server that closes as the request arrives: not sent, lost, or made once; never twice."""
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for pause_s in (0, 0.0005, 0.001, 0.002) * 10:
            endpoint.received.clear()
            await transport.send(TEMPLATE, b"first")
            for writer in list(endpoint.writers):
                writer.close()
            await asyncio.sleep(pause_s)
            most = 1
            try:
                await transport.send(TEMPLATE, b"second")
            except RequestNotSent:
                most = 0
            except ReplyLost:
                pass
            assert [request.body for request in endpoint.received].count(b"second") <= most


@both
async def test_a_request_that_arrived_is_never_sent_again(kind: str) -> None:
    """Also on a connection that was used before: the server read it and closed without a word."""
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for end in ("close", "reset"):
            endpoint.answer(http(200, b"{}"))
            await transport.send(TEMPLATE, b"{}")
            endpoint.received.clear()
            endpoint.answer(b"", end=end)
            with pytest.raises(ReplyLost):
                await transport.send(TEMPLATE, b"{}")
            assert len(endpoint.received) == 1


@both
async def test_no_connection_is_told_from_a_lost_reply(kind: str) -> None:
    """Refused, or a name that nobody has: the function did not run, and the message names the endpoint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for url in (refused, "http://nosuchhost.invalid:9"):
            async with transport_to(url, kind) as transport:
                with pytest.raises(ConnectFailed, match=r"^no connection to http://") as failure:
                    await transport.send(TEMPLATE, b"{}")
            assert url in str(failure.value)
            assert "\n" not in str(failure.value)


@both
async def test_connecting_has_a_short_timeout_of_its_own(kind: str) -> None:
    """A host that does not answer is given up long before the read timeout, and nothing was sent."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with transport_to(url, kind, connect_timeout_s=0.3, read_timeout_s=60) as transport:
            with pytest.raises(ConnectFailed):
                await transport.send(TEMPLATE, b"{}")
        for filler in fillers:
            filler.close()


@both
async def test_the_timeout_bounds_the_whole_call_of_a_reply_that_drips(kind: str) -> None:
    """No silence is long, and the call ends in time all the same; a stream may go on."""
    drips = http(200, b"x" * 400)

    async with wire() as endpoint, transport_to(endpoint.url, kind, call_timeout_s=0.3) as transport:
        endpoint.drip_s = 0.02
        endpoint.answer(drips, pieces=200)
        with pytest.raises(ReplyLost, match="timed out"):
            await transport.send(TEMPLATE, b"{}")
    # One process is both ends: what holds it up for a second is a silence.
    async with wire() as endpoint, transport_to(endpoint.url, kind, call_timeout_s=1.0) as transport:
        endpoint.drip_s = 0.05
        endpoint.answer(stream(*(chunk(b"x") for _ in range(20)), complete()), pieces=25)
        assert (await transport.send(build_template(function="f", stream=True), b"{}")).body == b"x" * 20


@both
async def test_a_kind_of_proxy_that_is_not_there_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SOCKS: one line at the start, without the password, and not a connection to a host called socks5."""
    monkeypatch.setenv("http_proxy", "socks5h://me:secret@127.0.0.1:1080")
    with pytest.raises(ConfigError, match=r"socks5h://127.0.0.1:1080' is of a kind that is not supported"):
        async with transport_to("http://127.0.0.2:9", kind):
            pass


@both
async def test_the_read_timeout_can_be_changed_on_the_way(kind: str) -> None:
    """Later calls have the new one."""
    async with wire() as endpoint, transport_to(endpoint.url, kind, read_timeout_s=30) as transport:
        may_answer = asyncio.Event()
        endpoint.respond = lambda _: Script(http(200, b"{}"), after=may_answer)
        slow = asyncio.create_task(transport.send(TEMPLATE, b"{}"))
        while not endpoint.received:
            await asyncio.sleep(0.001)
        transport.set_read_timeout(0.1)
        with pytest.raises(ReplyLost, match="timed out"):
            await transport.send(TEMPLATE, b"{}")
        may_answer.set()
        assert (await slow).status == 200
        transport.set_read_timeout(30)
        assert (await transport.send(TEMPLATE, b"{}")).status == 200


@both
async def test_cancelling_a_call_closes_its_connection(kind: str) -> None:
    """Nothing is left behind, and no later call gets the reply of a cancelled one."""
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        endpoint.respond = lambda _: Script(http(200, b"late"), wait_s=0.3)
        task = asyncio.create_task(transport.send(TEMPLATE, b"{}"))
        while not endpoint.received:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        endpoint.answer(http(200, b"mine"))
        assert (await transport.send(TEMPLATE, b"{}")).body == b"mine"


class Tls:
    """A certificate authority, a server context and the authority's file."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.authority = trustme.CA()
        self.bundle = directory / "bundle.pem"
        # An authority that has nothing to do with it first: bundles hold many.
        self.bundle.write_bytes(trustme.CA().cert_pem.bytes() + self.authority.cert_pem.bytes())
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(*names).configure_cert(self.context)


@both
@pytest.mark.parametrize("how", ["option", "environment", "profile"])
async def test_a_ca_bundle_is_trusted(
    kind: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the option, AWS_CA_BUNDLE or the profile's ca_bundle."""
    tls = Tls(tmp_path, "127.0.0.1")
    if how == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.bundle))
    if how == "profile":
        config = tmp_path / "config"
        config.write_text(f"[default]\nca_bundle = {tls.bundle}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    verify = str(tls.bundle) if how == "option" else None
    async with wire(tls.context) as endpoint, transport_to(endpoint.url, kind, verify=verify) as transport:
        assert (await transport.send(TEMPLATE, b"{}")).body == b"{}"


@both
async def test_a_certificate_is_checked_unless_told_otherwise(kind: str, tmp_path: Path) -> None:
    """An unknown authority or a wrong name: nothing is sent, and one line says what to do."""
    tls, misnamed = Tls(tmp_path, "127.0.0.1"), Tls(tmp_path, "example.com")
    async with wire(tls.context) as endpoint:
        async with transport_to(endpoint.url, kind) as transport:
            with pytest.raises(
                ConnectFailed, match=r"^the certificate of .* is refused .*AWS_CA_BUNDLE"
            ) as failure:
                await transport.send(TEMPLATE, b"{}")
            assert "\n" not in str(failure.value)
        async with transport_to(endpoint.url, kind, verify=False) as transport:
            assert (await transport.send(TEMPLATE, b"{}")).body == b"{}"
        assert len(endpoint.received) == 1
    async with (
        wire(misnamed.context) as endpoint,
        transport_to(endpoint.url, kind, verify=str(misnamed.bundle)) as transport,
    ):
        with pytest.raises(ConnectFailed, match=r"^the certificate of .* is refused"):
            await transport.send(TEMPLATE, b"{}")


async def test_a_bundle_that_is_none_is_told(tmp_path: Path) -> None:
    """A missing or empty file is a setting's fault, found before the first call."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for bundle, message in ((empty, "holds no certificate"), (tmp_path / "missing", "cannot be read")):
        with pytest.raises(ConfigError, match=message):
            async with transport_to("https://127.0.0.1:9", "direct", verify=str(bundle)):
                pass


async def test_a_machine_without_authorities_can_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container has no certificate store; botocore's takes its place."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
    async with wire() as endpoint, transport_to(endpoint.url, "direct") as transport:
        assert (await transport.send(TEMPLATE, b"{}")).status == 200


class Proxy:
    """A forward proxy: keeps what it was asked for and leads CONNECT, or a plain request, to one port."""

    def __init__(self, target_port: int, refusal: bytes = b"") -> None:
        self.target_port, self.refusal = target_port, refusal
        self.asked: list[tuple[str, str | None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            request = await read_request(reader)
            self.asked.append(
                (f"{request.method} {request.path}", request.headers.get("proxy-authorization"))
            )
            if self.refusal:
                writer.write(self.refusal)
                return
            if request.method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await self._tunnel(reader, writer)
            else:
                writer.write(http(200, b"by proxy"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target_port)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)


@both
async def test_proxies_are_those_of_the_environment(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY by CONNECT, HTTP_PROXY by the whole address, with user and password; NO_PROXY past them."""
    tls = Tls(tmp_path, "127.0.0.1")
    async with wire(tls.context) as secure, wire() as plain:
        proxy = Proxy(secure.port)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        address = f"http://me:s%40crt@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        authorization = "Basic " + base64.b64encode(b"me:s@crt").decode()
        monkeypatch.setenv("HTTPS_PROXY", address)
        monkeypatch.setenv("http_proxy", address.removeprefix("http://"))
        async with transport_to(secure.url, kind, verify=str(tls.bundle)) as transport:
            assert (await transport.send(TEMPLATE, b"{}")).body == b"{}"
        assert proxy.asked.pop() == (f"CONNECT 127.0.0.1:{secure.port}", authorization)
        async with transport_to(plain.url, kind) as transport:
            assert (await transport.send(TEMPLATE, b"{}")).body == b"by proxy"
        assert proxy.asked.pop() == (f"POST {plain.url}{TEMPLATE.path}", authorization)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with transport_to(secure.url, kind, verify=str(tls.bundle)) as transport:
            assert (await transport.send(TEMPLATE, b"{}")).body == b"{}"
        assert proxy.asked == []
        server.close()


@both
async def test_a_proxy_that_refuses_is_no_lost_reply(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reached Lambda; the message names the proxy's fault without its password."""
    for refusal in (
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    ):
        proxy = Proxy(9, refusal)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with transport_to("https://lambda.example", kind) as transport:
            with pytest.raises(
                ConnectFailed, match=r"^the proxy .*does not lead to https://lambda\.example"
            ) as failure:
                await transport.send(TEMPLATE, b"{}")
        assert "secret" not in str(failure.value)
        assert "\n" not in str(failure.value)
        server.close()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with transport_to("https://lambda.example", kind) as transport:
        with pytest.raises(ConnectFailed):
            await transport.send(TEMPLATE, b"{}")


async def test_direct_names_itself() -> None:
    """User-Agent, one Host, one connection type; no header that asks for compression."""
    async with wire() as endpoint, transport_to(endpoint.url, "direct") as transport:
        await transport.send(TEMPLATE, b"{}")
        request: Received = endpoint.received[0]
    assert request.headers["user-agent"].startswith("lambda-fanout/")
    assert request.headers["accept-encoding"] == "identity"
    assert "referer" not in request.headers


async def test_later_handshakes_are_shortened(tmp_path: Path) -> None:
    """A connection made after another resumes its TLS session; one made along with it cannot."""
    tls = Tls(tmp_path, "127.0.0.1")
    async with (
        wire(tls.context) as endpoint,
        transport_to(endpoint.url, "direct", verify=str(tls.bundle)) as transport,
    ):
        resumed = []

        def look(writer: asyncio.StreamWriter) -> bool:
            resumed.append(writer.get_extra_info("ssl_object").session_reused)
            return True

        endpoint.on_connect = look
        await transport.send(TEMPLATE, b"{}")
        endpoint.respond = lambda _: Script(http(200, b"{}"), wait_s=0.05)
        await asyncio.gather(*(transport.send(TEMPLATE, b"{}") for _ in range(3)))
    assert resumed == [False, True, True]


async def test_an_https_proxy_is_spoken_to_in_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS to the proxy, and through it TLS to the endpoint."""
    tls = Tls(tmp_path, "127.0.0.1")
    async with wire(tls.context) as secure:
        proxy = Proxy(secure.port)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls.context)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{port}")
        async with transport_to(secure.url, "direct", verify=str(tls.bundle)) as transport:
            for size in (2, 300_000):
                assert (await transport.send(TEMPLATE, b"1" * size)).body == b"{}"
        server.close()
        assert [len(request.body) for request in secure.received] == [2, 300_000]
        assert proxy.asked == [(f"CONNECT 127.0.0.1:{secure.port}", None)]


async def test_a_stale_connection_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has been idle for longer than it is kept; and one whose end nobody has looked at yet."""
    monkeypatch.setattr("fanout.transports.http.connections._LOOK_BEFORE_USE_S", 0.0)
    async with wire() as endpoint, transport_to(endpoint.url, "direct") as transport:
        await transport.send(TEMPLATE, b"{}")
        await transport.send(TEMPLATE, b"{}")
        assert endpoint.connections == 1
        for writer in list(endpoint.writers):
            # Behind the back of this loop, which serves both ends.
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as theirs:
                theirs.shutdown(socket.SHUT_WR)
        assert (await transport.send(TEMPLATE, b"{}")).body == b"{}"
        assert endpoint.connections == 2
        monkeypatch.setattr("fanout.transports.http.connections.POOL_IDLE_S", 0.0)
        await transport.send(TEMPLATE, b"{}")
        assert endpoint.connections == 3


async def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each a while after its last use, whether or not another call comes."""
    monkeypatch.setattr("fanout.transports.http.connections.POOL_IDLE_S", 0.1)
    async with wire() as endpoint, transport_to(endpoint.url, "direct") as transport:
        both_are_there = asyncio.Event()

        def respond(_: object) -> Script:
            if len(endpoint.received) == 1:
                return Script(http(200, b"{}"), after=both_are_there)
            both_are_there.set()
            return Script(http(200, b"{}"), wait_s=0.05)

        endpoint.respond = respond
        await asyncio.gather(transport.send(TEMPLATE, b"1"), transport.send(TEMPLATE, b"2"))
        assert endpoint.connections == 2
        async with asyncio.timeout(60):
            while endpoint.writers:
                await asyncio.sleep(0.01)


async def test_a_proxy_that_gives_no_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It closed the connection, or goes on for ever: no call was sent. Its password is not shown."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(answers))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{port}")
    head = b"HTTP/1.1 200 OK\r\nx: "
    answers = iter([b"", head, head + b"x" * 300_000])
    closed = "the connection was closed"
    async with server, transport_to("https://127.0.0.1:9", "direct") as transport:
        for said in (closed, closed, "its answer's head is larger than"):
            with pytest.raises(ConnectFailed, match=f"the proxy .* does not lead to .*{said}") as failure:
                await transport.send(TEMPLATE, b"{}")
            assert "secret" not in str(failure.value)


async def test_a_proxy_without_tls_where_tls_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is OpenSSL's, in its words."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(http(400, b"no TLS here"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{port}")
    async with server, transport_to("https://127.0.0.1:9", "direct") as transport:
        with pytest.raises(ConnectFailed, match=r"does not lead to .*: TLS failed: WRONG_VERSION_NUMBER"):
            await transport.send(TEMPLATE, b"{}")


async def test_many_connections_begin_in_turn_but_never_wait_long() -> None:
    """Sixteen at once; where the way is long, the next do not wait for the replies of those before them."""
    async with wire() as endpoint, transport_to(endpoint.url, "direct", max_connections=300) as transport:
        all_are_there = asyncio.Event()
        count = 0

        def respond(_: object) -> Script:
            nonlocal count
            count += 1
            if count == 300:
                all_are_there.set()
            return Script(http(200, b"{}"), after=all_are_there)

        endpoint.respond = respond
        async with asyncio.timeout(30):
            await asyncio.gather(*(transport.send(TEMPLATE, b"{}") for _ in range(300)))
        assert endpoint.connections == 300


async def test_a_server_that_closes_at_once_holds_up_nothing() -> None:
    """The call ends as one that failed, and closing the transport waits for no connection that has gone."""
    async with wire() as endpoint, transport_to(endpoint.url, "direct") as transport:
        endpoint.on_connect = lambda _: False
        for _ in range(20):
            with pytest.raises(TransportError):
                await transport.send(TEMPLATE, b"{}")
        began_s = asyncio.get_running_loop().time()
        await transport.aclose()
        assert asyncio.get_running_loop().time() - began_s < 0.5


async def test_a_name_is_found_while_the_threads_of_the_loop_are_taken() -> None:
    """By callers of ``invoke_sync`` in ``asyncio.to_thread``, who wait for just this connection."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    is_done = threading.Event()
    taken = asyncio.create_task(asyncio.to_thread(is_done.wait, 10))
    try:
        async with wire() as endpoint, transport_to(endpoint.url, "direct") as transport:
            assert (await transport.send(TEMPLATE, b"{}")).body == b"{}"
        assert not taken.done()
    finally:
        is_done.set()
        await taken


async def test_a_name_of_both_families_is_reached_by_the_one_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """IPv6 that leads nowhere holds nothing up, and neither does the first of several machines."""
    with socket.socket() as taken:  # IPv4: a machine may have no other, and IPv6 leads nowhere there too
        taken.bind(("127.0.0.1", 0))
        nowhere = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", taken.getsockname()[1], 0, 0))
        refusing = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 1))
        async with wire() as endpoint:
            right = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", endpoint.port))
            for addresses in ([nowhere, right], [right, nowhere], [refusing, right], [right, refusing]):

                async def resolve(*_: object, found: object = addresses) -> object:
                    return found

                monkeypatch.setattr(ConnectionPool, "_resolve", resolve)
                async with transport_to(endpoint.url, "direct") as transport:
                    assert (await transport.send(TEMPLATE, b"{}")).body == b"{}"
