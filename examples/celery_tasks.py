"""Celery tasks that call a Lambda function: one dispatcher for each worker process, under all its tasks.

In one terminal the function, in another the worker; with a broker of your own leave CELERY_BROKER_URL out:

    fanout emulate examples/handler.py:handler --name price-order --concurrency 20
    AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9001 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local \\
        AWS_SECRET_ACCESS_KEY=local celery --workdir examples -A celery_tasks worker --concurrency 2

Celery forks its worker processes, and its tasks are synchronous: so each process opens its dispatcher
after the fork, on an event loop in a thread. Needs ``pip install celery``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

import fanout

app = Celery("prices", broker=os.environ.get("CELERY_BROKER_URL", "amqp://"))
app.conf.result_backend = os.environ.get("CELERY_RESULT_BACKEND")

# Two processes share the function's concurrency: each takes half.
dispatcher = fanout.Dispatcher(
    os.environ.get("PRICE_FUNCTION", "price-order"), concurrency="50%", deadline=60
)
loop = asyncio.new_event_loop()


@worker_process_init.connect
def open_dispatcher(**_: Any) -> None:
    """After the fork, before the first task."""
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(dispatcher.open(), loop).result()


@worker_process_shutdown.connect
def close_dispatcher(**_: Any) -> None:
    """Calls in flight may finish, for ten seconds at the most."""
    asyncio.run_coroutine_threadsafe(dispatcher.aclose(10), loop).result()


@app.task(autoretry_for=(ConnectionError,), retry_backoff=True, max_retries=5)
def price(order: dict[str, Any]) -> Any:
    """Price one order. What never ran is tried again by Celery; what may have run is not."""
    outcome = dispatcher.invoke_sync(order)
    if outcome.ok:
        return outcome.output
    reason = outcome.status if outcome.error is None else f"{outcome.error.type}: {outcome.error.message}"
    if outcome.status == "undelivered":
        raise ConnectionError(reason)
    raise RuntimeError(reason)
