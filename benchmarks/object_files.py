"""A small S3 of its own process: files of a folder by sendfile, and streams of any length made as they go.

    python -m benchmarks.object_files FOLDER

Prints its port. ``/lake/NAME`` is a file; ``/lake/stream-N.jsonl`` is N bytes of the same orders.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

BLOCK = b"".join(
    b'{"order":%08d,"customer":"c-%06d","note":"%s"}\n' % (10_000_000 + i, i * 37 % 999_983, b"x" * 140)
    for i in range(5_000)
)


def main() -> None:
    folder = Path(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, folder), daemon=True).start()


def _serve(connection: socket.socket, folder: Path) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        pending = b""
        while True:
            while b"\r\n\r\n" not in pending:
                try:
                    more = connection.recv(1 << 16)
                except OSError:  # a reader that stops early hangs up so
                    return
                if not more:
                    return
                pending += more
            head, _, pending = pending.partition(b"\r\n\r\n")
            try:
                _answer(connection, head.decode("latin-1"), folder)
            except OSError:
                return


def _answer(connection: socket.socket, head: str, folder: Path) -> None:
    request, *lines = head.split("\r\n")
    name = request.split()[1].partition("?")[0].rpartition("/")[2]
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    is_stream = name.startswith("stream-")
    size = int(name[7:].partition(".")[0]) if is_stream else (folder / name).stat().st_size
    start, end = 0, size
    if (wanted := headers.get("range")) is not None:
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(size, int(last) + 1 if last else size)
    status = f"206 Partial Content\r\nContent-Range: bytes {start}-{end - 1}/{size}" if wanted else "200 OK"
    connection.sendall(
        f'HTTP/1.1 {status}\r\nETag: "{name}"\r\nLast-Modified: Fri, 27 Nov 2026 10:00:00 GMT\r\n'
        f"Content-Length: {end - start}\r\nContent-Type: binary/octet-stream\r\n\r\n".encode()
    )
    if request.startswith("HEAD "):
        return
    if is_stream:
        while start < end:
            at = start % len(BLOCK)
            start += connection.send(memoryview(BLOCK)[at : at + end - start])
        return
    with (folder / name).open("rb") as file:
        while start < end:
            start += os.sendfile(connection.fileno(), file.fileno(), start, end - start)


if __name__ == "__main__":
    main()
