"""`make test-clients`: real Kafka clients against a real appliance, and the table of what passed.

Starts a quickstart with a listener for logins, installs each client by its own package manager into
`.clients/`, runs its checks, and writes docs/clients.md. A client that cannot be installed here is
shown as skipped with the reason, never as passed. Exits with 1 if any check failed that is not
listed, with its reason, in KNOWN.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIENTS = ROOT / ".clients"
PAGE = ROOT / "docs" / "clients.md"
COMMAND = Path(sys.executable).with_name("memorystreamer")
PASSWORD = "pencil"  # of a user that lives as long as this run
KAFKA_CLIENTS = "4.1.0"
INSTALL_S, RUN_S, START_S = 540, 240, 90

CHECKS = (
    "produce none", "produce gzip", "produce snappy", "produce lz4", "produce zstd", "consume",
    "admin: topics", "admin: settings", "admin: cluster", "admin: groups", "admin: deletion",
    "ACLs", "mutual TLS refused", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER",
)  # fmt: skip

KNOWN = {
    **{
        ("kafka-python", f"produce {codec}"): "needs a package for the codec that is not installed"
        for codec in ("snappy", "lz4", "zstd")
    },
    ("@platformatic/kafka", "produce zstd"): "needs a Node.js with zstd (22.15)",
}
"""Failures that are the client's on this machine, with the reason."""

Results = dict[str, str]
"""Per check `ok`, or why it failed."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Appliance:
    """A quickstart, first as it comes, then with a listener for logins beside the others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kafka, self.native, self.login = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ports = ("--kafka-port", str(self.kafka), "--native-port", str(self.native))
        log = (self.directory.parent / "log").open("ab")
        self._process = subprocess.Popen(
            [COMMAND, "quickstart", "--dir", self.directory, *ports], stdout=log, stderr=log
        )
        deadline = time.monotonic() + START_S
        while not (self.directory.parent / "log").read_bytes().count(b"\nready "):
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.exit((self.directory.parent / "log").read_text())
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
        (self.directory.parent / "log").write_bytes(b"")

    def offer_logins(self) -> str:
        """Adds the listener to the node's file; returns a token of its issuer."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "one"}
        keys = self.directory / "issuer.jwks"
        keys.write_text(json.dumps({"keys": [public]}))
        file = self.directory / "nodes" / "1" / "node.toml"
        listener = f"""[listeners.login]
bind = "127.0.0.1:{self.login}"
client_certificate = "optional"
mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
[listeners.login.oauth]
issuer = "https://issuer.example"
audience = "memorystreamer"
algorithms = ["ES256"]
keys = "{keys}"

"""
        file.write_text(file.read_text().replace("[tls]\n", listener + "[tls]\n", 1))
        claims = {
            "iss": "https://issuer.example", "aud": "memorystreamer", "sub": "admin",
            "exp": int(time.time()) + 7200, "iat": int(time.time()),
        }  # fmt: skip
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "one"})

    def environment(self, token: str) -> dict[str, str]:
        client = self.directory / "client"
        found = {
            "BOOTSTRAP": f"127.0.0.1:{self.kafka}",
            "LOGIN_BOOTSTRAP": f"127.0.0.1:{self.login}",
            "CA": str(client / "ca.pem"),
            "PASSWORD": PASSWORD,
            "TOKEN": token,
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


@contextmanager
def appliance() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="test-clients-") as folder:
        running = Appliance(Path(folder) / "data")
        running.start()
        running.stop()
        token = running.offer_logins()
        running.start()
        try:
            yield running.environment(token)
        finally:
            running.stop()


class Skipped(Exception):
    """A client cannot be had here, and why."""


def installed(folder: str, *commands: list[str]) -> Path:
    """Installs into a folder of `.clients/`; raises Skipped."""
    place = CLIENTS / folder
    place.mkdir(parents=True, exist_ok=True)
    for command in commands:
        if shutil.which(command[0]) is None:
            raise Skipped(f"no {command[0]} on this machine")
        try:
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise Skipped(f"{command[0]} took too long") from None
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise Skipped(f"{command[0]}: {lines[-1][:120] if lines else 'failed'}")
    return place


def java() -> list[str]:
    place = CLIENTS / "java"
    place.mkdir(parents=True, exist_ok=True)
    (place / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>tests</groupId><artifactId>tests</artifactId><version>1</version><dependencies>"
        "<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId>"
        f"<version>{KAFKA_CLIENTS}</version></dependency></dependencies></project>"
    )
    installed(
        "java",
        ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
        ["javac", "-cp", "lib/*", "-d", "out", str(HERE / "java" / "Client.java")],
    )
    return ["java", "-cp", f"{place}/out:{place}/lib/*", "Client"]


def node(script: str, package: str) -> list[str]:
    place = installed("node", ["npm", "install", "--silent", "--no-save", package])
    shutil.copy(HERE / "node" / script, place / script)
    return ["node", str(place / script)]


def go() -> list[str]:
    place = CLIENTS / "go"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "go" / "main.go", place / "main.go")
    if not (place / "go.mod").exists():
        installed("go", ["go", "mod", "init", "clients"])
    installed("go", ["go", "mod", "tidy"], ["go", "build", "-o", "franz", "."])
    return [str(place / "franz")]


def python(name: str) -> list[str]:
    return [sys.executable, str(HERE / "python_clients.py"), name]


def kcat() -> list[str]:
    if shutil.which("kcat") is None:
        raise Skipped("no kcat on this machine")
    return ["sh", str(HERE / "kcat.sh")]


CLIENTS_TESTED = {
    "confluent-kafka (librdkafka)": lambda: python("confluent"),
    "kcat": kcat,
    "kafka-python": lambda: python("kafka-python"),
    "aiokafka": lambda: python("aiokafka"),
    f"Java client {KAFKA_CLIENTS}": java,
    "kafkajs": lambda: node("kafkajs.mjs", "kafkajs"),
    "@platformatic/kafka": lambda: node("platformatic.mjs", "@platformatic/kafka"),
    "franz-go": go,
}


def run(command: list[str], environment: dict[str, str]) -> Results:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode()
    results: Results = {}
    for line in output.splitlines():
        if line.startswith("CHECK "):
            name, _, verdict = line.removeprefix("CHECK ").rpartition(" ok")
            if name and not verdict:
                results[name] = "ok"
            else:
                name, _, why = line.removeprefix("CHECK ").partition(" failed ")
                results[name] = why[:160]
    return results or {"run": "it printed no result"}


def table(outcomes: dict[str, Results | str]) -> str:
    names = list(outcomes)
    rows = [f"| Check | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for check in CHECKS:
        cells = []
        for name in names:
            outcome = outcomes[name]
            if isinstance(outcome, str):
                cells.append("skipped")
            elif check not in outcome:
                cells.append("")
            elif outcome[check] == "ok":
                cells.append("yes")
            else:
                cells.append("no, see below" if (name, check) in KNOWN else "**no**")
        rows.append(f"| {check} | {' | '.join(cells)} |")
    notes = [f"- {name}, {check}: {why}." for (name, check), why in KNOWN.items()]
    notes += [f"- {n}: skipped, {why}." for n, why in outcomes.items() if isinstance(why, str)]
    return (
        "# Clients\n\nMade by `make test-clients` from a run; an empty cell is a check that is not"
        " made with that client.\nEvery produce is idempotent, every connection TLS 1.3.\n\n"
        + "\n".join(rows) + "\n\n" + "\n".join(notes) + "\n"
    )  # fmt: skip


def main() -> int:
    outcomes: dict[str, Results | str] = {}
    failed = 0
    with appliance() as environment:
        for name, prepare in CLIENTS_TESTED.items():
            try:
                outcome: Results | str = run(prepare(), environment)
            except Skipped as skipped:
                outcome = str(skipped)
            outcomes[name] = outcome
            print(f"{name}: {outcome if isinstance(outcome, str) else ''}", flush=True)
            for check, verdict in outcome.items() if isinstance(outcome, dict) else ():
                print(f"  {check}: {verdict}", flush=True)
                failed += verdict != "ok" and (name, check) not in KNOWN
    PAGE.write_text(table(outcomes))
    passed = sum(v == "ok" for o in outcomes.values() if isinstance(o, dict) for v in o.values())
    skipped = sum(isinstance(outcome, str) for outcome in outcomes.values())
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
