"""TLS without I/O: one layer over whatever writes for it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from fanout.errors import ConfigError

_READ_BYTES = 65_536


class TlsLayer:
    """TLS of one connection, as a client: bytes from below go in, bytes for below go to ``send``.

    Errors are ``ssl.SSLError``, raised by the handshake and by ``write``, and kept in ``failure`` by
    ``receive``; ``ssl.SSLCertVerificationError`` means that the other end is not who it should be. A
    ``session`` of an earlier connection shortens the handshake.
    """

    __slots__ = ("_incoming", "_outgoing", "_send", "_tls", "failure", "is_ended")

    def __init__(
        self,
        context: ssl.SSLContext,
        host: str,
        send: Callable[[bytes], None],
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)
        self._send = send
        self.is_ended = False
        self.failure: ssl.SSLError | None = None

    def shake_hands(self, data: bytes) -> bool:
        """Take what came from below and answer it; True once the handshake is done."""
        if data:
            self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:  # an alert is sent too
            self._flush()
        return True

    def receive(self, data: bytes) -> bytes:
        """The plain bytes in what came from below; sets ``is_ended`` when the other end says goodbye.

        What came whole before a ``failure`` is returned all the same: it may be a reply.
        """
        self._incoming.write(data)
        whole = b""
        try:
            while True:
                part = self._tls.read(_READ_BYTES)
                if not part:
                    self.is_ended = True
                    break
                whole = whole + part if whole else part
                # One read gives one record at most.
                if not self._incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.failure = error
        if self._outgoing.pending:  # a new key was agreed on
            self._flush()
        return whole

    def write(self, data: bytes | memoryview) -> None:
        """Send plain bytes."""
        self._tls.write(data)
        self._send(self._outgoing.read())

    @property
    def is_resumed(self) -> bool:
        """True if the handshake went on from an earlier connection's session."""
        return bool(self._tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session that shortens later handshakes with this host; TLS 1.3 has it after the handshake."""
        return self._tls.session

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._send(data)


def in_words(error: ssl.SSLError) -> str:
    """The fault as OpenSSL calls it, such as ``WRONG_VERSION_NUMBER``."""
    return f"TLS failed: {getattr(error, 'reason', None) or error.args[-1]}"


def client_context(verify: bool | str) -> ssl.SSLContext:
    """Whom a client trusts: the system's authorities, those of the file ``verify``, or, if False, anybody.

    A machine without authorities (a slim container) gets those that botocore brings. Raises ConfigError
    for a file that holds none.
    """
    if isinstance(verify, str):
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=_read_bundle(verify))
    else:
        context = ssl.create_default_context()
        if not _has_authorities(context):
            from botocore.httpsession import get_cert_path

            context.load_verify_locations(get_cert_path(True))
    # From Python 3.13 on; botocore takes authorities without the extensions that it asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _has_authorities(context: ssl.SSLContext) -> bool:
    # Those of a directory are read when they are needed, and Windows keeps them elsewhere.
    paths: tuple[str | None, ...] = ssl.get_default_verify_paths()[:2]
    return any(paths) or bool(context.cert_store_stats()["x509_ca"])


def _read_bundle(path: str) -> str:
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    # Bundles have remarks, and some have them in no encoding.
    found = [f"{begin}{part.partition(end)[0]}{end}\n" for part in text.split(begin)[1:] if end in part]
    if not found:
        raise ConfigError(f"CA bundle {path!r} holds no certificate in PEM")
    return "".join(found)
