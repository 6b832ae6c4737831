"""Values of a caller's that are of no use: named at once, or one record's outcome."""

from __future__ import annotations

import pytest

from fanout import ConfigError, Dispatcher, FatalRefusal, Record
from tests.scripted import Scripted

pytestmark = pytest.mark.looptime


class _NoText:
    def __str__(self) -> str:
        raise RuntimeError("no")


async def test_a_key_without_a_text_is_one_records_fault() -> None:
    """The others are sent."""
    records = [Record(1, key=_NoText()), Record(2, key=7)]  # type: ignore[arg-type]
    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        bad, good = [outcome async for outcome in dispatcher.map(records, ordered=True)]
    assert bad.error is not None
    assert (bad.error.type, bad.error.message) == ("InvalidKey", "_NoText has no text: RuntimeError")
    assert (good.key, good.ok) == ("7", True)


async def test_what_cannot_hold_is_refused_at_once() -> None:
    """A file as the new concurrency, and a batch's input that has no JSON form."""
    with pytest.raises(ConfigError, match="batch_input"):
        Dispatcher("f", transport=Scripted(), concurrency=1, batch=2, batch_input=_NoText())
    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        with pytest.raises(ConfigError, match="concurrency is '@file': give a number"):
            dispatcher.tune(concurrency="@file")
        with pytest.raises(ConfigError, match="pause is 'no': give True or False"):
            dispatcher.tune(pause="no")  # type: ignore[arg-type]


async def test_credentials_that_are_gone_stop_the_calls() -> None:
    """A transport that cannot sign says so: nothing was sent."""
    gone = FatalRefusal("no AWS credentials were found", code="NoCredentials")
    async with Dispatcher("f", transport=Scripted([gone, gone]), concurrency=1) as dispatcher:
        with pytest.raises(FatalRefusal, match="no AWS credentials were found"):
            await dispatcher.invoke(1)
        with pytest.raises(FatalRefusal, match="no AWS credentials were found"):
            _ = [outcome async for outcome in dispatcher.map([1, 2])]


async def test_a_parameter_whose_own_code_fails_is_its_records_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Templates of many parameters are not all kept."""

    class Odd(dict[str, str]):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    monkeypatch.setattr("fanout.dispatcher.call_maker._TEMPLATES_KEPT", 4)
    records = [Record(number, qualifier=str(number + 1)) for number in range(20)]
    async with Dispatcher("f", transport=Scripted(), concurrency=5) as dispatcher:
        odd = await dispatcher.invoke(Record(1, client_context=Odd(a="b")))
        assert odd.error is not None
        assert odd.client_context == "<Odd>"
        assert odd.error.message == "a parameter raised RuntimeError"
        assert all([outcome.ok async for outcome in dispatcher.map(records)])
