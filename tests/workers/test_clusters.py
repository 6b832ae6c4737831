"""Clusters of Dask that are there already: by a Client as it is, over TLS, without workers, or not Dask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from fanout.emulator import EmulatorProcess
from tests.workers.dask_cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
FANOUT = Path(sys.executable).with_name("fanout")
RECORDS = 400
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}
OWN_CLUSTER = """
import sys, fanout
from distributed import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        with Client(cluster) as client:
            report = fanout.run("f", sys.argv[1], out=sys.argv[2], scheduler=client)
            assert report.exit_code == 0, report.run
            assert len(report.workers) == 2, report.workers
            assert client.submit(sum, [1, 2]).result() == 3  # it is open still
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    """A function of 50 ms."""
    with EmulatorProcess(
        extra=["--simulate", "name=f,latency=50ms,concurrency=20,timeout=2s", "--count-by", "id"]
    ) as running:
        yield running


@pytest.fixture
def environment(emulator: EmulatorProcess) -> dict[str, str]:
    """Of whoever calls."""
    return {**os.environ, **KEYS, "AWS_ENDPOINT_URL_LAMBDA": emulator.endpoint_url}


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """The input."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id":"{tmp_path}-{number}"}}\n' for number in range(RECORDS)))
    return path


def _run(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(FANOUT), "run", "f", *map(str, words)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def test_a_client_is_taken_as_it_is(tmp_path: Path, records: Path, environment: dict[str, str]) -> None:
    """And left open."""
    script = tmp_path / "script.py"
    script.write_text(OWN_CLUSTER)
    subprocess.run([sys.executable, script, records, tmp_path / "r"], env=environment, check=True)
    assert len((tmp_path / "r/outcomes.jsonl").read_text().splitlines()) == RECORDS


def _issue(folder: Path, name: str) -> dict[str, Path]:
    """A CA of its own, and a certificate of it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    ca, certificate, key = (folder / f"{name}-{kind}.pem" for kind in ("ca", "cert", "key"))
    authority.cert_pem.write_to_path(str(ca))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return {"ca": ca, "cert": certificate, "key": key}


def _configure(path: Path, ca: Path, cert: Path, key: Path) -> Path:
    """A file of Dask's with the security settings of all roles."""
    role = {"cert": str(cert), "key": str(key)}
    tls = {"ca-file": str(ca), "scheduler": role, "worker": role, "client": role}
    path.write_text(json.dumps({"distributed": {"comm": {"tls": tls}}}))  # JSON is YAML
    return path


def test_tls_by_a_configuration_file(tmp_path: Path, records: Path, environment: dict[str, str]) -> None:
    """A scheduler and two workers with certificates: it runs. With wrong ones or none, one line says why."""
    ours, others = _issue(tmp_path, "ours"), _issue(tmp_path, "others")
    secured = environment | {"DASK_CONFIG": str(_configure(tmp_path / "dask.yaml", **ours))}
    cluster = Cluster(tmp_path, "--protocol", "tls", environment=secured)
    try:
        assert cluster.address.startswith("tls://")
        for _ in range(2):
            cluster.start("worker", secured, "--nthreads", "1", "--host", "127.0.0.1", "--no-nanny")
        words = [records, "--out", tmp_path / "no", "--scheduler", cluster.address]
        for files, said in (
            (None, "needs TLS: give a CA"),
            (ours | {"ca": others["ca"]}, f"its certificate is not of the CA {others['ca']}"),
            (others | {"ca": ours["ca"]}, f"the certificate {others['cert']}"),
        ):
            wrong = dict(environment)
            if files is not None:
                wrong["DASK_CONFIG"] = str(_configure(tmp_path / "wrong.yaml", **files))
            refused = _run(wrong, *words)
            assert refused.returncode == 2, refused.stderr
            assert said in refused.stderr
            assert len(refused.stderr.splitlines()) <= 2, refused.stderr
            assert not (tmp_path / "no").exists()
        found = _run(secured, records, "--out", tmp_path / "r", "--scheduler", cluster.address, "--json")
        assert found.returncode == 0, found.stderr
        assert len((tmp_path / "r/outcomes.jsonl").read_text().splitlines()) == RECORDS
        workers = json.loads(found.stdout)["workers"]
        assert len(workers) == 2
        assert all(each["name"].count(":") == 1 and each["records"] for each in workers)
    finally:
        cluster.close()


def test_a_worker_without_credentials_says_so(
    tmp_path: Path, records: Path, environment: dict[str, str]
) -> None:
    """The coordinator's do not travel: nothing is sent."""
    without = {name: value for name, value in environment.items() if name not in KEYS}
    without |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    cluster = Cluster(tmp_path)
    try:
        cluster.start("worker", without, "--nthreads", "1", "--host", "127.0.0.1")
        found = _run(environment, records, "--out", tmp_path / "r", "--scheduler", cluster.address)
        assert "takes no work: no AWS credentials found" in found.stderr
        assert found.returncode in (4, 5)
        outcomes = tmp_path / "r/outcomes.jsonl"
        assert not outcomes.exists() or not outcomes.read_text()
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp://127.0.0.1:1", "cannot be reached: "),
        ("tcp://127.0.0.1", "cannot be reached: missing port number"),
        ("emulator", "is not a Dask scheduler: something else answers there"),
    ],
)
def test_an_address_that_is_wrong(
    tmp_path: Path, records: Path, environment: dict[str, str], address: str, words: str
) -> None:
    """Exit 2, one line, no run directory."""
    if address == "emulator":
        address = environment["AWS_ENDPOINT_URL_LAMBDA"].replace("http://", "tcp://")
    found = _run(environment, records, "--out", tmp_path / "r", "--scheduler", address)
    assert found.returncode == 2
    assert words in found.stderr
    assert not (tmp_path / "r").exists()
