"""Why a Dask scheduler cannot be used, in one line that says what to change."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from fanout.workers.dask_logs import first_line

_TLS = "distributed.comm.tls"
_FILES = {"CA": f"{_TLS}.ca-file", "certificate": f"{_TLS}.client.cert", "key": f"{_TLS}.client.key"}
_CONNECTION = re.compile(r"^in <[^>]*>: ")  # before the reason, in Dask's words


class SilentScheduler(Exception):
    """Something takes the connection and says nothing."""


def why_not(error: Exception) -> str:
    """What to say after the scheduler's address."""
    if isinstance(error, SilentScheduler):
        return "does not answer: something else than a Dask scheduler is there, or it stands still"
    reason = _CONNECTION.sub("", first_line(error))
    if isinstance(error, TypeError) and "ssl_context" in reason:
        return f"needs TLS: give a CA, a certificate and a key in Dask's configuration ({_TLS})"
    if isinstance(error, TypeError) and "unexpected keyword argument" in reason:
        return f"is of another version of Dask: install distributed {_version()} on scheduler and workers"
    if isinstance(error, (MemoryError, KeyError, AttributeError)):
        return "is not a Dask scheduler: something else answers there"
    files = _configured()
    if isinstance(error, FileNotFoundError):
        for kind, name in files.items():
            if not Path(name).exists():
                return f"cannot be reached: the {kind} of Dask's configuration ({_TLS}) is not there: {name}"
    if "TLS certificate does not match" in reason:
        return f"is not to be trusted: its certificate is not of the CA {files.get('CA', '')}"
    if "ALERT_UNKNOWN_CA" in reason:
        return f"refuses the certificate {files.get('certificate', '')}: it is not of the scheduler's CA"
    if "SSLEOFError" in reason:
        certificate = files.get("certificate", "")
        return f"ends the TLS connection: it speaks none, or the certificate {certificate} is not of its CA"
    if isinstance(error, ssl.SSLError):
        given = ", ".join(f"{kind} {name}" for kind, name in files.items())
        return f"cannot be reached: TLS does not work with {given}: {reason}"
    return f"cannot be reached: {reason}"


def _version() -> str:
    from importlib.metadata import version

    return version("distributed")


def _configured() -> dict[str, str]:
    """The files that Dask's configuration gives a client, by what they are."""
    import dask

    found = {kind: dask.config.get(name, None) for kind, name in _FILES.items()}
    return {kind: str(name) for kind, name in found.items() if name}
