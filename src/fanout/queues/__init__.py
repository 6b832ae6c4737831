"""Queues of Amazon SQS: a client, the messages of a run on disk, and the visibility of what is held."""

from __future__ import annotations

from fanout.queues.location import QueueLocation, is_queue, parse_queue

__all__ = ["QueueLocation", "is_queue", "parse_queue"]
