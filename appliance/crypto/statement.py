"""Signed statements: what a node says for good, with the certificate that it says it by.

    document = JSON: {"statement": TEXT, "signature": Base64, "certificate": PEM}
    signed   = "memorystreamer statement 1" 00 | TEXT, in UTF-8

The text is signed as it stands, so no rule about forms of JSON is needed to check it. The label in
front keeps a signature from being taken for one that the same key gives elsewhere, as in TLS.
"""

import base64
from typing import Annotated

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.errors import AuthenticationFailed, ConfigurationError
from appliance.limits import MAX_CERTIFICATE_OF_DESTRUCTION_BYTES

_LABEL = b"memorystreamer statement 1\x00"
_PSS = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=SHA256.digest_size)


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    statement: str
    signature: Annotated[str, msgspec.Meta(max_length=4096)]
    certificate: Annotated[str, msgspec.Meta(max_length=32 * 1024)]


def sign(statement: str, *, certificate_pem: bytes, key_pem: bytes) -> str:
    """The document of a statement. Raises ConfigurationError when the key cannot sign."""
    try:
        key = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError):
        raise ConfigurationError("the node's key is not an unencrypted PEM key") from None
    message = _LABEL + statement.encode()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(message, ec.ECDSA(SHA256()))
    elif isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(message, _PSS, SHA256())
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(message)
    else:
        raise ConfigurationError("the node's key is of a kind that signs no statements")
    document = _Document(
        statement, base64.b64encode(signature).decode(), certificate_pem.decode("ascii")
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def verify(document: str, *, authority_pem: bytes) -> str:
    """The statement, said by a certificate that the authority issued itself.

    (1) the document is well formed and bounded; (2) its certificate is the authority's; (3) the
    signature is that certificate's. Raises AuthenticationFailed.
    """
    if len(document) > MAX_CERTIFICATE_OF_DESTRUCTION_BYTES:
        raise AuthenticationFailed("the document is larger than any statement")
    try:
        held = msgspec.json.decode(document, type=_Document)
        certificate = x509.load_pem_x509_certificate(held.certificate.encode())
        authority = x509.load_pem_x509_certificate(authority_pem)
        signature = base64.b64decode(held.signature, validate=True)
    except (msgspec.MsgspecError, ValueError):
        raise AuthenticationFailed("the document is no signed statement") from None
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise AuthenticationFailed("the statement's certificate is not that authority's") from None
    try:
        _check(certificate, _LABEL + held.statement.encode(), signature)
    except InvalidSignature:
        raise AuthenticationFailed("the statement was changed, or signed by another key") from None
    return held.statement


def _check(certificate: x509.Certificate, message: bytes, signature: bytes) -> None:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, _PSS, SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    else:
        raise InvalidSignature
