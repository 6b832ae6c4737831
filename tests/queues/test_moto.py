"""Queues of moto, which knows nothing of us, filled by boto3: a run over one, and results through SNS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

import fanout
from fanout.commands.collect import collect
from fanout.commands.collection import Collection
from fanout.commands.event_loop import run_blocking
from fanout.errors import ConfigError
from fanout.runs.audience import Audience
from tests.commands.test_collect import Accepting, record
from tests.scripted import Scripted

REGION = "eu-west-1"
ACCESS: dict[str, Any] = {
    "region_name": REGION, "aws_access_key_id": "a", "aws_secret_access_key": "b"
}  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_SQS": moto,
    }.items():
        monkeypatch.setenv(name, value)


def visible(sqs: Any, url: str) -> list[Any]:
    """What a stranger receives."""
    found: list[Any] = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [json.loads(each["Body"]) for each in messages]
    return found


@pytest.mark.parametrize("form", ["sqs://{name}", "sqs://123456789012/{name}", "sqs://{arn}", "sqs://{url}"])
def test_a_run_takes_what_boto3_sent(moto: str, tmp_path: Path, form: str) -> None:
    """By name, account and name, ARN and URL; afterwards the queue is empty for everybody."""
    sqs = boto3.client("sqs", endpoint_url=moto, **ACCESS)
    name = f"jobs-{len(form)}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    for number in range(3):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"n": number}))
    location = form.format(name=name, arn=f"arn:aws:sqs:{REGION}:123456789012:{name}", url=url)
    transport = Scripted()
    report = fanout.run(
        "f", location, out=tmp_path / "run", transport=transport, concurrency=5, empty_after=1, report=False
    )
    assert report.exit_code == 0
    assert sorted(body["n"] for body in transport.bodies) == [0, 1, 2]
    assert visible(sqs, url) == []


def test_a_queue_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    """Its name, the Region, and what to check."""
    with pytest.raises(ConfigError, match="there is no queue sqs://nowhere in eu-west-1"):
        fanout.run("f", "sqs://nowhere", out=tmp_path / "run", transport=Scripted(), concurrency=1)


def test_results_come_through_a_topic(moto: str, tmp_path: Path) -> None:
    """SNS wraps the destination record; the queue's own messages are taken out of it."""
    sqs = boto3.client("sqs", endpoint_url=moto, **ACCESS)
    sns = boto3.client("sns", endpoint_url=moto, **ACCESS)
    topic = sns.create_topic(Name="results")["TopicArn"]
    url = sqs.create_queue(QueueName="results")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:123456789012:results")
    transport = Accepting()
    out = tmp_path / "run"
    fanout.run(
        "f", [{"n": 1}, {"n": 2}], out=out, transport=transport, concurrency=2, invocation_type="Event"
    )
    for request_id, payload in transport.sent:
        sns.publish(TopicArn=topic, Message=json.dumps(record(request_id, payload)))
    asked = Collection(queues=["sqs://results"], wait_s=10, endpoint_url=moto)
    report = run_blocking(lambda: collect(out, asked, Audience()))
    assert report.counts["succeeded"] == 2
    assert visible(sqs, url) == []
