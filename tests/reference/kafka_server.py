"""A real Apache Kafka in KRaft combined mode, resolved by Maven and run on loopback."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

VERSION: Final = "4.3.1"
INSTALL_S, START_S = 540, 60

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>tests</groupId><artifactId>reference</artifactId><version>1</version>
<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
<version>{VERSION}</version></dependency></dependencies></project>
"""

_PROPERTIES: Final = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
broker.rack=local
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=500
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class Missing(Exception):
    """Kafka cannot be had on this machine, and why."""


def resolved(place: Path) -> str:
    """The class path of a Kafka of this version; raises Missing."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Missing(f"no {program} on this machine")
    place.mkdir(parents=True, exist_ok=True)
    (place / "pom.xml").write_text(_POM)
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Missing("mvn took too long") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise Missing(f"mvn: {lines[-1][:120] if lines else 'failed'}")
    return f"{place}/lib/*"


@contextmanager
def kafka(class_path: str, folder: Path, port: int, controller: int) -> Iterator[None]:
    """Runs one node until the block ends; raises Missing if it does not come up."""
    folder.mkdir()
    properties = folder / "server.properties"
    properties.write_text(
        _PROPERTIES.format(port=port, controller=controller, data=folder / "data")
    )
    java = ["java", "-Xmx512m", "-cp", class_path]
    made = [*java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk"]
    subprocess.run([*made, "-c", str(properties)], check=True, capture_output=True)
    with (folder / "log").open("wb") as log:
        node = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
    try:
        _await(node, port, folder / "log")
        yield
    finally:
        node.terminate()
        node.wait(30)


def _await(node: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if node.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"Kafka did not start: {log.read_text()[-200:]}") from None
            time.sleep(0.1)
        else:
            return
