"""An issuer of tokens: a key, its public half as a JWKS, and an HTTPS endpoint that hands them out.

The endpoint answers the client credentials grant (RFC 6749, section 4.4) as clients that fetch
their tokens themselves ask for it; to the others a token is given beforehand.
"""

import base64
import json
import ssl
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm

ISSUER: Final = "https://issuer.example"
CLIENT_ID: Final = "tests"
SECRET: Final = "paper"  # of an issuer that lives as long as this run
_LIFE_S: Final = 7_200


class Issuer:
    """Lives as long as its process."""

    def __init__(self, folder: Path) -> None:
        """Writes `issuer.jwks` and the endpoint's certificate into `folder`, and listens."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(ECAlgorithm.to_jwk(self._key.public_key())) | {"kid": "one"}
        self.keys = folder / "issuer.jwks"
        self.keys.write_text(json.dumps({"keys": [public]}))
        self.certificate = folder / "issuer.pem"
        self._serve(folder / "issuer.key")

    def token(self) -> str:
        """A token of the administrator's."""
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": "memorystreamer", "sub": "admin", "iat": now,
            "exp": now + _LIFE_S,
        }  # fmt: skip
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "one"})

    def _serve(self, key_file: Path) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        now = time.time()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(now - 60))
            .not_valid_after(_moment(now + _LIFE_S))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        issuer = self

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                issuer.answer(self)

            def log_message(self, *_: object) -> None:
                """Says nothing: what is asked holds a secret."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key_file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{server.server_port}/token"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        """A token to who knows the secret and asks for the grant, to nobody else."""
        body = asked.rfile.read(min(int(asked.headers.get("Content-Length") or 0), 4_096))
        told = base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
        known = asked.headers.get("Authorization") == f"Basic {told}"
        granted = known and b"grant_type=client_credentials" in body
        data = json.dumps(
            {"access_token": self.token(), "token_type": "Bearer", "expires_in": _LIFE_S}
            if granted
            else {"error": "invalid_client"}
        ).encode()
        asked.send_response(200 if granted else 401)
        asked.send_header("Content-Type", "application/json")
        asked.send_header("Content-Length", str(len(data)))
        asked.end_headers()
        asked.wfile.write(data)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
