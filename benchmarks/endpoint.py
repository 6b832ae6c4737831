"""An endpoint that answers as Lambda does, after a fixed delay, and is quicker than any client of it.

nginx where it is installed with its echo module, else a small asyncio server. It listens on 127.0.0.1
only, plain and over TLS, with one port for each delay. A function named ``lab-N`` has a reserved
concurrency of N, and as much provisioned under any qualifier, so that rate and ramp are as wide as a
benchmark needs them. ``throttle_rate`` of the calls are refused at once, whatever is running.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

DELAYS_MS = (0, 10, 100, 1000)
REPLY = b'{"ok":true}'
THROTTLE = (
    b'{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
)
_ECHO = "ngx_http_echo_module.so"
_MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
BUSY = 0.90  # share of one core above which the endpoint, not the client, sets the pace


class Endpoint:
    """A running endpoint. ``kind`` names what answers; ``url`` is where a delay is served."""

    def __init__(
        self,
        delays_ms: Sequence[int] = DELAYS_MS,
        *,
        use_nginx: bool | None = None,
        throttle_rate: float = 0.0,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fanout-lab-"))
        self._delays_ms = tuple(delays_ms)
        self._throttle_rate = throttle_rate
        module = _echo_module()
        self._has_nginx = use_nginx if use_nginx is not None else module is not None
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[tuple[int, bool], int] = {}
        self.ca_path = self._folder / "ca.pem"

    @property
    def kind(self) -> str:
        """What answers, for a report."""
        if not self._has_nginx:
            return "asyncio server"
        told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
        return (told.stderr or told.stdout).strip().rpartition(" ")[2].replace("/", " ")

    def __enter__(self) -> Self:
        self._make_certificates()
        for delay_ms in self._delays_ms:
            for is_tls in (False, True):
                self._ports[delay_ms, is_tls] = _free_port()
        try:
            if self._has_nginx:
                self._start_nginx()
            else:
                self._start_server()
            for port in self._ports.values():
                _wait_for(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, delay_ms: int = 0, *, tls: bool = False) -> str:
        """Where calls are answered after ``delay_ms``."""
        return f"{'https' if tls else 'http'}://127.0.0.1:{self._ports[delay_ms, tls]}"

    def environment(self) -> dict[str, str]:
        """An environment in which every AWS client works against this endpoint, and no other settings do."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "OTEL_"))}
        # As on a machine of a user's: bytecode is cached, and no proxy stands between.
        for name in (
            "PYTHONDONTWRITEBYTECODE",
            "PYTHONUNBUFFERED",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "http_proxy",
            "https_proxy",
        ):
            kept.pop(name, None)
        return kept | {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CA_BUNDLE": str(self.ca_path),
            "NODE_EXTRA_CA_CERTS": str(self.ca_path),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_COLOR": "1",
        }

    def cpu_s(self) -> float | None:
        """CPU time that the endpoint has used so far; None where the platform does not tell."""
        assert self._process is not None
        return _cpu_s_of_tree(self._process.pid)

    @contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """Measure how busy the endpoint is meanwhile: ``busy`` is a share of one core."""
        seen: dict[str, float] = {}
        before, began_s = self.cpu_s(), time.perf_counter()
        yield seen
        after, wall_s = self.cpu_s(), time.perf_counter() - began_s
        if before is not None and after is not None and wall_s > 0:
            seen["endpoint_cpu_s"] = after - before
            seen["busy"] = (after - before) / wall_s

    def _make_certificates(self) -> None:
        import trustme

        authority = trustme.CA(organization_name="fanout laboratory")
        leaf = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.ca_path)
        leaf.private_key_and_cert_chain_pem.write_to_path(self._folder / "leaf.pem")

    def _start_nginx(self) -> None:
        config = self._folder / "nginx.conf"
        config.write_text(self._nginx_config())
        with (self._folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                ["nginx", "-p", str(self._folder), "-c", str(config), "-g", "daemon off;"], stderr=stderr
            )

    def _nginx_config(self) -> str:
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "".join(
            f'{name}_temp_path "{self._folder}/{name}";'
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        servers = []
        for (delay_ms, is_tls), port in self._ports.items():
            tls = (
                f'ssl_certificate "{self._folder}/leaf.pem"; ssl_certificate_key "{self._folder}/leaf.pem";'
                if is_tls
                else ""
            )
            sleep = f"echo_sleep {delay_ms / 1000:g};" if delay_ms else ""
            # Without a delay the reply is made at once, in the rewrite phase.
            content = f"{sleep} echo_read_request_body; echo_exec @reply;" if delay_ms else _NGINX_REPLY
            if self._throttle_rate:
                content = f"if ($is_throttled) {{ return 429 '{THROTTLE.decode()}'; }} {content}"
            servers.append(
                f"""
    server {{
        listen 127.0.0.1:{port}{" ssl" if is_tls else ""} backlog=16384; {tls}
        location ~ /invocations$ {{ {content} }}
        location @reply {{ {_NGINX_REPLY} }}
        location ~ ^/2015-03-31/functions/lab-(?<width>[0-9]+)$ {{
            return 200 '{_FUNCTION}';
        }}
        location ~ ^/2019-09-30/functions/lab-(?<width>[0-9]+)/provisioned-concurrency$ {{
            return 200 '{{"AllocatedProvisionedConcurrentExecutions":$width,"Status":"READY"}}';
        }}
        location / {{ return 404 '{{"Type":"User","message":"no such resource"}}'; }}
    }}"""
            )
        throttled = f"{self._throttle_rate:.2%} 1;" if self._throttle_rate else ""
        load = f"load_module {self._module};" if self._module is not None else ""
        return f"""{load} {user}
worker_processes 1;
worker_rlimit_nofile 65536;
pid "{self._folder}/nginx.pid";
error_log stderr warn;
events {{ worker_connections 32768; }}
http {{
    access_log off; default_type application/json; {temporary}
    keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 16m;
    client_body_buffer_size 2m; ssl_session_cache shared:lab:16m; ssl_protocols TLSv1.2 TLSv1.3;
    split_clients $request_id $is_throttled {{ {throttled} * ""; }}
    {"".join(servers)}
}}
"""

    def _start_server(self) -> None:
        ports = [f"{delay_ms}:{int(is_tls)}:{port}" for (delay_ms, is_tls), port in self._ports.items()]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.endpoint_server",
                str(self._folder / "leaf.pem"),
                str(self._throttle_rate),
                *ports,
            ],
            cwd=Path(__file__).parent.parent,
        )


_FUNCTION = (
    '{"Configuration":{"FunctionName":"lab","Timeout":60,"MemorySize":128,"State":"Active"},'
    '"Concurrency":{"ReservedConcurrentExecutions":$width}}'
)
_NGINX_REPLY = (
    "add_header x-amzn-RequestId $request_id; add_header X-Amz-Executed-Version 1; "
    f"return 200 '{REPLY.decode()}';"
)


def has_nginx() -> bool:
    """True if nginx is here with the module that it needs."""
    return _echo_module() is not None


def _echo_module() -> str | None:
    if shutil.which("nginx") is None:
        return None
    return next((f"{folder}/{_ECHO}" for folder in _MODULE_FOLDERS if Path(folder, _ECHO).exists()), None)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(1_200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the endpoint does not listen on port {port}")


def _cpu_s_of_tree(pid: int) -> float | None:
    """User and system time of a process and its children, from /proc."""
    total = 0.0
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None
    return total
