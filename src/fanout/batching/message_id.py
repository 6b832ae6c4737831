"""The name of a record in a batch: the same over retries and resumes, another in every other run.

A UUID of version 5 (RFC 9562) of the run's id and the record's number.
"""

from __future__ import annotations

import base64
import hashlib
import uuid

_NAMESPACE_BYTES = 16


def run_namespace(run_id: str) -> bytes:
    """The 16 bytes of a run's id, as run.json has it (22 characters of base64url).

    Any other text is hashed, so that runs without a directory may use a name of their own.
    """
    try:
        found = base64.urlsafe_b64decode(run_id + "==")
    except ValueError:
        found = b""
    if len(found) == _NAMESPACE_BYTES:
        return found
    return hashlib.sha256(run_id.encode()).digest()[:_NAMESPACE_BYTES]


def message_id(namespace: bytes, seq: int) -> str:
    """The identifier of record ``seq`` (0-based) in lower case, as UUIDs are written."""
    digest = hashlib.sha1(namespace + b"%d" % seq, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))
