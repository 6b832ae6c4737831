"""Queue locations: every way to name a queue, and what is refused."""

from __future__ import annotations

import pytest

from fanout.errors import ConfigError
from fanout.queues import is_queue, parse_queue


@pytest.mark.parametrize(
    ("location", "name", "account", "region", "url"),
    [
        ("sqs://jobs", "jobs", None, None, None),
        ("sqs://123456789012/jobs", "jobs", "123456789012", None, None),
        ("sqs://arn:aws:sqs:eu-west-1:123456789012:jobs", "jobs", "123456789012", "eu-west-1", None),
        (
            "sqs://https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
            "jobs",
            "123456789012",
            "eu-west-1",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
        ),
        (
            "sqs://https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs",
            "jobs",
            "123456789012",
            "cn-north-1",
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs",
        ),
        (
            "sqs://http://127.0.0.1:5000/123456789012/jobs",
            "jobs",
            "123456789012",
            None,
            "http://127.0.0.1:5000/123456789012/jobs",
        ),
    ],
)
def test_a_queue_is_named_in_any_usual_way(
    location: str, name: str, account: str | None, region: str | None, url: str | None
) -> None:
    """Name, account and name, ARN and URL say what they hold, and nothing more."""
    queue = parse_queue(location)
    assert (queue.name, queue.account, queue.region, queue.url) == (name, account, region, url)
    assert is_queue(location)


@pytest.mark.parametrize(
    "location",
    [
        "sqs://",
        "sqs://a b",
        "sqs://12/jobs",
        "sqs://arn:aws:sns:eu-west-1:123456789012:t",
        "sqs://http://h/x",
        "sqs://https://[x/123456789012/jobs",
    ],
)
def test_what_names_no_queue_is_refused(location: str) -> None:
    """The message names the location and says what is allowed."""
    with pytest.raises(ConfigError, match="names no queue"):
        parse_queue(location)


def test_a_fifo_queue_is_refused() -> None:
    """A held message of a FIFO queue blocks its group."""
    with pytest.raises(ConfigError, match="FIFO"):
        parse_queue("sqs://jobs.fifo")
