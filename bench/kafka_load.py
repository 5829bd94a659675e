"""Load from librdkafka, in a process of its own: produces, fetches, and acknowledged latencies.

Usage: `kafka_load.py JSON`; prints what it found as JSON. Rates leave connecting out: each client
has had one round trip before the clock starts.
"""

import json
import os
import statistics
import sys
import time
from typing import cast

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

Job = dict[str, object]

OVERHEAD_BYTES = 100
"""Of a batch with one record: so much less is put into the record than the batch may have."""
TICK_S = 0.004
"""Between looks at what was delivered: this process must leave the processor to librdkafka."""


class Flow:
    """One producer with a bounded number of batches on their way."""

    def __init__(self, job: Job) -> None:
        size = number(job, "size")
        self.topic = str(job["topic"])
        self.value = os.urandom(size - OVERHEAD_BYTES)
        self.window = max(16, min(256, (64 << 20) // size // number(job, "clients")))
        self.sent = self.done = 0
        self.producer = Producer(
            cast("dict[str, str]", job["settings"])
            | {
                "acks": "all",
                "batch.size": size + 1024,
                "batch.num.messages": 1,
                "linger.ms": 0,
                "message.max.bytes": size + 1024,
                "max.in.flight.requests.per.connection": number(job, "in_flight"),
                "queue.buffering.max.kbytes": 1 << 20,
                "socket.nagle.disable": True,
            }
        )
        self.offer(1)
        self.producer.flush(30)

    def offer(self, count: int) -> None:
        """Hands so many batches to the client."""
        for _ in range(count):
            self.producer.produce(self.topic, self.value, partition=0, on_delivery=self.delivered)
        self.sent += count

    def delivered(self, error: object, _: Message) -> None:
        """Counts an acknowledgement."""
        if error is not None:
            raise SystemExit(f"a produce failed: {error}")
        self.done += 1

    def top_up(self) -> None:
        """Counts what was acknowledged and offers as much again."""
        self.producer.poll(0)
        missing = self.window - (self.sent - self.done)
        if missing:
            self.offer(missing)


def produce(job: Job) -> dict[str, float]:
    """Acknowledged batches a second, all clients together."""
    flows = [Flow(job) for _ in range(number(job, "clients"))]
    before = sum(flow.done for flow in flows)
    began = time.perf_counter()
    while time.perf_counter() - began < float(str(job["seconds"])):
        for flow in flows:
            flow.top_up()
        time.sleep(TICK_S)
    done = sum(flow.done for flow in flows) - before
    taken = time.perf_counter() - began
    for flow in flows:
        flow.producer.flush(30)
    return {"batches_s": done / taken, "batches": sum(flow.done for flow in flows)}


def latency(job: Job) -> dict[str, float]:
    """Milliseconds from send to acknowledgement, each client with one batch on its way."""
    flows = [Flow(job) for _ in range(number(job, "clients"))]
    taken: list[float] = []

    def delivered(error: object, message: Message) -> None:
        if error is not None:
            raise SystemExit(f"a produce failed: {error}")
        taken.append(message.latency() * 1e3)

    until = time.perf_counter() + float(str(job["seconds"]))
    while time.perf_counter() < until:
        for flow in flows:
            if len(flow.producer) == 0:
                flow.producer.produce(flow.topic, flow.value, partition=0, on_delivery=delivered)
        for flow in flows:
            # One client is waited for; among many a short sleep keeps this thread off their cores.
            flow.producer.poll(1.0 if len(flows) == 1 else 0)
        if len(flows) > 1:
            time.sleep(0.001)
    for flow in flows:
        flow.producer.flush(30)
    cuts = statistics.quantiles(taken, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "count": len(taken)}


def fetch(job: Job) -> dict[str, float]:
    """Batches a second of reading a topic from its first offset, until time is up or its end."""
    consumer = Consumer(
        cast("dict[str, str]", job["settings"])
        | {
            "group.id": "bench",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 8 << 20,
            "fetch.queue.backoff.ms": 2,
            "queued.min.messages": 100_000,
            "queued.max.messages.kbytes": 256 << 10,
        }
    )
    consumer.assign([TopicPartition(str(job["topic"]), 0, 0)])
    count = 0
    began: float | None = None
    last = 0.0
    while began is None or last - began < float(str(job["seconds"])):
        messages = consumer.consume(number(job, "at_once"), timeout=0.1)
        last = time.perf_counter()
        for message in messages:
            error = message.error()
            if error is not None and not error.name() == "_PARTITION_EOF":
                raise KafkaException(error)
        whole = sum(1 for message in messages if message.error() is None)
        if began is None:
            began = last if whole else None  # What came first was waited for while connecting.
        else:
            count += whole
        if whole < len(messages):
            break
    consumer.close()
    return {"batches_s": count / max(last - (began or 0), 1e-9), "batches": count}


def number(job: Job, name: str) -> int:
    """A whole number in the job."""
    return int(str(job[name]))


def main() -> None:
    """Runs the job."""
    job: Job = json.loads(sys.argv[1])
    began = time.process_time()
    work = {"produce": produce, "fetch": fetch, "latency": latency}[str(job["what"])]
    found = work(job)
    print(json.dumps(found | {"load_cpu_s": time.process_time() - began}))


if __name__ == "__main__":
    main()
