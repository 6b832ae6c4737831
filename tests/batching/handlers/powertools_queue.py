"""A queue's consumer as AWS Lambda Powertools' documentation has it."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

processor = BatchProcessor(event_type=EventType.SQS)


def record_handler(record: SQSRecord) -> None:
    """One message."""
    if record.json_body["fail"]:
        raise ValueError(f"bad record {record.json_body['n']}")


def handler(event: dict[str, Any], context: Any) -> Any:
    """All messages of an event."""
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )
