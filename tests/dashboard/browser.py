"""Chromium, steered over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """One page."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.log: list[str] = []

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something; what it logs meanwhile is kept."""
        number = next(self._ids)
        await self._socket.write_message(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            text = await asyncio.wait_for(self._socket.read_message(), 30)
            assert text is not None
            message: dict[str, Any] = json.loads(text)
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.log.append(json.dumps(message["params"]))

    async def value(self, expression: str) -> Any:
        """What a piece of JavaScript gives; a promise is waited for."""
        reply = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        return reply["result"].get("value")

    async def wait(self, expression: str, within_s: float = 30) -> None:
        """Until it is true."""
        async with asyncio.timeout(within_s):
            while not await self.value(expression):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def opened(address: str, profile: Path, *arguments: str) -> AsyncIterator[Tab]:
    """A tab that shows this address."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}", *arguments, "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": "/tmp"},  # for its socket, whose name must be short
    )
    tabs: list[Tab] = []
    try:
        port_file = profile / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not port_file.exists() or len(port_file.read_text().splitlines()) < 2:
                await asyncio.sleep(0.05)
        port, path = port_file.read_text().splitlines()[:2]
        browser = Tab(await websocket_connect(f"ws://127.0.0.1:{port}{path}"))
        tabs.append(browser)
        target = (await browser.call("Target.createTarget", url="about:blank"))["targetId"]
        tab = Tab(
            await websocket_connect(
                f"ws://127.0.0.1:{port}/devtools/page/{target}", max_message_size=50 << 20
            )
        )
        tabs.append(tab)
        await tab.call("Runtime.enable")
        await tab.call("Log.enable")
        await tab.call("Page.enable")
        await tab.call("Page.navigate", url=address)
        yield tab
    finally:
        for each in tabs:
            each.close()
        await asyncio.sleep(0)
        process.terminate()
        process.wait(10)
