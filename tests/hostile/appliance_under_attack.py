"""The appliance that is attacked: a quickstart of its own, with the listener for logins beside it.

What the node is, as the kernel sees it, is read here: resident memory, processor time, descriptors.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.system.conftest import Quickstart, free_port, spent_s

TOPIC: Final = "honest"

_LOGIN: Final = """[listeners.login]
bind = "127.0.0.1:{port}"
client_certificate = "optional"
mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
[listeners.login.oauth]
issuer = "https://issuer.example"
audience = "memorystreamer"
algorithms = ["ES256"]
keys = "{keys}"

"""
_TELEMETRY: Final = """
[telemetry]
metrics = ["org.apache.kafka"]
"""


class Target:
    """A running appliance, by its ports and its node's process."""

    def __init__(self, quickstart: Quickstart, login_port: int) -> None:
        """Takes a quickstart that serves on all three listeners."""
        self._quickstart = quickstart
        self.ports = {
            "kafka": quickstart.kafka,
            "native": quickstart.native,
            "login": login_port,
        }
        self.pid = quickstart.node_pid

    @property
    def certificates(self) -> Path:
        """The folder of the clients' certificates and keys."""
        return Path(self._quickstart.directory) / "client"

    @property
    def resident_bytes(self) -> int:
        """The node's resident memory now."""
        return self._status("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """The node's largest resident memory since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Begins a new measurement of `peak_bytes`."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def spent_s(self) -> float:
        """Processor time of the node."""
        return float(spent_s(self.pid))

    @property
    def descriptors(self) -> int:
        """Open files and sockets of the node."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def log_bytes(self) -> int:
        """What the node has written to its log."""
        return sum(map(len, self._quickstart.program.errors))

    @property
    def alive(self) -> bool:
        """Whether the node still runs, in the process in which it was started."""
        return Path(f"/proc/{self.pid}").exists() and self._quickstart.node_pid == self.pid

    def _status(self, field: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


@contextmanager
def target(compacted: str) -> Iterator[Target]:
    """Starts the appliance, with two topics; stops it and removes its files at the end.

    One is TOPIC, the other has the name given and is compacted.
    """
    with TemporaryDirectory(prefix="hostile-") as folder:
        quickstart = Quickstart(Path(folder) / "data")
        quickstart.start()
        quickstart.stop()
        port = free_port()
        _offer_logins(quickstart, port)
        quickstart.start()
        try:
            for topic in ((TOPIC,), (compacted, "--setting", "cleanup.policy=compact")):
                made = quickstart.command("topic", "create", *topic)
                assert made.returncode == 0, made.stderr
            yield Target(quickstart, port)
        finally:
            if quickstart.running:
                quickstart.stop()


def _offer_logins(quickstart: Quickstart, port: int) -> None:
    public = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
    keys = quickstart.directory / "issuer.jwks"
    keys.write_text(json.dumps({"keys": [public | {"kid": "one"}]}))
    file = quickstart.node / "node.toml"
    listener = _LOGIN.format(port=port, keys=keys)
    file.write_text(file.read_text().replace("[tls]\n", listener + "[tls]\n", 1) + _TELEMETRY)
