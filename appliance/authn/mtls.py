"""Principals from certificates: whom a verified client certificate speaks for.

TLS has proven that the peer holds the key and that a trusted authority signed the certificate.
What is read here is one thing only, the single URI name `spiffe://<trust domain>/user/<name>` or
`.../node/<id>`; subject fields, DNS and e-mail names never make a principal. Anything that two
readers could take for two principals is refused (THREATS: 'Certificate identity confusion').
"""

import re
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.errors import AuthenticationFailed, ConfigurationError
from appliance.limits import MAX_PRINCIPAL_NAME_CHARACTERS
from appliance.types import Principal, PrincipalKind

_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,253}[a-z0-9]", re.ASCII)
_USER: Final = re.compile(
    rf"/user/([A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_PRINCIPAL_NAME_CHARACTERS - 1}}})", re.ASCII
)
_NODE: Final = re.compile(r"/node/(0|[1-9][0-9]{0,9})", re.ASCII)
_MAX_NODE: Final = (1 << 31) - 1


class CertificatePrincipals:
    """Maps the certificates of one trust domain."""

    __slots__ = ("_allow_nodes", "_prefix")

    def __init__(self, trust_domain: str, *, allow_nodes: bool) -> None:
        """For one listener; node certificates come in only where `allow_nodes` says so.

        Raises:
            ConfigurationError: the trust domain is not a lower-case DNS-like name.
        """
        if _TRUST_DOMAIN.fullmatch(trust_domain) is None:
            raise ConfigurationError(
                "trust domain: must be lower-case letters, digits, dots and hyphens"
            )
        self._prefix = f"spiffe://{trust_domain}"
        self._allow_nodes = allow_nodes

    def principal(self, certificate_der: bytes) -> Principal:
        """The principal of a certificate whose chain TLS has verified.

        Steps:
            1. It parses, and is no authority's.
            2. It is for clients: an extended key usage that says so is there.
            3. Exactly one URI name is in it.
            4. The name is the trust domain, then /user/<name> or /node/<id>, and nothing else.
            5. A node's is allowed here.

        Raises:
            AuthenticationFailed: at the first step that does not hold; the text holds nothing of
                the certificate.
        """
        extensions = _extensions(certificate_der)  # 1
        _check_for_clients(extensions)  # 2
        path = self._path(_only_uri(extensions))  # 3, 4
        user = _USER.fullmatch(path)
        if user is not None:
            return Principal(PrincipalKind.USER, user[1])
        node = _NODE.fullmatch(path)
        if node is None or int(node[1]) > _MAX_NODE:
            raise AuthenticationFailed("the certificate names neither a user nor a node")
        if not self._allow_nodes:  # 5
            raise AuthenticationFailed("a node's certificate is not accepted on this listener")
        return Principal(PrincipalKind.NODE, node[1])

    def node(self, certificate_der: bytes) -> Principal:
        """As `principal`, where nodes only may come in; raises AuthenticationFailed."""
        principal = self.principal(certificate_der)
        if principal.kind is not PrincipalKind.NODE:
            raise AuthenticationFailed("only certificates of nodes are accepted on this listener")
        return principal

    def _path(self, uri: str) -> str:
        # Compared whole, without a URI parser: what a parser would take apart (userinfo, port,
        # query, percent-encoding, dot segments) does not match, and is thereby refused.
        if not uri.startswith(self._prefix + "/"):
            raise AuthenticationFailed("the certificate is of another trust domain")
        return uri[len(self._prefix) :]


def _extensions(certificate_der: bytes) -> x509.Extensions:
    try:
        extensions = x509.load_der_x509_certificate(certificate_der).extensions
    except (
        ValueError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        raise AuthenticationFailed("the certificate cannot be read") from None
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return extensions
    if constraints.ca:
        raise AuthenticationFailed("the certificate is an authority's")
    return extensions


def _check_for_clients(extensions: x509.Extensions) -> None:
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise AuthenticationFailed("the certificate does not say what it is for") from None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise AuthenticationFailed("the certificate is not for clients")


def _only_uri(extensions: x509.Extensions) -> str:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise AuthenticationFailed("the certificate has no alternative name") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise AuthenticationFailed("the certificate does not have exactly one URI name")
    return uris[0]
