"""One process asks Lambda about one function once a minute, however many dispatchers it opens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from fanout.config import Concurrency
from fanout.quotas import Quotas, discover
from fanout.quotas.recent_answers import RecentAnswers, ScopedAnswers

pytestmark = pytest.mark.looptime

FUNCTION = {"Configuration": {"Timeout": 30}, "Concurrency": {"ReservedConcurrentExecutions": 50}}


class Refused(Exception):
    code = "ResourceNotFoundException"


class Api:
    """Counts what it is asked."""

    def __init__(self, function: Any = FUNCTION) -> None:
        self.function = function
        self.asked = 0

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        self.asked += 1
        await asyncio.sleep(0.05)
        if "account" in path:
            return {"AccountLimit": {"ConcurrentExecutions": 1_000}}
        if isinstance(self.function, Exception):
            raise self.function
        return self.function  # type: ignore[no-any-return]


async def ask(api: Api, recent: ScopedAnswers, function: str = "f") -> Quotas:
    return await discover(api, function=function, concurrency=Concurrency(), recent=recent)


async def test_a_minute_of_dispatchers_asks_once() -> None:
    """At once or one after the other; after a minute it is asked again."""
    loop = asyncio.get_running_loop()
    recent, api = RecentAnswers(clock=loop.time).scoped("endpoint"), Api()
    found = await asyncio.gather(*(ask(api, recent) for _ in range(20)))
    assert {quotas.budget for quotas in found} == {50}
    await asyncio.sleep(30)
    await ask(api, recent)
    assert api.asked == 2
    await asyncio.sleep(30)
    await ask(api, recent)
    assert api.asked == 4


async def test_other_functions_and_endpoints_are_other_questions() -> None:
    """What holds for one says nothing about another."""
    answers, api = RecentAnswers(clock=asyncio.get_running_loop().time), Api()
    await ask(api, answers.scoped("here"))
    await ask(api, answers.scoped("here"), "g")
    await ask(api, answers.scoped("there"))
    assert api.asked == 6


async def test_what_may_change_at_once_is_not_remembered() -> None:
    """A function that is missing may be there in a moment."""
    recent, api = RecentAnswers(clock=asyncio.get_running_loop().time).scoped(), Api(Refused())
    assert (await ask(api, recent)).function_missing
    api.function = FUNCTION
    assert not (await ask(api, recent)).function_missing


async def test_who_asks_and_leaves_leaves_nobody_without_an_answer() -> None:
    """A dispatcher that is cancelled in mid-question is not the only one that asks."""
    recent, api = RecentAnswers(clock=asyncio.get_running_loop().time).scoped(), Api()
    first = asyncio.ensure_future(ask(api, recent))
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(ask(api, recent))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).budget == 50
