"""Log lines of a handler: errors and the logging module, as text or JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

_LOG_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"


def log_error(error: dict[str, Any], *, as_json: bool) -> None:
    """Write an error object to the log."""
    if as_json:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"timestamp": stamp, "level": "ERROR", **error})
    else:
        title = f"[ERROR] {error['errorType']}: {error['errorMessage']}"
        line = "\n".join([title, "Traceback (most recent call last):", *error["stackTrace"]])
    sys.stdout.write(line.rstrip("\n") + "\n")


class RequestIds(logging.Filter):
    """Gives every record the id of the call it was written in."""

    request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the id; keeps every record."""
        record.aws_request_id = self.request_id
        return True


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": getattr(record, "aws_request_id", ""),
        }
        if record.exc_info:
            entry["stackTrace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def set_up_logging(*, as_json: bool) -> RequestIds:
    """Send the logging module's records to the log, in Lambda's format."""
    handler = logging.StreamHandler(sys.stdout)
    formatter = _JsonFormatter() if as_json else logging.Formatter(_LOG_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    request_ids = RequestIds()
    handler.addFilter(request_ids)
    logging.getLogger().addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    if level in logging.getLevelNamesMapping():
        logging.getLogger().setLevel(level)
    return request_ids
