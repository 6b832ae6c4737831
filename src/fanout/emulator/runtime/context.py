"""Context object, the handler's second argument, with the members of AWS's Python runtime."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


class _Bag:
    """An object made of a dict, as the context's identity and client are."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__dict__!r})"


class LambdaContext:
    """The second argument of a handler, with the members that AWS's runtime gives it."""

    def __init__(self, headers: dict[str, str]) -> None:
        environ = os.environ
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.function_name = environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms", "0"))
        self.client_context = self._client(headers.get("lambda-runtime-client-context"))
        identity = json.loads(headers.get("lambda-runtime-cognito-identity") or "{}") or {}
        self.identity = _Bag(
            cognito_identity_id=identity.get("cognitoIdentityId"),
            cognito_identity_pool_id=identity.get("cognitoIdentityPoolId"),
        )

    def get_remaining_time_in_millis(self) -> int:
        """Say how long the handler may still run, in milliseconds; never below 0."""
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message: object) -> None:
        """Write to the log as it is."""
        sys.stdout.write(str(message))

    @staticmethod
    def _client(text: str | None) -> _Bag | None:
        if not text:
            return None
        given = json.loads(text)
        client = given.get("client") or {}
        names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
        return _Bag(
            custom=given.get("custom"),
            env=given.get("env"),
            client=_Bag(**{name: client.get(name) for name in names}) if client else None,
        )
