"""`make test-clients`: real Kafka clients against a real appliance, and the table of what passed.

Starts a quickstart with a listener for logins, installs each client by its own package manager into
`.clients/`, runs its checks, and writes docs/clients.md: of all, or of those that are named and, as
they were when they ran last, of the others. A client that cannot be installed here is
shown as skipped with the reason, never as passed. Exits with 1 if any check failed that is not
listed, with its reason, in KNOWN.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from platform import machine

from killing import killed
from running import SLOW_BYTES_PER_S, TOLD, Appliance, appliance

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIENTS = ROOT / ".clients"
PAGE = ROOT / "docs" / "clients.md"
LAST = CLIENTS / "last.json"
"""What each client's last run came to."""
KAFKA_CLIENTS = "4.1.0"
INSTALL_S, RUN_S = 540, 240

UNDER_KILL = "idempotent produce under kill -9"
TELEMETRY = "telemetry (KIP-714)"
CHECKS = (
    "produce none", "produce gzip", "produce snappy", "produce lz4", "produce zstd", "consume",
    "admin: topics", "admin: settings", "admin: cluster", "admin: groups", "admin: deletion",
    "ACLs", "mutual TLS refused", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", UNDER_KILL,
    "quota", TELEMETRY,
)  # fmt: skip

LIBRDKAFKA, KCAT, KAFKA_PYTHON, AIOKAFKA = (
    "confluent-kafka (librdkafka)", "kcat", "kafka-python", "aiokafka",
)  # fmt: skip
JAVA, KAFKAJS, PLATFORMATIC, FRANZ = (
    f"Java client {KAFKA_CLIENTS}", "kafkajs", "@platformatic/kafka", "franz-go",
)  # fmt: skip

NOT_IN_CLIENT = {
    **{
        (KCAT, check): "kcat produces, consumes and lists"
        for check in CHECKS
        if check == "ACLs" or (check.startswith("admin: ") and check != "admin: cluster")
    },
    (KCAT, "OAUTHBEARER"): "this build of kcat makes unsigned tokens only, it has no `oidc`",
    (KCAT, UNDER_KILL): "it ends by itself when every broker that it knows is down, here the one",
    (AIOKAFKA, "ACLs"): "its administration has none",
    **{
        (client, TELEMETRY): "it does not know KIP-714"
        for client in (KAFKA_PYTHON, AIOKAFKA, KAFKAJS, PLATFORMATIC)
    },
    (KCAT, TELEMETRY): "its librdkafka is older than 2.5",
}
"""What a client cannot do whatever the broker is, with what it has instead."""

KNOWN: dict[tuple[str, str], str] = {}
"""Failures that are the client's on this machine, with the reason."""

Results = dict[str, str]
"""Per check `ok`, or why it failed."""


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


ALLOWED = "org.apache.kafka.sasl.oauthbearer.allowed.urls"
"""From where the Java client may take a token."""


def java() -> list[str]:
    place = CLIENTS / "java"
    place.mkdir(parents=True, exist_ok=True)
    (place / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>tests</groupId><artifactId>tests</artifactId><version>1</version><dependencies>"
        "<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId>"
        f"<version>{KAFKA_CLIENTS}</version></dependency>"
        "<dependency><groupId>com.fasterxml.jackson.core</groupId>"
        "<artifactId>jackson-databind</artifactId><version>2.21.2</version></dependency>"
        "<dependency><groupId>org.bitbucket.b_c</groupId><artifactId>jose4j</artifactId>"
        "<version>0.9.6</version></dependency></dependencies></project>"
    )
    installed(
        "java",
        ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
        ["javac", "-cp", "lib/*", "-d", "out", str(HERE / "java" / "Client.java")],
    )
    allowed = f'"-D{ALLOWED}=file://$TOKEN_FILE"'
    return ["sh", "-c", f'exec java {allowed} -cp "{place}/out:{place}/lib/*" Client']


def node(script: str, *packages: str) -> list[str]:
    place = installed("node", ["npm", "install", "--silent", "--no-save", *packages])
    shutil.copy(HERE / "node" / script, place / script)
    return ["node", str(place / script)]


def newer_node(script: str, *packages: str) -> list[str]:
    """With a Node.js that has zstd (22.15), from npm where the machine's own is older."""
    program = f"node-linux-{'arm64' if machine() == 'aarch64' else 'x64'}"
    _, *command = node(script, *packages, f"{program}@22")
    return [str(CLIENTS / "node" / "node_modules" / program / "bin" / "node"), *command]


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


def kafka_python() -> list[str]:
    """kafka-python looks for the codecs in packages of their own."""
    codecs = ("lz4", "zstandard", "python-snappy")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", "."]
    place = installed("python-codecs", [*pip, *codecs])
    return ["env", f"PYTHONPATH={place}", *python("kafka-python")]


def kcat() -> list[str]:
    if shutil.which("kcat") is None:
        raise Skipped("no kcat on this machine")
    return ["sh", str(HERE / "kcat.sh")]


KAFKAJS_CODECS = ("kafkajs-snappy", "@2l/kafkajs-lz4", "@mongodb-js/zstd@1.2.2")
"""gzip alone comes with kafkajs."""

CLIENTS_TESTED = {
    LIBRDKAFKA: lambda: python("confluent"),
    KCAT: kcat,
    KAFKA_PYTHON: kafka_python,
    AIOKAFKA: lambda: python("aiokafka"),
    JAVA: java,
    KAFKAJS: lambda: node("kafkajs.mjs", "kafkajs", *KAFKAJS_CODECS),
    PLATFORMATIC: lambda: newer_node("platformatic.mjs", "@platformatic/kafka"),
    FRANZ: go,
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


def all_of(name: str, command: list[str], running: Appliance) -> Results:
    """Everything that is asked of one client."""
    environment = running.environment()
    told = running.said(TOLD)
    results = run(command, environment)
    if running.said(TOLD) > told:
        results[TELEMETRY] = "ok"
    word = "".join(each for each in name.partition(" ")[0] if each.isalnum() or each == "-")
    if (name, UNDER_KILL) not in NOT_IN_CLIENT:
        results[UNDER_KILL] = killed(command, environment, word, running)
    for check in CHECKS:
        if (name, check) not in NOT_IN_CLIENT:
            results.setdefault(check, "it printed no result")
    return results


def cell(name: str, check: str, outcome: Results | str) -> str:
    """What the table says."""
    if isinstance(outcome, str):
        return "skipped"
    if (name, check) in NOT_IN_CLIENT:
        return "not in this client"
    if outcome[check] == "ok":
        return "yes"
    return "no, see below" if (name, check) in KNOWN else "**no**"


def table(outcomes: dict[str, Results | str]) -> str:
    names = list(outcomes)
    rows = [f"| Check | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for check in CHECKS:
        cells = [cell(name, check, outcomes[name]) for name in names]
        rows.append(f"| {check} | {' | '.join(cells)} |")
    without: dict[tuple[str, str], list[str]] = {}
    for (name, check), why in NOT_IN_CLIENT.items():
        without.setdefault((name, why), []).append(check)
    notes = [f"- {name}, {check}: {why}." for (name, check), why in KNOWN.items()]
    notes += [f"- Not in {name} ({', '.join(c)}): {why}." for (name, why), c in without.items()]
    notes += [f"- {n}: skipped, {why}." for n, why in outcomes.items() if isinstance(why, str)]
    return (
        "# Clients\n\nMade by `make test-clients`. Every produce is idempotent, every"
        " connection TLS 1.3.\n\n" + "\n".join(rows) + "\n\n"
        f"- {UNDER_KILL}: the node is killed twice while the client writes numbers; after that each"
        " is there, once, in order.\n"
        f"- quota: a client id with {SLOW_BYTES_PER_S} bytes a second sees that it is throttled, in"
        " what its client tells of it; kafkajs, @platformatic/kafka and aiokafka tell nothing, so"
        " it is their pace that is measured.\n"
        f"- {TELEMETRY}: the metrics that a client pushes are read by the node.\n"
        + "\n".join(notes) + "\n"
    )  # fmt: skip


def main() -> int:
    only = sys.argv[1:]
    CLIENTS.mkdir(exist_ok=True)
    ran: dict[str, Results | str] = {}
    with appliance() as running:
        for name, prepare in CLIENTS_TESTED.items():
            if only and not any(each in name for each in only):
                continue
            try:
                outcome: Results | str = all_of(name, prepare(), running)
            except Skipped as skipped:
                outcome = str(skipped)
            ran[name] = outcome
            print(f"{name}: {outcome if isinstance(outcome, str) else ''}", flush=True)
            for check, verdict in outcome.items() if isinstance(outcome, dict) else ():
                print(f"  {check}: {verdict}", flush=True)
    last = json.loads(LAST.read_text()) if only and LAST.exists() else {}
    outcomes = {name: (last | ran)[name] for name in CLIENTS_TESTED if name in last | ran}
    LAST.write_text(json.dumps(outcomes))
    PAGE.write_text(table(outcomes))
    return summary(ran)


def summary(ran: dict[str, Results | str]) -> int:
    """Counts; 1 if something failed that is not known."""
    verdicts = [
        (name, check, verdict)
        for name, outcome in ran.items()
        if isinstance(outcome, dict)
        for check, verdict in outcome.items()
    ]
    passed = sum(verdict == "ok" for *_, verdict in verdicts)
    failed = sum(v != "ok" and (name, check) not in KNOWN for name, check, v in verdicts)
    skipped = sum(isinstance(outcome, str) for outcome in ran.values())
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
