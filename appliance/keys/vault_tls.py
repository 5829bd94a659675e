"""TLS to Vault: requests on urllib3's PyOpenSSL, because data keys travel on this link.

Rules (DESIGN section 3, last paragraph):
- TLS 1.3 only, one pinned authority file and no system store, no proxy or other setting from the
  environment;
- the host name, or address, is checked against the certificate: OpenSSL verifies the chain only,
  and urllib3 matches the name itself because `check_hostname` is false on this context;
- the group list is OpenSSL's own, X25519MLKEM768 first; where it is required, a connection on any
  other group is dropped before a byte of HTTP is written.

The standard library's ssl is not used: on the Pythons that are supported it may be linked to an
OpenSSL without ML-KEM, and it cannot say which group was negotiated.
"""

import socket
import ssl
from pathlib import Path
from typing import Literal

import requests
from requests.adapters import HTTPAdapter
from urllib3.contrib.pyopenssl import PyOpenSSLContext, WrappedSocket

from appliance.errors import ConfigurationError

HYBRID_GROUP = "X25519MLKEM768"

KeyExchange = Literal["preferred", "required"]
KeyPair = tuple[Path, Path]
"""The PEM files of a certificate and of its key."""


class GroupNotHybrid(ssl.SSLError):
    """The server negotiated a key exchange without ML-KEM where it is required."""


class VaultTLSContext(PyOpenSSLContext):
    """A client context for one Vault, as urllib3 expects one."""

    def __init__(
        self, ca_file: Path, key_exchange: KeyExchange, certificate: KeyPair | None = None
    ) -> None:
        """Pins the authority. Raises ConfigurationError when a file cannot be used."""
        super().__init__(ssl.PROTOCOL_TLS_CLIENT)
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        pinned = PyOpenSSLContext.__dict__["verify_mode"]
        pinned.__set__(self, ssl.CERT_REQUIRED)
        self._key_exchange = key_exchange
        try:
            self.load_verify_locations(str(ca_file))
        except (ssl.SSLError, OSError):
            loaded = False
        else:
            loaded = True
        if not loaded:
            raise ConfigurationError(
                f"ca_file {ca_file} holds no certificate: name the PEM file of Vault's authority"
            )
        if certificate is not None:
            self._present(*certificate)

    def _present(self, certificate: Path, key: Path) -> None:
        """Shows a client certificate where the server asks for one."""
        try:
            self.load_cert_chain(str(certificate), str(key))
        except (ssl.SSLError, OSError):
            loaded = False
        else:
            loaded = True
        if not loaded:
            raise ConfigurationError(
                f"certificate {certificate} and key {key} cannot be used to log in to Vault: name "
                "the PEM files of a certificate and of its own key"
            )

    @property
    def verify_mode(self) -> int:
        """Always required: urllib3 sets it before each connection, and is not heard."""
        return ssl.CERT_REQUIRED

    @verify_mode.setter
    def verify_mode(self, value: ssl.VerifyMode) -> None:
        if value is not ssl.CERT_REQUIRED:
            raise ssl.SSLError("Vault's certificate is always verified")

    def set_alpn_protocols(self, protocols: list[bytes | str]) -> None:
        """Offers none: a context in use cannot be changed, and HTTP/1.1 needs no ALPN."""

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: bytes | str | None = None,
    ) -> WrappedSocket:
        """Shakes hands, then checks the negotiated group before anything is sent."""
        wrapped = super().wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname
        )
        if self._key_exchange == "required" and negotiated_group(wrapped) != HYBRID_GROUP:
            wrapped.close()
            raise GroupNotHybrid("the key exchange is not hybrid")
        return wrapped


def negotiated_group(wrapped: WrappedSocket) -> str | None:
    """The group of the key exchange, by its TLS name."""
    name = wrapped.connection.get_group_name()
    return name if isinstance(name, str) else None


class _VaultHTTPAdapter(HTTPAdapter):
    """Gives every connection pool the pinned context, and takes no other store of authorities."""

    def __init__(self, context: VaultTLSContext, connections: int) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=connections, pool_block=True)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: object
    ) -> None:
        super().init_poolmanager(
            connections, maxsize, block, ssl_context=self._context, **pool_kwargs
        )

    def cert_verify(self, conn: object, url: str, verify: object, cert: object) -> None:
        """Leaves the pinned context as it is: requests would add its own bundle to the store."""


def pinned_session(
    ca_file: Path,
    key_exchange: KeyExchange,
    *,
    connections: int = 4,
    certificate: KeyPair | None = None,
) -> requests.Session:
    """A session that talks https to servers of one authority, and nothing else.

    Raises ConfigurationError when `ca_file`, or the client's certificate, cannot be used.
    """
    session = requests.Session()
    session.trust_env = False
    session.adapters.clear()
    context = VaultTLSContext(ca_file, key_exchange, certificate)
    session.mount("https://", _VaultHTTPAdapter(context, connections))
    return session
