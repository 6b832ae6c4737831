"""Parquet in S3, read by worker processes with an S3 of moto's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from fanout.emulator import EmulatorProcess

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
FANOUT = Path(sys.executable).with_name("fanout")
ROWS = 3000


def test_workers_read_objects(moto: str, tmp_path: Path) -> None:
    """Two objects, stopped midway and gone on with: every row once, in order, and no worker needs help."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    s3 = boto3.client(
        "s3", endpoint_url=moto, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    s3.create_bucket(Bucket="rows")
    for number in range(2):
        first = number * ROWS // 2
        table = pa.Table.from_pylist([{"id": each} for each in range(first, first + ROWS // 2)])
        pq.write_table(table, tmp_path / "part.parquet", row_group_size=200)
        s3.upload_file(str(tmp_path / "part.parquet"), "rows", f"in/{number}.parquet")
    function = "name=f,latency=50ms,concurrency=20,timeout=2s"
    with EmulatorProcess(extra=["--simulate", function, "--count-by", "id"]) as emulator:
        environment = {
            **os.environ,
            **keys,
            "AWS_ENDPOINT_URL_LAMBDA": emulator.endpoint_url,
            "AWS_ENDPOINT_URL_S3": moto,
        }

        def fanout(*words: object) -> subprocess.CompletedProcess[str]:
            ran = subprocess.run(
                [str(FANOUT), *map(str, words), "--json"],
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            assert ran.returncode == 0, ran.stderr
            assert "cannot read rows" not in ran.stderr
            return ran

        run_dir = tmp_path / "r"
        objects = [f"s3://rows/in/{number}.parquet" for number in range(2)]
        fanout("run", "f", *objects, "--workers", 2, "--enough", 800, "--out", run_dir)
        summary = json.loads(fanout("resume", run_dir, "--all").stdout)
        stats = emulator.stats()
    assert summary["counts"]["succeeded"] == ROWS
    assert len(summary["workers"]) == 2
    assert stats["max_in_flight"] <= 20
    assert stats["executions_by_key"] == {str(number): 1 for number in range(ROWS)}
    outcomes = [json.loads(line) for line in (run_dir / "outcomes.jsonl").read_text().splitlines()]
    assert sorted(each["seq"] for each in outcomes) == list(range(ROWS))
    half = ROWS // 2
    assert all(each["source"] == f"s3://rows/in/{each['seq'] // half}.parquet" for each in outcomes)
