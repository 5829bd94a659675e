"""TLS configuration: one immutable context a set of files, and what new connections get.

Rules (DESIGN section 3, 'TLS'):
- Version 1.3 only, certificates on both sides, OpenSSL's own list of groups (X25519MLKEM768 first).
- No resumption: neither tickets nor a cache, since a resumed connection has no verified chain.
- A context is never changed and a store never added to; a reload builds another.
"""

from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from OpenSSL import SSL, crypto

from appliance.errors import ConfigurationError
from appliance.invariant import invariant

PeerCertificate = Literal["required", "optional"]
"""Optional only where every peer logs in inside TLS; one that is given is verified all the same."""

KeyExchange = Literal["preferred", "required"]

_ENABLE_PARTIAL_WRITE: Final = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE: set by pyOpenSSL, would end a write after one record."""


class TLSFiles(msgspec.Struct, frozen=True):
    """PEM files: own chain and key, the authorities trusted, and what they have revoked."""

    certificate: Path
    key: Path
    ca: Path
    crl: Path | None = None


class TLSContext:
    """One configuration, as its files were at one moment; never changed."""

    __slots__ = ("key_exchange", "openssl")

    def __init__(
        self,
        files: TLSFiles,
        key_exchange: KeyExchange,
        method: int,
        peer_certificate: PeerCertificate = "required",
    ) -> None:
        """Reads the files. Raises ConfigurationError, naming the file, if one cannot be used."""
        self.key_exchange = key_exchange
        self.openssl = context = SSL.Context(method)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"memorystreamer")
        context.clear_mode(_ENABLE_PARTIAL_WRITE)
        required = 0 if peer_certificate == "optional" else SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(SSL.VERIFY_PEER | required)
        _load(context, files)


def server_context(
    files: TLSFiles,
    key_exchange: KeyExchange = "preferred",
    peer_certificate: PeerCertificate = "required",
) -> TLSContext:
    """For accepting connections; a client certificate is verified, and required but for logins."""
    context = TLSContext(files, key_exchange, SSL.TLS_SERVER_METHOD, peer_certificate)
    context.openssl.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.openssl.load_client_ca(bytes(files.ca))
    return context


def client_context(files: TLSFiles, key_exchange: KeyExchange = "preferred") -> TLSContext:
    """For outgoing connections; the server's certificate is verified, `connect` adds its name."""
    return TLSContext(files, key_exchange, SSL.TLS_CLIENT_METHOD)


class ServerContexts:
    """The context that new connections get; a reload replaces it, or changes nothing."""

    __slots__ = ("_files", "_key_exchange", "_peer_certificate", "current")

    def __init__(
        self,
        files: TLSFiles,
        key_exchange: KeyExchange = "preferred",
        peer_certificate: PeerCertificate = "required",
    ) -> None:
        """Reads the files. Raises ConfigurationError."""
        self._files = files
        self._key_exchange: KeyExchange = key_exchange
        self._peer_certificate: PeerCertificate = peer_certificate
        self.current = server_context(files, key_exchange, peer_certificate)

    def reload(self) -> None:
        """Reads the files again. Raises ConfigurationError, and the old context stays."""
        self.current = server_context(self._files, self._key_exchange, self._peer_certificate)


class ClientContexts:
    """As `ServerContexts`, for outgoing connections."""

    __slots__ = ("_files", "_key_exchange", "current")

    def __init__(self, files: TLSFiles, key_exchange: KeyExchange = "preferred") -> None:
        """Reads the files. Raises ConfigurationError."""
        self._files = files
        self._key_exchange: KeyExchange = key_exchange
        self.current = client_context(files, key_exchange)

    def reload(self) -> None:
        """Reads the files again. Raises ConfigurationError, and the old context stays."""
        self.current = client_context(self._files, self._key_exchange)


def _load(context: SSL.Context, files: TLSFiles) -> None:
    path, advice = files.certificate, "a PEM certificate chain, leaf first"
    try:
        context.use_certificate_chain_file(bytes(files.certificate))
        path, advice = files.key, "the certificate's private key in PEM"
        context.use_privatekey_file(bytes(files.key))
        context.check_privatekey()
        path, advice = files.ca, "PEM certificates of the trusted authorities"
        context.load_verify_locations(bytes(files.ca))
        if files.crl is not None:
            path, advice = files.crl, "PEM revocation lists of every authority"
            _load_revoked(context, files.crl)
    except (SSL.Error, crypto.Error, OSError, ValueError):
        raise ConfigurationError(f"{path}: cannot be read as {advice}") from None


def _load_revoked(context: SSL.Context, path: Path) -> None:
    marker = b"-----BEGIN X509 CRL-----"
    lists = [marker + part for part in path.read_bytes().split(marker)[1:]]
    if not lists:
        raise ValueError("no revocation list")
    store = context.get_cert_store()
    invariant(store is not None, "a context has a store")
    if store is not None:
        for text in lists:
            store.add_crl(x509.load_pem_x509_crl(text))
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
