"""Whether a server's certificate is for the host that was dialled (RFC 9525), as no one else asks.

Only subject alternative names count, never the common name. Names are compared whole, without
wildcards: every certificate here comes from the cluster's own authority, which can name its hosts.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.errors import AuthenticationFailed


def check_server_certificate(certificate: x509.Certificate, host: str) -> None:
    """Accepts a verified certificate of a server at `host`, a DNS name or an IP address.

    Raises:
        AuthenticationFailed: the certificate is for another host, or not for servers.
    """
    try:
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise AuthenticationFailed(
            "the server's certificate lacks alternative names or a purpose"
        ) from None
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise AuthenticationFailed("the server's certificate is not for servers")
    address = parse_address(host)
    if address is not None:
        if address in names.get_values_for_type(x509.IPAddress):
            return
    else:
        wanted = host.rstrip(".").lower()
        if any(name.lower() == wanted for name in names.get_values_for_type(x509.DNSName)):
            return
    raise AuthenticationFailed(f"the server's certificate is not for {host!r}")


def parse_address(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that `host` spells, or None for a DNS name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
