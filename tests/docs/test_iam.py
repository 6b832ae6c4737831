"""docs/iam.md names every action that the code needs: read from the operations that stand in its source."""

from __future__ import annotations

import ast
import re

import botocore.session
from botocore import xform_name

from .pages import ROOT, text

SERVICES = ("lambda", "sqs", "s3", "cloudwatch")
ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "lambda:InvokeWithResponseStream": "lambda:InvokeFunction",
    "lambda:GetFunctionConfiguration": "lambda:GetFunctionConfiguration",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
}
# AWS asks for the first three behind S3 and SQS, or of the function's own role; the last is asked by path.
WITHOUT_A_CALL = {"kms:Decrypt", "kms:GenerateDataKey", "sqs:SendMessage", "lambda:ListFunctions"}


def operations() -> dict[str, str]:
    """Every operation of the services, by its name and by the name of its method."""
    session = botocore.session.Session()
    found = {}
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            found[name] = found[xform_name(name)] = f"{service}:{name}"
    del found["invoke"]  # the library's own word
    return found


def called() -> set[str]:
    """The operations that stand in the source as a text or as a method."""
    known = operations()
    found = set()
    for path in (ROOT / "src" / "fanout").rglob("*.py"):
        if "emulator" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                word = node.value
            elif isinstance(node, ast.Attribute) and "_" in node.attr:
                word = node.attr
            else:
                continue
            if word in known:
                found.add(known[word])
    return found


def test_the_table_is_what_the_code_calls() -> None:
    """An operation that is new in the code needs its row, and an action that nothing calls has none."""
    operations_called = called()
    assert {"lambda:Invoke", "lambda:GetFunction"} <= operations_called
    needed = {ACTIONS.get(operation, operation) for operation in operations_called}
    named = set(re.findall(r"`([a-z0-9]+:[A-Z]\w+)`", text(ROOT / "docs" / "iam.md")))
    assert needed - named == set()
    assert named - needed - WITHOUT_A_CALL == set()
