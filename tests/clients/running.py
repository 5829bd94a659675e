"""The appliance that clients are tried against: a quickstart with a listener for logins beside."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import Final

from issuer import CLIENT_ID, ISSUER, SECRET, Issuer

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "reference"), str(ROOT / "tests" / "unit" / "kafka")]

from sides import Side  # noqa: E402 - what is imported lies in the folders above

COMMAND: Final = Path(sys.executable).with_name("memorystreamer")
PASSWORD: Final = "pencil"  # of a user that lives as long as this run
START_S: Final = 180
SLOW: Final = "slow"
"""The client id that has a quota."""
SLOW_BYTES_PER_S: Final = 50_000
TOLD: Final = b"a client told of itself"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Appliance:
    """A quickstart, first as it comes, then with logins, and asking clients for metrics."""

    def __init__(self, folder: Path) -> None:
        self.directory, self.log = folder / "data", folder / "log"
        self.node = self.directory / "nodes" / "1"
        self.kafka, self.native, self.login = free_port(), free_port(), free_port()
        self.issuer = Issuer(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ports = ("--kafka-port", str(self.kafka), "--native-port", str(self.native))
        told = ("--log-level", "info")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [COMMAND, "quickstart", "--dir", self.directory, *ports, *told],
                stdout=log, stderr=log,
            )  # fmt: skip
        self._await(b"\nready ", 1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
        self.log.write_bytes(b"")

    def said(self, text: bytes) -> int:
        """How often a text is in what the appliance has said."""
        return self.log.read_bytes().count(text)

    def _await(self, text: bytes, times: int) -> None:
        deadline = time.monotonic() + START_S
        while self.said(text) < times:
            if self._process is None or self._process.poll() is not None:
                sys.exit(self.log.read_text())
            if time.monotonic() > deadline:
                sys.exit(f"the appliance did not say {text!r}")
            time.sleep(0.1)

    def kill_node(self) -> None:
        """kill -9 of the node; returns when the quickstart has it serve again."""
        again = b"serves again"
        before = self.said(again)
        os.kill(int((self.node / "pid").read_text()), signal.SIGKILL)
        self._await(again, before + 1)

    def configure(self) -> None:
        """Adds the listener for logins, and a subscription, to the node's file."""
        file = self.node / "node.toml"
        listener = f"""[listeners.login]
bind = "127.0.0.1:{self.login}"
client_certificate = "optional"
mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
[listeners.login.oauth]
issuer = "{ISSUER}"
audience = "memorystreamer"
algorithms = ["ES256"]
keys = "{self.issuer.keys}"

[telemetry]
metrics = [""]
interval_s = 10

"""
        file.write_text(file.read_text().replace("[tls]\n", listener + "[tls]\n", 1))

    def prepare(self) -> None:
        """Gives the client id `slow` its quota, and the administrator passwords."""
        client = self.directory / "client"
        context = ssl.create_default_context(cafile=str(client / "ca.pem"))
        context.load_cert_chain(client / "admin.pem", client / "admin.key")

        def connect() -> socket.socket:
            plain = socket.create_connection(("127.0.0.1", self.kafka), timeout=20)
            return context.wrap_socket(plain, server_hostname="127.0.0.1")

        admin = Side("admin", connect)
        change = {"key": "producer_byte_rate", "value": float(SLOW_BYTES_PER_S), "remove": False}
        quota = admin.ask("AlterClientQuotas", 1, {
            "entries": [{"entity": [{"kind": "client-id", "name": SLOW}], "changes": [change]}],
            "validate_only": False,
        })  # fmt: skip
        passwords = admin.ask("AlterUserScramCredentials", 0, {
            "deletions": [],
            "upsertions": [_password(1, "sha256"), _password(2, "sha512")],
        })  # fmt: skip
        admin.close()
        for answer, rows in ((quota, "entries"), (passwords, "users")):
            if not isinstance(answer, dict) or any(row["error"] for row in answer[rows]):
                sys.exit(f"the appliance cannot be prepared: {answer}")

    def environment(self) -> dict[str, str]:
        client = self.directory / "client"
        token_file = self.directory / "token"
        token = self.issuer.token()
        token_file.write_text(token)
        found = {
            "BOOTSTRAP": f"127.0.0.1:{self.kafka}",
            "LOGIN_BOOTSTRAP": f"127.0.0.1:{self.login}",
            "CA": str(client / "ca.pem"),
            "PASSWORD": PASSWORD,
            "TOKEN": token,
            "TOKEN_FILE": str(token_file),
            "TOKEN_URL": self.issuer.url,
            "TOKEN_CA": str(self.issuer.certificate),
            "TOKEN_CLIENT": CLIENT_ID,
            "TOKEN_SECRET": SECRET,
            "SLOW": SLOW,
        }
        for user in ("admin", "nobody"):
            certificate, key = client / f"{user}.pem", client / f"{user}.key"
            both = client / f"{user}.keystore.pem"
            both.write_bytes(key.read_bytes() + certificate.read_bytes())
            both.chmod(0o600)
            found |= {
                f"CERT_{user}": str(certificate),
                f"KEY_{user}": str(key),
                f"KEYSTORE_{user}": str(both),
            }
        return os.environ | found


def _password(mechanism: int, digest: str) -> dict[str, object]:
    """The administrator's, salted (RFC 5802)."""
    salt, iterations = os.urandom(24), 4_096
    return {
        "name": "admin", "mechanism": mechanism, "iterations": iterations, "salt": salt,
        "salted_password": pbkdf2_hmac(digest, PASSWORD.encode(), salt, iterations),
    }  # fmt: skip


@contextmanager
def appliance() -> Iterator[Appliance]:
    with tempfile.TemporaryDirectory(prefix="test-clients-") as folder:
        running = Appliance(Path(folder))
        running.start()
        running.stop()
        running.configure()
        running.start()
        try:
            running.prepare()
            yield running
        finally:
            running.stop()
