"""Rows of manifests: the lists of objects that S3 Inventory and S3 Batch Operations write, as records."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_plus

import msgspec

from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.source import MAX_RECORD_BYTES, Item, Place
from fanout.model import ErrorDetail

_encode = msgspec.json.Encoder().encode
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

    def _item(self, fields: list[str], fault: str, raw: list[bytes], number: int) -> Item | None:
        if not fault and fields and len(fields) not in (2, 3):
            error = ErrorDetail(
                "InvalidCsv", f"line {number}: {len(fields)} fields, not Bucket,Key or Bucket,Key,VersionId"
            )
            return Item(b"\n".join(raw), number, error)
        if len(fields) == 2 and not fault:
            return Item(_encode({"Bucket": fields[0], "Key": unquote_plus(fields[1])}), number)
        return super()._item(fields, fault, raw, number)
