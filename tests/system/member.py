"""A member of a consumer group, with one client, until it is killed.

Prints `partitions N` when it was given N, and `got VALUE` for each record once its offset is
committed. Arguments: client, property file, topic, group.
"""

# ruff: noqa: PLC0415 - each client is loaded only where it reads
import asyncio
import sys

from reading import settings

HEARTBEAT_MS, SESSION_MS = 300, 6_000


def say(*words):
    print(*words, flush=True)


def tell(values):
    for value in values:
        say("got", value.decode())


def with_confluent_kafka(properties, topic, group):
    from confluent_kafka import Consumer

    own = {
        "group.id": group,
        "enable.auto.commit": "false",
        "heartbeat.interval.ms": str(HEARTBEAT_MS),
        "session.timeout.ms": str(SESSION_MS),
    }
    consumer = Consumer(properties | own)
    consumer.subscribe([topic], on_assign=lambda _, given: say("partitions", len(given)))
    while True:
        messages = consumer.consume(100, timeout=0.2)
        assert not any(message.error() for message in messages)
        if messages:
            consumer.commit(asynchronous=False)
            tell(message.value() for message in messages)


def with_kafka_python(properties, topic, group):
    from kafka import ConsumerRebalanceListener, KafkaConsumer

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            pass

        def on_partitions_assigned(self, assigned):
            say("partitions", len(assigned))

    consumer = KafkaConsumer(
        bootstrap_servers=properties["bootstrap.servers"],
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=HEARTBEAT_MS,
        session_timeout_ms=SESSION_MS,
        security_protocol="SSL",
        ssl_cafile=properties["ssl.ca.location"],
        ssl_certfile=properties["ssl.certificate.location"],
        ssl_keyfile=properties["ssl.key.location"],
    )
    consumer.subscribe([topic], listener=Listener())
    while True:
        polled = consumer.poll(200)
        if polled:
            consumer.commit()
            tell(record.value for records in polled.values() for record in records)


def with_aiokafka(properties, topic, group):
    asyncio.run(_with_aiokafka(properties, topic, group))


async def _with_aiokafka(properties, topic, group):
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.helpers import create_ssl_context

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            pass

        def on_partitions_assigned(self, assigned):
            say("partitions", len(assigned))

    consumer = AIOKafkaConsumer(
        bootstrap_servers=properties["bootstrap.servers"],
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=HEARTBEAT_MS,
        session_timeout_ms=SESSION_MS,
        partition_assignment_strategy=(RangePartitionAssignor,),
        security_protocol="SSL",
        ssl_context=create_ssl_context(
            cafile=properties["ssl.ca.location"],
            certfile=properties["ssl.certificate.location"],
            keyfile=properties["ssl.key.location"],
        ),
    )
    consumer.subscribe([topic], listener=Listener())
    await consumer.start()
    while True:
        polled = await consumer.getmany(timeout_ms=200)
        if polled:
            await consumer.commit()
            tell(record.value for records in polled.values() for record in records)


MEMBERS = {
    "confluent-kafka": with_confluent_kafka,
    "kafka-python": with_kafka_python,
    "aiokafka": with_aiokafka,
}

if __name__ == "__main__":
    client, path, topic, group = sys.argv[1:]
    MEMBERS[client](settings(path), topic, group)
