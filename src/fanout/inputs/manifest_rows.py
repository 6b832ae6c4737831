"""Rows of manifests: the lists of objects that S3 Inventory and S3 Batch Operations write, as records."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_plus

from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.source import MAX_RECORD_BYTES, Place

_BATCH_COLUMNS = ("Bucket", "Key", "VersionId")


class InventoryRows(CsvRows):
    """CSV without a header, its columns as ``manifest.json`` names them; keys are URL-encoded there."""

    def __init__(
        self,
        max_row_bytes: int = MAX_RECORD_BYTES,
        at: Place | None = None,
        *,
        header: Sequence[str] | None = None,
    ) -> None:
        super().__init__(max_row_bytes, at, delimiter=",", header=header or _BATCH_COLUMNS)

    def _members(self, fields: list[str]) -> dict[str, str]:
        members = super()._members(fields)
        if "Key" in members:
            members["Key"] = unquote_plus(members["Key"])
        return members


class BatchManifestRows(InventoryRows):
    """``Bucket,Key`` or ``Bucket,Key,VersionId``, without a header."""

    def _has_its_fields(self, fields: list[str]) -> bool:
        return len(fields) in (2, 3)

    def _wrong_number(self, fields: list[str]) -> str:
        return f"{len(fields)} fields, not Bucket,Key or Bucket,Key,VersionId"
