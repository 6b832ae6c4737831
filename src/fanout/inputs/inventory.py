"""S3 Inventory: the parts that a ``manifest.json`` lists, each a file of rows about objects."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fanout.errors import SourceError
from fanout.inputs.listing import Entry


def read_inventory(location: str, data: bytes, index: int = 0) -> list[Entry]:
    """The parts, in order. Raises SourceError for what is no such manifest, and for ORC."""
    try:
        manifest: Any = msgspec.json.decode(data)
        bucket = str(manifest["destinationBucket"]).removeprefix("arn:aws:s3:::").rpartition(":")[2]
        kind, schema = str(manifest["fileFormat"]).upper(), str(manifest["fileSchema"])
        files = [(str(each["key"]), int(each["size"]), _md5(each)) for each in manifest["files"]]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{location} is not the manifest.json of an S3 Inventory: {type(error).__name__}: {error}"
        ) from error
    if kind == "CSV":
        columns = [name.strip() for name in schema.split(",")]
    elif kind == "PARQUET":
        columns = []
    else:
        raise SourceError(f"{location} is an inventory in {kind}: let S3 write CSV or Parquet")
    return [
        Entry(f"s3://{bucket}/{key}", index, size=size, columns=columns, md5=md5) for key, size, md5 in files
    ]


def _md5(file: dict[str, Any]) -> str | None:
    found = str(file.get("MD5checksum", "")).lower()
    return found if re.fullmatch("[0-9a-f]{32}", found) else None
