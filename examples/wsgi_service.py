"""A synchronous web service under gunicorn: one dispatcher for each worker process, under all its threads.

In one terminal the function, in another the service, in a third a client:

    fanout emulate examples/handler.py:handler --name price-order --concurrency 20
    AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9001 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local \\
        AWS_SECRET_ACCESS_KEY=local gunicorn --chdir examples wsgi_service:app --workers 2 --threads 8
    head -n 1 examples/orders.jsonl | curl -s http://127.0.0.1:8000 -d @-

gunicorn forks, with ``--preload`` after it has imported this: so the dispatcher is opened by the first
request of each process, on an event loop in a thread. Flask and Django do the same with ``dispatcher()``.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import fanout

FUNCTION = os.environ.get("PRICE_FUNCTION", "price-order")
_opening = threading.Lock()


def dispatcher() -> fanout.Dispatcher:
    """The one of this process."""
    with _opening:
        return _dispatcher_of(os.getpid())


@cache
def _dispatcher_of(pid: int) -> fanout.Dispatcher:  # noqa: ARG001 - a forked process opens its own
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    # Two processes share the function's concurrency: each takes half.
    made = fanout.Dispatcher(FUNCTION, concurrency="50%", retries=2, deadline=10)
    asyncio.run_coroutine_threadsafe(made.open(), loop).result()
    atexit.register(lambda: asyncio.run_coroutine_threadsafe(made.aclose(10), loop).result())
    return made


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Price the order in the body of the request."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    outcome = dispatcher().invoke_sync(body)
    if outcome.ok:
        status, reply = "200 OK", outcome.output
    else:
        passing = outcome.status in ("undelivered", "unknown")
        status = "503 Service Unavailable" if passing else "422 Unprocessable Content"
        reply = {"status": outcome.status, "error": None if outcome.error is None else outcome.error.message}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(reply).encode()]
