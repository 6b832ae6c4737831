"""Options: what is refused names the option, its value and what is allowed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fanout.config import Concurrency, Options, parse_concurrency
from fanout.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (5, Concurrency(fixed=5)),
        ("17", Concurrency(fixed=17)),
        (" 40% ", Concurrency(percent=40.0)),
        ("0.5%", Concurrency(percent=0.5)),
        ("auto", Concurrency()),
        ("@limit.txt", Concurrency(file="limit.txt")),
    ],
)
def test_a_concurrency_is_a_number_a_share_auto_or_a_file(value: int | str, parsed: Concurrency) -> None:
    """In the four forms that the command takes."""
    assert parse_concurrency(value) == parsed


@pytest.mark.parametrize("value", [0, -1, "0", "x", "", "%", "0%", "101%", "nan%", "@", True, "1.5", "1e3"])
def test_any_other_concurrency_is_refused(value: Any) -> None:
    """Naming it and the four forms."""
    with pytest.raises(ConfigError, match=r"^concurrency is .*: give a whole number from 1, a share"):
        parse_concurrency(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("function", ""),
        ("rate", 0),
        ("rate", -1.0),
        ("rate", math.nan),
        ("rate", "10"),
        ("retries", -1),
        ("retries", 1.5),
        ("retries", True),
        ("retry_function_errors", -1),
        ("retry_on", "ValueError"),
        ("retry_on", [1]),
        ("idempotent", "no"),
        ("bisect", 1),
        ("timeout", 0),
        ("timeout", math.nan),
        ("deadline", -1),
        ("throttle_patience", 0),
        ("connect_timeout", 0),
        ("max_bytes_in_flight", 0),
        ("breaker", 0),
        ("breaker", 2.5),
        ("invocation_type", "Sync"),
        ("log_type", "tail"),
        ("transport", "http"),
        ("endpoint_url", "localhost:9001"),
    ],
)
def test_a_wrong_option_is_refused_at_construction(name: str, value: Any) -> None:
    """One line: the option, its value, what is allowed."""
    with pytest.raises(ConfigError) as caught:
        Options(**{"function": "f", name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is {value!r}: give ")
    assert "\n" not in message


def test_the_defaults_are_the_commands() -> None:
    """Three retries, none of function errors, everything the account allows."""
    options = Options(function="f")
    assert (options.concurrency, options.retries, options.retry_function_errors) == ("auto", 3, 0)
    assert (options.transport, options.idempotent, options.log_type) == ("direct", False, "None")
