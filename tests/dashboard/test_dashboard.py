"""The live page: who may ask, what is sent, what may be changed, and that it ends with its run."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fanout.dashboard import Dashboard
from fanout.errors import ConfigError
from fanout.model import ErrorDetail, Outcome
from fanout.stats import Stats, WorkerPace
from tests.dashboard.browser import CHROMIUM, opened

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[2J"


class Watched:
    """A run that has begun."""

    def __init__(self) -> None:
        self.stats = Stats(started_s=0.0)
        self.changes: list[Mapping[str, Any]] = []
        error = ErrorDetail(type=HOSTILE, message=HOSTILE)
        for seq in range(20):
            status = "succeeded" if seq else "function_error"
            self.stats.add(
                Outcome(
                    seq=seq,
                    status=status,  # type: ignore[arg-type]
                    attempts=1,
                    throttles=0,
                    duration_ms=100.0 + seq,
                    error=None if seq else error,
                )
            )
        self.stats.sample(now_s=1.0, in_flight=5, limit=10, cause="fixed")

    def tune(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Changes what is asked, but for a rate."""
        if "rate" in changes:
            raise ConfigError("rate is 'x': give more than 0")
        self.changes.append(changes)
        return {"concurrency": 7}


@pytest.fixture
def watched() -> Watched:
    """One of them."""
    return Watched()


@pytest.fixture
async def dashboard(watched: Watched) -> AsyncIterator[Dashboard]:
    """Its page."""
    async with Dashboard("resize", port=0) as made:
        made.attach(watched, watched.tune)
        show(made, watched)
        yield made


def show(dashboard: Dashboard, watched: Watched, workers: Sequence[WorkerPace] = ()) -> None:
    """A snapshot."""
    stats = watched.stats
    dashboard.update(
        stats.snapshot(now_s=1.0, in_flight=5, limit=10, cause="fixed", total=40, workers=workers)
    )


async def ask(
    dashboard: Dashboard,
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: bytes = b"",
    **headers: str,
) -> tuple[int, str]:
    """Status and the whole reply, as a browser or a stranger would get it."""
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", dashboard.address)
    assert found
    reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
    lines = [f"{method} {path}?token={found[2] if token is None else token} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "Host" not in headers:
        lines.append(f"Host: 127.0.0.1:{found[1]}")
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    reply = (await asyncio.wait_for(reader.read(), 60)).decode()
    writer.close()
    return int(reply.split(" ", 2)[1]), reply


async def test_the_page_has_nothing_from_outside(dashboard: Dashboard) -> None:
    """Whole, not to be framed, kept or referred from, with a script named by its hash alone."""
    status, reply = await ask(dashboard, "GET", "/")
    assert status == 200
    assert "<h1>resize" in reply
    assert not re.search(r"(src|href)=.(?!data:,)", reply)
    assert "default-src 'none'; script-src 'sha256-" in reply
    for header in ("cache-control: no-store", "referrer-policy: no-referrer", "x-frame-options: DENY"):
        assert header in reply


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/", {"token": ""}, 403),
        ("/", {"token": "guess"}, 403),
        ("/events", {"token": "guess"}, 403),
        ("/", {"Origin": "http://evil.example"}, 403),
        ("/events", {"Origin": "null"}, 403),
        ("/events", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("/elsewhere", {}, 404),
        ("/tune", {}, 404),
        ("/", {"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
        ("/", {"Host": "[::1]:9"}, 200),
        ("/", {"Host": "evil.example:9", "Origin": "http://evil.example:9"}, 403),
        ("/", {"Host": "127.0.0.1.evil.example"}, 403),
        ("/events", {"Host": ""}, 403),
    ],
)
async def test_who_may_ask(dashboard: Dashboard, path: str, asked: dict[str, str], status: int) -> None:
    """Whoever has the token, from a page of the same origin or from none; a tunnel ends at localhost."""
    assert (await ask(dashboard, "GET", path, **asked))[0] == status  # type: ignore[arg-type]


async def test_a_stranger_changes_nothing(dashboard: Dashboard, watched: Watched) -> None:
    """Neither a page of another origin that knows the token, nor anybody who does not."""
    for asked in ({"token": "guess"}, {"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        assert (await ask(dashboard, "POST", "/tune", body=b'{"concurrency":1}', **asked))[0] == 403
    assert watched.changes == []


async def test_changes(dashboard: Dashboard, watched: Watched) -> None:
    """What is asked is done and said; what cannot be, and what is no JSON, is refused in one line."""
    status, reply = await ask(dashboard, "POST", "/tune", body=b'{"concurrency":7}')
    assert (status, json.loads(reply.rpartition("\r\n\r\n")[2])) == (200, {"concurrency": 7})
    assert watched.changes == [{"concurrency": 7}]
    assert (await ask(dashboard, "POST", "/tune", body=b'{"rate":"x"}'))[0] == 400
    assert (await ask(dashboard, "POST", "/tune", body=b"[1"))[0] == 400
    assert (await ask(dashboard, "POST", "/tune", body=b" " * 20_000))[0] == 413
    dashboard.attach(watched, None)
    assert (await ask(dashboard, "POST", "/tune", body=b"{}"))[0] == 409


async def reader_of(dashboard: Dashboard) -> asyncio.Task[tuple[int, str]]:
    """Somebody who has the page open, and gets all of its events."""
    reading = asyncio.create_task(ask(dashboard, "GET", "/events"))
    async with asyncio.timeout(60):
        while not dashboard._app.has_readers:
            await asyncio.sleep(0.01)
    return reading


async def test_events_tell_the_run_and_end_with_it(watched: Watched) -> None:
    """All at once for a new reader, then what is new, then the end: and the server is gone."""
    async with Dashboard("resize", port=0) as dashboard:
        dashboard.attach(watched)
        show(dashboard, watched)
        reading = await reader_of(dashboard)
        dashboard.finish("finished", "It is over.")
    status, reply = await reading
    assert (status, "text/event-stream" in reply) == (200, True)
    events = re.findall(r"event: (\w+)\r?\ndata: (.*)\n", reply)
    assert [name for name, _ in events[:5]] == ["now", "part", "part", "part", "part"]
    now = json.loads(events[0][1])
    assert (now["words"]["records"], now["fraction"]) == ("20", 0.5)
    assert "limit: as asked" in now["words"]["flight-below"]
    failures = next(json.loads(data) for name, data in events if '"failures"' in data)
    assert "<img" not in failures["html"]
    assert "\x1b" not in failures["html"]
    assert "onerror" in failures["html"]
    assert (events[-1][0], json.loads(events[-1][1])["said"]) == ("end", "It is over.")
    with pytest.raises(ConnectionRefusedError):
        await ask(dashboard, "GET", "/")


async def test_each_worker_has_a_row(dashboard: Dashboard, watched: Watched) -> None:
    """Where a run has some: those at work before those that were lost, and names do nothing."""
    show(
        dashboard,
        watched,
        workers=[WorkerPace(HOSTILE, 0, 0.0, 3, 61), WorkerPace("10.0.0.2:9", 7, 51.5, 1234)],
    )
    reading = await reader_of(dashboard)
    dashboard.finish("finished", "It is over.")
    dashboard._app.publish(None)
    found = re.search(r'data: (\{"id":"workers".*)\n', (await reading)[1])
    assert found
    rows = re.sub(r"<[^<>]*>", " ", json.loads(found[1])["html"]).split("10.0.0.2:9")
    assert rows[1].split()[:3] == ["7", "52", "1,234"]
    assert "lost; 61 records may have run" in rows[1]
    assert "<img" not in found[1]
    assert "\x1b" not in found[1]


async def test_a_reader_that_leaves_or_does_not_keep_up_is_let_go(
    dashboard: Dashboard, watched: Watched
) -> None:
    """Events wait for nobody without an end: it may ask again, and has all at once."""
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", dashboard.address)
    assert found

    async def listen() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
        host = f"Host: 127.0.0.1:{found[1]}"
        writer.write(f"GET /events?token={found[2]} HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n".encode())
        await reader.readuntil(b"event: now")
        return reader, writer

    app = dashboard._app
    _, writer = await listen()
    assert not app.emptied.is_set()
    writer.close()
    async with asyncio.timeout(60):
        await app.emptied.wait()
        reader, writer = await listen()
        for _ in range(10_000):
            app.publish(b": nothing\n\n")
        assert not app.has_readers
        assert len(await reader.read()) < 100_000
    writer.close()


async def test_workers_beyond_the_first_are_counted(dashboard: Dashboard, watched: Watched) -> None:
    """One that was lost with nothing in its hands is lost all the same."""
    workers = [WorkerPace(f"w{number}", 1, 2.0, 3, 0 if number else None) for number in range(300)]
    show(dashboard, watched, workers)
    reading = await reader_of(dashboard)
    dashboard.finish("finished", "It is over.")
    await dashboard.__aexit__(None, None, None)
    reply = (await reading)[1]
    assert re.search(r"\d+ more</th>", reply)
    assert ">lost</td>" in reply


async def test_a_port_that_is_taken(dashboard: Dashboard) -> None:
    """One line that names it."""
    port = int(re.findall(r":(\d+)/", dashboard.address)[0])
    with pytest.raises(ConfigError, match=f"dashboard {port}: .*choose another port"):
        Dashboard("f", port=port)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
async def test_in_a_browser(watched: Watched, tmp_path: Path) -> None:
    """It shows the run and goes on doing so, changes it, survives a reload, and says when it is over."""
    async with Dashboard("resize", port=0) as dashboard:
        dashboard.attach(watched, watched.tune)
        show(dashboard, watched)
        async with opened(dashboard.address, tmp_path / "profile", "--window-size=500,900") as tab:
            await tab.wait("Number(document.body.dataset.events) > 2")
            assert await tab.value("document.getElementById('records').textContent") == "20"
            drawn = (
                "[...document.querySelectorAll('figure svg')].map((svg) => svg.closest('figure').id).join()"
            )
            assert await tab.value(drawn) == "plot-throughput,plot-latency,plot-flight"
            assert await tab.value("document.querySelector('.workers').hidden")
            assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
            for second in range(2, 4):
                watched.stats.add(Outcome(seq=second + 50, status="succeeded", attempts=1, throttles=0))
                watched.stats.sample(now_s=float(second), in_flight=5, limit=10, cause="fixed")
            show(dashboard, watched)
            await tab.wait("document.getElementById('records').textContent === '22'")
            await tab.value("document.querySelector('[name=concurrency]').value = '7'")
            await tab.value("document.querySelector('#tune [type=submit]').click()")
            await tab.wait("document.getElementById('answer').textContent === 'Now in force: concurrency 7'")
            await tab.value("document.getElementById('pause').click()")
            await tab.wait("document.getElementById('answer').textContent !== '…'")
            await tab.call("Page.reload")
            await tab.wait("Number(document.body?.dataset.events) > 1")
            assert await tab.value("document.getElementById('records').textContent") == "22"
            assert await tab.value("document.querySelectorAll('img').length") == 0
            dashboard.finish("finished", "It is over.")
            await tab.wait("document.getElementById('said').textContent === 'It is over.'")
            assert await tab.value("document.title") == "resize: finished"
            assert await tab.value("document.getElementById('controls').hidden")
            assert tab.log == []
    assert watched.changes == [{"concurrency": 7}, {"pause": True}]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
async def test_in_a_browser_by_ear_on_a_phone_and_from_elsewhere(watched: Watched, tmp_path: Path) -> None:
    """What can be used has a name, a phone is wide enough, and another origin changes nothing."""
    async with Dashboard("resize", port=0) as dashboard:
        dashboard.attach(watched, watched.tune)
        show(
            dashboard, watched, [WorkerPace("worker-of-a-very-long-name.internal:39993", 7, 51.5, 1_234_567)]
        )
        async with opened(dashboard.address, tmp_path / "profile") as tab:
            phone = {"width": 360, "height": 740, "deviceScaleFactor": 3, "mobile": True}
            await tab.call("Emulation.setDeviceMetricsOverride", **phone)
            await tab.wait("Number(document.body.dataset.events) > 2")
            assert await tab.value("document.getElementById('workers').textContent.includes('1,234,567')")
            assert await tab.value("document.documentElement.scrollWidth") <= 360
            small = "[...document.querySelectorAll('button, input')]"
            small += ".filter((each) => each.getBoundingClientRect().height < 24).map((each) => each.name)"
            assert await tab.value(small) == []  # WCAG 2.5.8

            await tab.call("Accessibility.enable")
            nodes = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
            named = [
                (node["role"]["value"], node.get("name", {}).get("value", ""))
                for node in nodes
                if not node["ignored"]
            ]
            roles = ("textbox", "button", "progressbar", "heading", "image", "img", "region")
            assert [each for each in named if each[0] in roles and not each[1]] == []
            assert ("textbox", "Concurrency") in named
            assert {name for role, name in named if role == "button"} == {"Apply", "Pause", "Continue"}
            assert ("progressbar", "Records finished") in named

            await tab.call("Page.navigate", url="data:text/html,elsewhere")
            await tab.wait("document.body.textContent === 'elsewhere'")
            asked = {"method": "POST", "mode": "no-cors", "body": '{"concurrency":1}'}
            place = dashboard.address.replace("/?", "/tune?")
            await tab.value(f"fetch({json.dumps(place)}, {json.dumps(asked)}).then(() => 0, () => 1)")
    assert watched.changes == []
