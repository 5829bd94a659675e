"""Reads a topic to its end with one client and prints the SHA-256 of its lines.

Run as a program of its own, one for each client, so that five read at once and none of them waits
for another's interpreter. Arguments: client, property file, topic, group, number of lines.
Each client subscribes with its own group, as an application would.
"""

# ruff: noqa: PLC0415 - each client is loaded only where it reads
import asyncio
import hashlib
import sys
from pathlib import Path

AT_ONCE = 20_000
FETCH_BYTES = 4 * 1024 * 1024
TIMEOUT_S = 60


class Lines:
    """What has been read so far."""

    def __init__(self, count):
        self.left = count
        self._digest = hashlib.sha256()

    def take(self, values):
        assert values, f"{self.left} lines did not come"
        self._digest.update(b"\n".join(values) + b"\n")
        self.left -= len(values)

    def __str__(self):
        assert self.left == 0, f"{-self.left} lines too many"
        return self._digest.hexdigest()


def settings(path):
    """A librdkafka property file as a dictionary."""
    lines = Path(path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def by_confluent_kafka(properties, topic, group, lines):
    from confluent_kafka import Consumer

    own = {"group.id": group, "auto.offset.reset": "earliest", "fetch.queue.backoff.ms": "10"}
    consumer = Consumer(properties | own)
    consumer.subscribe([topic])
    while lines.left:
        messages = consumer.consume(min(AT_ONCE, lines.left), timeout=TIMEOUT_S)
        assert not any(message.error() for message in messages)
        lines.take([message.value() for message in messages])
    consumer.close()


def by_kafka_python(properties, topic, group, lines):
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=properties["bootstrap.servers"],
        group_id=group,
        auto_offset_reset="earliest",
        max_poll_records=AT_ONCE,
        max_partition_fetch_bytes=FETCH_BYTES,
        security_protocol="SSL",
        ssl_cafile=properties["ssl.ca.location"],
        ssl_certfile=properties["ssl.certificate.location"],
        ssl_keyfile=properties["ssl.key.location"],
    )
    while lines.left:
        polled = consumer.poll(TIMEOUT_S * 1000)
        lines.take([record.value for records in polled.values() for record in records])
    consumer.close()


def by_aiokafka(properties, topic, group, lines):
    asyncio.run(_by_aiokafka(properties, topic, group, lines))


async def _by_aiokafka(properties, topic, group, lines):
    from aiokafka import AIOKafkaConsumer
    from aiokafka.helpers import create_ssl_context

    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=properties["bootstrap.servers"],
        group_id=group,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        security_protocol="SSL",
        ssl_context=create_ssl_context(
            cafile=properties["ssl.ca.location"],
            certfile=properties["ssl.certificate.location"],
            keyfile=properties["ssl.key.location"],
        ),
    )
    await consumer.start()
    try:
        while lines.left:
            polled = await consumer.getmany(timeout_ms=TIMEOUT_S * 1000, max_records=AT_ONCE)
            lines.take([record.value for records in polled.values() for record in records])
    finally:
        await consumer.stop()


READERS = {
    "confluent-kafka": by_confluent_kafka,
    "kafka-python": by_kafka_python,
    "aiokafka": by_aiokafka,
}

if __name__ == "__main__":
    client, path, topic, group, count = sys.argv[1:]
    found = Lines(int(count))
    READERS[client](settings(path), topic, group, found)
    print(found)
