"""The ways into a run that random walks draw from: files, pipes, URLs, objects, iterables, Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BUCKET = "lake"
_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
WAYS = (
    *("jsonl", "gzip", "json", "csv", "pipe", "glob", "several", "repeat"),
    *("url", "object", "object.gz", "object glob", "objects", "parquet", "parquet object"),
    *("iterable", "async iterable", "library path"),
    *("zst", "tsv", "utf-16", "lines", "items", "items gz", "items url", "faulty", "faulty csv", "slow pipe"),
    *("inventory", "several kinds", "csv object", "shrinking glob", "live prefix"),
)


@dataclass
class Way:
    """A way in: the words of a command, or what the library is called with, and the payloads it brings."""

    name: str
    words: list[str] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    stdin: Path = Path(os.devnull)
    is_library: bool = False  # called in Python, not typed
    is_iterable: bool = False  # so no command can read it again
    pauses: bool = False  # standard input comes little by little
    after: Callable[[], object] | None = None  # what happens to the input once the run has begun


class Store:
    """A bucket on a server of this machine, which also answers plain GETs."""

    def __init__(self, url: str) -> None:
        import boto3

        self.url = url
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self._client = boto3.client("s3", endpoint_url=url, **keys)
        self._client.create_bucket(Bucket=BUCKET, ACL="public-read")

    def put(self, key: str, body: bytes) -> None:
        """One object that anybody may read."""
        self._client.put_object(Bucket=BUCKET, Key=key, Body=body, ACL="public-read")

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        body: bytes = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def listed(self, prefix: str) -> list[dict[str, Any]]:
        """The objects under a prefix, each as the record that a run makes of it."""
        found = self._client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [
            {
                "Bucket": BUCKET,
                "Key": one["Key"],
                "Size": one["Size"],
                "ETag": one["ETag"].strip('"'),
                "LastModified": one["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for one in found
        ]


@contextmanager
def store() -> Iterator[Store]:
    """A bucket, in a process of its own."""
    command = [sys.executable, "-c", _SERVE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield Store(f"http://127.0.0.1:{int(server.stdout.readline())}")
        finally:
            server.stdin.close()


def draw_way(rng: random.Random, count: int, folder: Path, bucket: Store, prefix: str) -> Way:
    """A way in for ``count`` records; files are made in ``folder``, objects under ``prefix``."""
    records: list[Any] = [{"id": n, "v": None if n % 10 == 9 else n * 7} for n in range(count)]
    lines = [json.dumps(record) + "\n" for record in records]
    text = "".join(lines)
    name = rng.choice(WAYS)
    way = Way(name, records=records)
    location = f"s3://{BUCKET}/{prefix}"
    halves = ["".join(lines[: count // 3]), "".join(lines[count // 3 :])]

    def kept(file: str, body: bytes) -> str:
        folder.joinpath(file).write_bytes(body)
        return file

    match name:
        case "jsonl" | "library path":
            way.words, way.is_library = [kept("in.jsonl", text.encode())], name != "jsonl"
        case "gzip":
            way.words = [kept("in.jsonl.gz", gzip.compress(text.encode()))]
        case "json":
            way.words = [kept("in.json", json.dumps(records).encode())]
        case "csv":
            way.records = [{"id": str(n), "v": str(n * 7)} for n in range(count)]
            rows = (f"{record['id']},{record['v']}\n" for record in way.records)
            way.words = [kept("in.csv", ("id,v\n" + "".join(rows)).encode())]
        case "pipe":
            way.words, way.stdin = ["-"], folder / kept("piped", text.encode())
        case "glob" | "several":
            files = [kept(f"part-{number}.jsonl", half.encode()) for number, half in enumerate(halves)]
            way.words = ["part-*.jsonl"] if name == "glob" else files
        case "repeat":
            way.records = [{"id": 1, "v": 2}] * count
            way.words = ["--payload", '{"id":1,"v":2}', "--repeat", str(count)]
        case "url":
            bucket.put(f"{prefix}in.jsonl", text.encode())
            way.words = [f"{bucket.url}/{BUCKET}/{prefix}in.jsonl"]
        case "object":
            bucket.put(f"{prefix}in.jsonl", text.encode())
            way.words = [f"{location}in.jsonl"]
        case "object.gz":
            bucket.put(f"{prefix}in.jsonl.gz", gzip.compress(text.encode()))
            way.words = [f"{location}in.jsonl.gz"]
        case "object glob":
            for number, half in enumerate(halves):
                bucket.put(f"{prefix}part-{number}.jsonl", half.encode())
            way.words = [f"{location}part-*.jsonl"]
        case "objects":
            for number in range(max(1, min(count, 30))):
                bucket.put(f"{prefix}{number:03}.bin", b"x" * number)
            way.words, way.records = [location], bucket.listed(prefix)
        case "parquet":
            way.words = [kept("in.parquet", _parquet(records, rng))]
        case "parquet object":
            bucket.put(f"{prefix}in.parquet", _parquet(records, rng))
            way.words = [f"{location}in.parquet"]
        case "zst":
            way.words = [kept("in.jsonl.zst", zstd.compress(text.encode()))]
        case "utf-16":
            way.words = [kept("in.jsonl", text.encode("utf-16"))]
        case "tsv" | "csv object":
            sign = "\t" if name == "tsv" else ";"
            way.records = [{"id": str(n), "v": f'{n}{sign}"\n'} for n in range(count)]
            made = io.StringIO()
            table = csv.writer(made, delimiter=sign)
            table.writerows([("id", "v"), *(record.values() for record in way.records)])
            if name == "tsv":
                way.words = [kept("in.tsv", made.getvalue().encode())]
            else:
                bucket.put(f"{prefix}in.csv.gz", gzip.compress(made.getvalue().encode()))
                way.words = [f"{location}in.csv.gz", "--csv-delimiter", ";"]
        case "lines":
            way.records = [f"line {n} \0 \u00e9" for n in range(count)]
            way.words = [kept("in.txt", "\r\n".join(way.records).encode()), "--format", "lines"]
        case "items" | "items gz" | "items url":
            body = json.dumps({"before": [{}], "a/b": {"rows": records}, "after": [1, 2]}).encode()
            way.words = [kept("in.json", body)]
            if name == "items gz":
                way.words = [kept("in.json.gz", gzip.compress(body))]
            elif name == "items url":
                bucket.put(f"{prefix}in.json.gz", gzip.compress(body))
                way.words = [f"{bucket.url}/{BUCKET}/{prefix}in.json.gz"]
            way.words += ["--items", "/a~1b/rows"]
        case "faulty" | "faulty csv":
            way.records = [None if n % 7 == 3 else record for n, record in enumerate(records)]
            if name == "faulty":
                mixed = ["{'id'}\n" if n % 7 == 3 else line for n, line in enumerate(lines)]
                way.words = [kept("in.jsonl", "".join(mixed).encode())]
            else:
                way.records = [each and {"id": str(each["id"]), "v": "7"} for each in way.records]
                rows = (f"{n}\n" if n % 7 == 3 else f"{n},7\n" for n in range(count))
                way.words = [kept("in.csv", ("id,v\n" + "".join(rows)).encode())]
        case "slow pipe":
            way.words, way.stdin = ["-"], folder / kept("piped", text.encode())
            way.pauses = True
        case "inventory":
            way.records = [{"Bucket": "b", "Key": f"k {n}"} for n in range(count)]
            parts = []
            for number, some in enumerate((way.records[: count // 3], way.records[count // 3 :])):
                key = f"{prefix}data/{number}.csv.gz"
                rows = (f'"b","k%20{each["Key"][2:]}"\n' for each in some)
                packed = gzip.compress("".join(rows).encode())
                bucket.put(key, packed)
                parts.append({"key": key, "size": len(packed), "MD5checksum": md5(packed).hexdigest()})
            manifest = {
                "sourceBucket": "b",
                "destinationBucket": f"arn:aws:s3:::{BUCKET}",
                "fileFormat": "CSV",
                "fileSchema": "Bucket, Key",
                "files": parts,
            }
            bucket.put(f"{prefix}manifest.json", json.dumps(manifest).encode())
            way.words = [f"{location}manifest.json", "--format", "s3-inventory"]
        case "several kinds":
            bucket.put(f"{prefix}in.jsonl.gz", gzip.compress(halves[0].encode()))
            way.words = [
                f"{location}in.jsonl.gz",
                kept("in.json", json.dumps(records[count // 3 :]).encode()),
            ]
        case "shrinking glob":
            way.words = ["part-*.jsonl"]
            for number, half in enumerate(halves):
                kept(f"part-{number}.jsonl", half.encode())
            way.after = lambda: (
                kept("part-00.jsonl", b'{"id":-1,"v":0}\n'),
                kept("part-9.jsonl", b'{"id":-9,"v":0}\n'),
            )
        case "live prefix":
            way.words = [f"{location}part-*.jsonl"]
            for number, half in enumerate(halves):
                bucket.put(f"{prefix}part-{number}.jsonl", half.encode())
            way.after = lambda: bucket.put(f"{prefix}part-00.jsonl", b'{"id":-1,"v":0}\n')
        case _:
            way.is_library = way.is_iterable = True
    return way


def _parquet(records: list[Any], rng: random.Random) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.Table.from_pylist(records, schema=pa.schema([("id", pa.int64()), ("v", pa.int64())]))
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, row_group_size=rng.choice((10, 64, 1000)))
    return file.getvalue()


_SECONDS = {"deadline", "outage_patience", "grace"}
_NUMBERS = {"max_cost", "rate", "tolerated_failure_percentage", *_SECONDS}
_COUNTS = {
    "take",
    "enough",
    "batch",
    "tolerated_failure_count",
    "retries",
    "retry_function_errors",
    "breaker",
}
_COUNTS |= {"workers", "concurrency"}


def call_of(way: Way, words: list[str]) -> dict[str, Any]:
    """The keywords of ``fanout.run`` that say what ``words`` say to the command."""
    found: dict[str, Any] = {}
    at = 0
    while at < len(words):
        name = words[at].lstrip("-").replace("-", "_")
        name = {"j": "concurrency", "no_report": "report"}.get(name, name)
        at += 1
        if at == len(words) or words[at].startswith("--") or words[at] == "-j":
            found[name] = name != "report"
            continue
        value = words[at]
        at += 1
        if name in _COUNTS:
            found[name] = int(value)
        elif name in _NUMBERS:
            found[name] = float(value.removesuffix("s"))
        elif name == "threshold":
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    found.pop("json", None)
    if way.is_iterable:
        found["payloads"] = _later(way.records) if way.name.startswith("async") else iter(way.records)
    else:
        found["payloads"] = way.words[0]
    return found


async def _later(records: list[Any]) -> Any:
    for record in records:
        yield record
