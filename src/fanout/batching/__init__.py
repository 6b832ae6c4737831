"""Batch policy: what a batch's payload looks like, how many records share a call, how its reply is read.

Pure: it takes bytes and times and returns decisions.
"""

from __future__ import annotations

from fanout.batching.message_id import message_id, run_namespace
from fanout.batching.plan import BATCH_REPLIES, BATCH_SHAPES, BatchPlan
from fanout.batching.replies import RecordResult, read_reply
from fanout.batching.shapes import Shape, SqsAttributes, shape_of

__all__ = [
    "BATCH_REPLIES",
    "BATCH_SHAPES",
    "BatchPlan",
    "RecordResult",
    "Shape",
    "SqsAttributes",
    "message_id",
    "read_reply",
    "run_namespace",
    "shape_of",
]
