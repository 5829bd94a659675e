"""An idempotent producer while its node is killed: everything is there, once, in order.

A client in this mode writes the numbers from 0 to COUNT - 1 to the one partition of KILL_TOPIC,
one after the other and retrying for as long as it takes, and prints `PROGRESS n` now and then and
`DONE` when all were acknowledged.
"""

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Final

from running import Appliance

COUNT: Final = 600
KILLS_AT: Final = (100, 350)
"""At which progress the node is killed."""
PATIENCE_S: Final = 240


def killed(command: list[str], environment: dict[str, str], name: str, running: Appliance) -> str:
    """`ok`, or why not."""
    topic = f"killed-{name}-{time.time_ns()}"
    _make(environment, topic)
    process = subprocess.Popen(
        command, env=environment | {"MODE": "kill", "KILL_TOPIC": topic, "COUNT": str(COUNT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    last, is_done, kills = "", False, list(KILLS_AT)
    try:
        for line in process.stdout or ():
            last = line.strip() or last
            is_done = is_done or last == "DONE"
            number = line.removeprefix("PROGRESS ").strip()
            if number.isdigit() and kills and int(number) >= kills[0]:
                kills.pop(0)
                running.kill_node()
        process.wait()
    finally:
        timer.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.returncode == -signal.SIGKILL:
        return f"it was not done within {PATIENCE_S} s: {last}"
    if kills:
        return f"it ended before the node was killed {len(KILLS_AT)} times: {last}"
    found = list(_read(environment, topic))
    wanted = list(range(COUNT))
    if found == wanted and is_done:
        return "ok"
    lost, more = set(wanted) - set(found), len(found) - len(set(found))
    order = "" if found == sorted(found) else ", out of order"
    return f"{len(lost)} lost, {more} twice{order}; it said: {last}"


def _options(environment: dict[str, str]) -> dict[str, object]:
    return {
        "bootstrap.servers": environment["BOOTSTRAP"],
        "security.protocol": "ssl",
        "ssl.ca.location": environment["CA"],
        "ssl.certificate.location": environment["CERT_admin"],
        "ssl.key.location": environment["KEY_admin"],
        "enable.metrics.push": False,
    }


def _make(environment: dict[str, str], topic: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient(_options(environment))
    admin.create_topics([NewTopic(topic, 1)])[topic].result(20)


def _read(environment: dict[str, str], topic: str) -> Iterator[int]:
    """Every value, in the order of the log."""
    from confluent_kafka import Consumer, TopicPartition

    reader = Consumer(_options(environment) | {"group.id": topic, "enable.auto.commit": False})
    _, end = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
    reader.assign([TopicPartition(topic, 0, 0)])
    position, until = 0, time.monotonic() + 30
    while position < end and time.monotonic() < until:
        for each in reader.consume(1_000, 0.5):
            if each.error() is None:
                position = each.offset() + 1
                yield int(each.value())
    reader.close()
