"""Handlers that know nothing of fanout, unchanged: AWS Lambda Powertools, Node, a Distributed Map's child."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fanout import Dispatcher
from fanout.emulator import EmulatorProcess
from fanout.model import Outcome

NODE = shutil.which("node")
HANDLERS = Path(__file__).parent / "handlers"


def invoke_all(handler: str, records: list[Any], *extra: str, **options: Any) -> list[Outcome]:
    """Map records through a handler of ``handlers``, in order of the records."""

    async def main(endpoint_url: str) -> list[Outcome]:
        async with Dispatcher(
            Path(handler).stem if ":" not in handler else handler.partition(".")[0],
            endpoint_url=endpoint_url,
            region="eu-west-1",
            concurrency=4,
            **options,
        ) as dispatcher:
            return [outcome async for outcome in dispatcher.map(records, ordered=True)]

    with EmulatorProcess(
        handler=f"{HANDLERS}/{handler}", extra=["--quiet", "--region", "eu-west-1", *extra]
    ) as emulator:
        return asyncio.run(main(emulator.endpoint_url))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dummy ones."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def statuses(outcomes: list[Outcome]) -> list[str]:
    """The status of each record."""
    return [outcome.status for outcome in outcomes]


@pytest.mark.slow
def test_powertools_batch_processor() -> None:
    """It raises where every record fails, and names them where some do: one record ends alike in both."""
    pytest.importorskip("aws_lambda_powertools")
    records = [{"n": n, "fail": n in (1, 4)} for n in range(5)]
    together = invoke_all("powertools_queue.py:handler", records, batch=2, batch_shape="sqs")
    alone = invoke_all("powertools_queue.py:handler", records, batch_shape="sqs")
    expected = ["succeeded", "function_error", "succeeded", "succeeded", "function_error"]
    assert statuses(together) == statuses(alone) == expected
    errors = [outcome.error.type for outcome in together if outcome.error is not None]
    assert errors == ["BatchItemFailure", "BatchProcessingError"]  # named by two, raised by one


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_a_node_handler_with_batch_item_failures() -> None:
    """The failed one is named by its messageId; the others have succeeded."""
    records = [{"n": n, "fail": n == 2} for n in range(4)]
    outcomes = invoke_all(
        "node_queue.js:handler", records, "--bootstrap", "node node_queue.js", batch=4, batch_shape="sqs"
    )
    assert statuses(outcomes) == ["succeeded", "succeeded", "function_error", "succeeded"]
    assert {outcome.batch.size for outcome in outcomes if outcome.batch is not None} == {4}


@pytest.mark.slow
def test_a_child_of_a_distributed_map() -> None:
    """One reply for all its items; one bad item fails its batch, or with bisect itself alone."""
    records = [{"price": n} for n in range(1, 7)]
    outcomes = invoke_all("map_child.py:handler", records, batch=3, batch_input={"currency": "EUR"})
    assert statuses(outcomes) == ["succeeded"] * 6
    assert [outcome.output for outcome in outcomes] == [
        {"total": "6 EUR"},
        None,
        None,
        {"total": "15 EUR"},
        None,
        None,
    ]
    records[4] = {"price": None}  # type: ignore[dict-item]
    outcomes = invoke_all("map_child.py:handler", records, batch=3, batch_input={"currency": "EUR"})
    assert statuses(outcomes) == ["succeeded"] * 3 + ["function_error"] * 3
    outcomes = invoke_all(
        "map_child.py:handler",
        records,
        batch=3,
        batch_input={"currency": "EUR"},
        bisect=True,
        idempotent=True,
    )
    assert [outcome.seq for outcome in outcomes if not outcome.ok] == [4]
    assert json.dumps(outcomes[4].input) == '{"price": null}'
