"""Schedulers that cannot be used: one line says what to change."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from fanout.errors import ConfigError
from fanout.workers.dask_crew import DaskCrew
from fanout.workers.scheduler_errors import SilentScheduler, why_not

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("ca", "the CA of Dask's configuration (distributed.comm.tls) is not there: nowhere.pem"),
        ("cert", "the certificate of Dask's configuration (distributed.comm.tls) is not there: nowhere.pem"),
        ("key", "the key of Dask's configuration (distributed.comm.tls) is not there: nowhere.pem"),
        ("no-pem", "TLS does not work with CA "),
    ],
)
async def test_files_of_tls(tmp_path: Path, broken: str, words: str) -> None:
    """Which of them is missing, or is none."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    if broken == "no-pem":
        Path(files["ca"]).write_text("{}")
    else:
        files[broken] = "nowhere.pem"
    given = {"ca-file": files["ca"], "client.cert": files["cert"], "client.key": files["key"]}
    settings = {f"distributed.comm.tls.{name}": path for name, path in given.items()}
    with dask.config.set(settings), pytest.raises(ConfigError) as raised:
        await DaskCrew(scheduler="tls://127.0.0.1:1").open()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_scheduler_of_another_version_of_dask() -> None:
    """As distributed 2024.8.0 answers a newer client."""
    said = why_not(TypeError("Scheduler.identity() got an unexpected keyword argument 'n_workers'"))
    assert said.startswith("is of another version of Dask: install distributed 2")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SilentScheduler(), "does not answer: something else than a Dask scheduler is there"),
        (TypeError("TLS expects a `ssl_context` argument"), "needs TLS: give a CA, a certificate and a key"),
        (MemoryError(), "is not a Dask scheduler: something else answers there"),
        (KeyError("op"), "is not a Dask scheduler: something else answers there"),
        (OSError("in <Comm tcp://>: TLS certificate does not match"), "is not of the CA ca.pem"),
        (OSError("[SSL: TLSV1_ALERT_UNKNOWN_CA]"), "refuses the certificate cert.pem"),
        (OSError("SSLEOFError(8)"), "ends the TLS connection: it speaks none, or the certificate cert.pem"),
        (ssl.SSLError("odd"), "TLS does not work with CA ca.pem, certificate cert.pem, key key.pem: "),
        (FileNotFoundError("a socket"), "cannot be reached: a socket"),
        (OSError("in <Comm tcp://>: Connection refused"), "cannot be reached: Connection refused"),
    ],
)
def test_each_refusal_has_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    """One line that says what to change."""
    monkeypatch.chdir(tmp_path)
    for name in ("ca", "cert", "key"):
        Path(f"{name}.pem").touch()
    given = {"ca-file": "ca.pem", "client.cert": "cert.pem", "client.key": "key.pem"}
    with dask.config.set({f"distributed.comm.tls.{name}": path for name, path in given.items()}):
        said = why_not(error)
    assert words in said
    assert "\n" not in said
