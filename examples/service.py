"""An async service that calls a Lambda function for each item of a request, under one shared budget.

However many requests come at once, together they never have more calls in flight than the function
is allowed: the dispatcher is one for the whole process. In one terminal the function, in another the
service, in a third a client:

    fanout emulate examples/handler.py:handler --name price-order --concurrency 20
    AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9001 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local \\
        AWS_SECRET_ACCESS_KEY=local uvicorn --app-dir examples service:app
    head -n 50 examples/orders.jsonl | jq -s '{orders: .}' |
        curl -s http://127.0.0.1:8000/quotes -H 'Content-Type: application/json' -d @-

Against AWS leave the variables out (or use your profile's). Needs ``pip install fastapi uvicorn``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

import fanout

FUNCTION = os.environ.get("PRICE_FUNCTION", "price-order")


class Quotes(BaseModel):
    """What a client sends: any number of orders."""

    orders: list[dict[str, Any]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One dispatcher for the life of the process. Leaving waits for the calls in flight, 20 s at the most."""
    async with fanout.Dispatcher(FUNCTION, retries=2, deadline=10, grace=20) as dispatcher:
        app.state.dispatcher = dispatcher
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/quotes")
async def quotes(body: Quotes, request: Request) -> dict[str, Any]:
    """Price all orders at once. Those that cannot be priced are told apart, the others still count."""
    dispatcher: fanout.Dispatcher = request.app.state.dispatcher
    outcomes = await asyncio.gather(*(dispatcher.invoke(order) for order in body.orders))
    priced = [outcome.output for outcome in outcomes if outcome.ok]
    return {
        "total_eur": round(sum(quote["total_eur"] for quote in priced), 2),
        "priced": priced,
        "failed": [
            {"order": order.get("id"), "status": outcome.status, "error": _reason(outcome)}
            for order, outcome in zip(body.orders, outcomes, strict=True)
            if not outcome.ok
        ],
    }


@app.post("/quote")
async def quote(order: dict[str, Any], request: Request) -> Any:
    """Price one order: what went wrong becomes the status code that says so."""
    outcome = await request.app.state.dispatcher.invoke(order)
    if outcome.ok:
        return outcome.output
    code = 422 if outcome.status in ("function_error", "rejected") else 503
    raise HTTPException(code, _reason(outcome))


def _reason(outcome: fanout.Outcome) -> str:
    return outcome.status if outcome.error is None else f"{outcome.error.type}: {outcome.error.message}"
