"""What the Python clients write while their node is killed (killing.py), and under a quota.

Each function of `WRITERS` writes numbers one after the other, whatever happens to the node; each of
`THROTTLED` writes more than the quota of its client id and returns once it saw that it was held up.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

E = os.environ
PATIENCE_MS = 120_000
SIZE, TIMES = 20_000, 50
"""Of what is written under the quota: ten seconds' worth may be had at once, this is more."""
PAUSE_S = 0.005


def progress(number: int) -> None:
    if number % 10 == 0:
        print(f"PROGRESS {number}", flush=True)


def numbers() -> range:
    return range(int(E["COUNT"]))


# --- confluent-kafka -------------------------------------------------------------------------


def confluent(options: dict[str, object]) -> None:
    from confluent_kafka import Producer

    producer = Producer(
        options | {"enable.idempotence": True, "message.timeout.ms": PATIENCE_MS, "linger.ms": 1}
    )
    failed: list[object] = []

    def told(error: object, message: object) -> None:
        if error:
            failed.append(error)
        else:
            progress(message.offset())

    for number in numbers():
        producer.produce(E["KILL_TOPIC"], str(number), on_delivery=told)
        producer.poll(PAUSE_S)
    producer.flush(PATIENCE_MS / 1000)
    print(f"failed {failed[0]}" if failed else "DONE", flush=True)


def confluent_throttled(options: dict[str, object], topic: str) -> float:
    from confluent_kafka import Producer

    throttled: list[float] = []
    producer = Producer(
        options | {
            "client.id": E["SLOW"],
            "batch.num.messages": 1,
            "throttle_cb": lambda event: throttled.append(event.throttle_time),
        }
    )  # fmt: skip
    for _ in range(TIMES):
        producer.produce(topic, os.urandom(SIZE))
        producer.poll(0)
    producer.flush(60)
    producer.poll(0)
    return max(throttled, default=0.0)


# --- kafka-python ----------------------------------------------------------------------------


def kafka_python(options: dict[str, object]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(
        **options, enable_idempotence=True, delivery_timeout_ms=PATIENCE_MS,
        max_block_ms=PATIENCE_MS,
    )  # fmt: skip
    sent = []
    for number in numbers():
        sent.append(producer.send(E["KILL_TOPIC"], str(number).encode()))
        if number % 10 == 0:
            sent[-1].get(PATIENCE_MS / 1000)
            progress(number)
        time.sleep(PAUSE_S)
    for each in sent:
        each.get(PATIENCE_MS / 1000)
    print("DONE", flush=True)


def kafka_python_throttled(options: dict[str, object], topic: str) -> float:
    from kafka import KafkaProducer

    producer = KafkaProducer(**options, client_id=E["SLOW"], batch_size=0)
    for sent in [producer.send(topic, os.urandom(SIZE)) for _ in range(TIMES)]:
        sent.get(60)
    found = [group.get("throttle-time-max", 0) for group in producer.metrics().values()]
    producer.close(2)
    return float(max(found))


# --- aiokafka --------------------------------------------------------------------------------


async def aiokafka(options: dict[str, object]) -> None:
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(
        **options, enable_idempotence=True, request_timeout_ms=PATIENCE_MS
    ) as producer:
        sent = []
        for number in numbers():
            sent.append(await producer.send(E["KILL_TOPIC"], str(number).encode()))
            if number % 10 == 0:
                await sent[-1]
                progress(number)
            await asyncio.sleep(PAUSE_S)
        for each in sent:
            await each
    print("DONE", flush=True)


async def aiokafka_pace(options: dict[str, object], topic: str, client_id: str) -> float:
    """Seconds that the same takes under a client id."""
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(**options, client_id=client_id) as producer:
        began = time.monotonic()
        for _ in range(TIMES):
            await producer.send_and_wait(topic, os.urandom(SIZE))
        return time.monotonic() - began


async def held_up(pace: Callable[[str], Awaitable[float]]) -> float:
    """How much longer it takes under the quota."""
    return await pace(E["SLOW"]) - await pace("quick")
