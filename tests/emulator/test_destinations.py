"""What became of Event calls, delivered to queues and topics of moto."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.exceptions import ClientError

from fanout.emulator import EmulatorProcess
from fanout.emulator.destinations import Destinations, Message
from tests.cli.running import wait_until
from tests.emulator.conftest import lambda_client

ACCOUNT = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
ARN = "arn:aws:sqs:us-east-1:123456789012:"
FAST = ["--event-wait-scale", "0.001"]


@pytest.fixture
def sqs(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of moto with the queues ``good``, ``bad`` and ``dead``, empty; the emulator finds them too."""
    for name in ("SQS", "SNS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    client = boto3.client("sqs", endpoint_url=moto, **ACCOUNT)
    for url in client.list_queues().get("QueueUrls", []):
        client.delete_queue(QueueUrl=url)
    for name in ("good", "bad", "dead"):
        client.create_queue(QueueName=name)
    return client


def url_of(sqs: Any, name: str) -> str:
    url: str = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    return url


def messages(sqs: Any, name: str, count: int) -> list[dict[str, Any]]:
    """Receive so many messages; more would be seen too."""
    found: list[dict[str, Any]] = []
    give_up_at_s = time.monotonic() + 60
    while len(found) < count and time.monotonic() < give_up_at_s:
        answer = sqs.receive_message(
            QueueUrl=url_of(sqs, name), MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        found += answer.get("Messages", [])
    assert len(found) == count
    return found


def send(client: Any, name: str, event: Any) -> str:
    reply = client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    request_id: str = reply["ResponseMetadata"]["RequestId"]
    return request_id


def test_records_go_to_their_queues(sqs: Any) -> None:
    """Success and failure each to its own, keyed by request id; a dead letter beside the failure."""
    to = f"on_success={ARN}good,on_failure={ARN}bad,dead_letter={ARN}dead"
    specs = [f'name=f,output={{"ok":true}},{to}', f"name=g,error_rate=1,error_message=no,{to}"]
    with EmulatorProcess(simulate=specs, extra=FAST) as emulator:
        client = lambda_client(emulator.endpoint_url)
        ids = {send(client, "f", {"n": n}): n for n in range(25)}
        failing = send(client, "g", {"n": "x"})
        records = [json.loads(message["Body"]) for message in messages(sqs, "good", 25)]
        for record in records:
            assert record["requestPayload"] == {"n": ids.pop(record["requestContext"]["requestId"])}
            assert record["requestContext"]["condition"] == "Success"
            assert record["responsePayload"] == {"ok": True}
        assert ids == {}
        (failure,) = [json.loads(message["Body"]) for message in messages(sqs, "bad", 1)]
        assert failure["requestContext"]["requestId"] == failing
        assert failure["requestContext"]["condition"] == "RetriesExhausted"
        assert failure["requestContext"]["approximateInvokeCount"] == 3
        (dead,) = messages(sqs, "dead", 1)
        assert json.loads(dead["Body"]) == {"n": "x"}
        attributes = {name: value["StringValue"] for name, value in dead["MessageAttributes"].items()}
        assert attributes == {"RequestID": failing, "ErrorCode": "200", "ErrorMessage": "no"}
        assert emulator.stats()["events"]["delivered"] == 27


def test_the_api_sets_reads_and_checks_destinations(sqs: Any) -> None:
    """Per qualifier, as boto3 puts them; what is no queue is refused."""
    with EmulatorProcess(simulate=["name=f,versions=1"], extra=FAST) as emulator:
        client = lambda_client(emulator.endpoint_url)
        with pytest.raises(ClientError):
            client.get_function_event_invoke_config(FunctionName="f")
        config = {"OnSuccess": {"Destination": f"{ARN}good"}, "OnFailure": {}}
        client.put_function_event_invoke_config(
            FunctionName="f", Qualifier="1", MaximumRetryAttempts=1, DestinationConfig=config
        )
        read = client.get_function_event_invoke_config(FunctionName="f", Qualifier="1")
        assert (read["MaximumRetryAttempts"], read["DestinationConfig"]) == (1, config)
        client.update_function_event_invoke_config(FunctionName="f", Qualifier="1", MaximumRetryAttempts=0)
        read = client.get_function_event_invoke_config(FunctionName="f", Qualifier="1")
        assert (read["MaximumRetryAttempts"], read["DestinationConfig"]) == (0, config)
        (listed,) = client.list_function_event_invoke_configs(FunctionName="f")["FunctionEventInvokeConfigs"]
        assert listed["FunctionArn"].endswith(":function:f:1")
        client.update_function_configuration(FunctionName="f", DeadLetterConfig={"TargetArn": f"{ARN}dead"})
        described = client.get_function(FunctionName="f")["Configuration"]
        assert described["DeadLetterConfig"] == {"TargetArn": f"{ARN}dead"}
        for wrong in ("arn:aws:s3:::bucket", "arn:aws:sqs:us-east-1:1:q"):
            with pytest.raises(ClientError) as caught:
                client.put_function_event_invoke_config(
                    FunctionName="f", DestinationConfig={"OnFailure": {"Destination": wrong}}
                )
            assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
        send(client, "f", {"to": "nobody"})
        send(client, "f:1", {"to": "good"})
        (message,) = messages(sqs, "good", 1)
        assert json.loads(message["Body"])["requestPayload"] == {"to": "good"}


def test_a_queue_that_is_not_there_loses_the_record_and_says_so(sqs: Any) -> None:
    """Counted as lost; the emulator goes on."""
    with EmulatorProcess(simulate=[f"name=f,on_success={ARN}nowhere"], extra=FAST) as emulator:
        client = lambda_client(emulator.endpoint_url)
        send(client, "f", {})
        wait_until(lambda: emulator.stats()["events"]["lost"] == 1)


def test_topics_bring_the_record_as_their_message(sqs: Any, moto: str) -> None:
    """SNS to SQS: the record is the Message of the envelope. One that is too large for SNS is lost."""
    sns = boto3.client("sns", endpoint_url=moto, **ACCOUNT)
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"{ARN}good")
    with EmulatorProcess(simulate=["name=f"], extra=[*FAST, "--on-success", topic]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        send(client, "f", {"n": "x" * 262_144})
        request_id = send(client, "f", {"n": 1})
        (message,) = messages(sqs, "good", 1)
        record = json.loads(json.loads(message["Body"])["Message"])
        assert record["requestContext"]["requestId"] == request_id
        wait_until(lambda: emulator.stats()["events"]["delivered"] >= 1)
        events = emulator.stats()["events"]
        assert (events["delivered"], events["lost"]) == (1, 1)


def test_durable_functions_have_dead_letters_only(sqs: Any) -> None:
    """An execution that fails is a dead letter; destinations are not told."""
    to = f"durable=1h,on_success={ARN}good,on_failure={ARN}bad,dead_letter={ARN}dead"
    with EmulatorProcess(simulate=[f"name=f,{to}", f"name=g,error_rate=1,{to}"], extra=FAST) as emulator:
        client = lambda_client(emulator.endpoint_url)
        send(client, "f:$LATEST", {"n": 1})
        send(client, "g:$LATEST", {"n": 2})
        (dead,) = messages(sqs, "dead", 1)
        assert json.loads(dead["Body"]) == {"n": 2}
        for name in ("good", "bad"):
            assert "Messages" not in sqs.receive_message(QueueUrl=url_of(sqs, name))
        assert emulator.stats()["executions"] == 2


async def test_what_a_topic_has_is_not_sent_again_where_another_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One at a time: the rest alone is tried again."""
    sent: list[str] = []

    class Topic(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            sent.append(form["Message"][0])
            is_refused = len(sent) == 2
            body = b"<ErrorResponse/>" if is_refused else b"<R><PublishResult/></R>"
            self.send_response(403 if is_refused else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Topic) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        destinations = Destinations("us-east-1")
        for body in "abc":
            destinations.send("arn:aws:sns:us-east-1:123456789012:t", Message(body, {}))
        async with asyncio.timeout(60):
            while destinations.delivered + destinations.lost < 3:
                await asyncio.sleep(0.01)
        server.shutdown()
    assert (sent, destinations.delivered, destinations.lost) == (["a", "b", "b", "c"], 3, 0)
