"""A batch costs what its bytes cost: ten records in it, or ten thousand, make no difference.

What is compared is the node's own processor time, nanoseconds of all its threads, so that a busy
machine changes both sides alike; the two are measured in turns, and the median of the turns' ratios
counts.
"""

import random
import statistics
import struct
from pathlib import Path

import pytest

from appliance.wire.kafka.records import Codec, Record, encode_batch

from .talking import NULL, Client, array, string

pytestmark = pytest.mark.system

BATCH_BYTES = 256 * 1024
COUNTS = (10, 10_000)
BATCHES = 24
"""Of one turn."""
TURNS = 45
"""Single ratios scatter by a fifth on a shared machine, the median of so many far less."""
BOUND = 1.1


def spent_ns(pid):
    """Processor time of every thread of a process."""
    return sum(
        int((task / "schedstat").read_text().split()[0])
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def batch(count, codec):
    """A batch of 256 KiB on the wire, but for a hundredth; what is in it cannot be compressed."""
    size = BATCH_BYTES // count
    while True:
        noise = random.Random(count)
        records = [Record(None, noise.randbytes(size), timestamp_ms=-1) for _ in range(count)]
        made = encode_batch(records, codec=codec)
        if abs(len(made) - BATCH_BYTES) <= max(BATCH_BYTES // 100, count // 2):
            return bytes(made)
        size += round((BATCH_BYTES - len(made)) / count) or (1 if len(made) < BATCH_BYTES else -1)


class Topic:
    """Batches of one kind, written and read over one connection."""

    def __init__(self, client, name, data):
        self._client, self._name, self._data = client, name, data
        self.next = 0
        self._count = struct.unpack_from(">i", data, 57)[0]
        created = string(name) + struct.pack(">ih", 1, 1) + array() + array()
        client.ask(19, 2, array(created) + struct.pack(">i", 9_000) + b"\0")

    def produce(self):
        part = struct.pack(">ii", 0, len(self._data)) + self._data
        body = NULL + struct.pack(">hi", -1, 9_000) + array(string(self._name) + array(part))
        for _ in range(BATCHES):
            answer = self._client.ask(0, 3, body)
            (error,) = struct.unpack_from(">h", answer, 4 + 2 + len(self._name) + 4 + 4)
            assert error == 0

    def fetch(self):
        """The turn's batches, whole."""
        size = BATCHES * len(self._data) + 1
        at = struct.pack(">iqi", 0, self.next, size)
        head = struct.pack(">iiiib", -1, 0, 0, size, 0)
        answer = self._client.ask(1, 4, head + array(string(self._name) + array(at)))
        assert len(answer) > BATCHES * len(self._data)
        self.next += BATCHES * self._count


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
def test_a_batch_of_ten_thousand_records_costs_what_one_of_ten_does(quickstart, codec):
    files = {
        "certificate": quickstart.client("admin", "pem"),
        "key": quickstart.client("admin", "key"),
    }
    with Client(quickstart.kafka, ca=quickstart.client("ca", "pem"), **files) as client:
        topics = [Topic(client, f"{n}-{codec.name.lower()}", batch(n, codec)) for n in COUNTS]
        ratios = {"produce": [], "fetch": []}
        for turn in range(TURNS + 1):
            for what, found in ratios.items():
                took = {}
                for topic in topics if turn % 2 else reversed(topics):
                    before = spent_ns(quickstart.node_pid)
                    getattr(topic, what)()
                    took[topic] = spent_ns(quickstart.node_pid) - before
                if turn:  # the first warms up
                    found.append(took[topics[1]] / took[topics[0]])
    medians = {what: statistics.median(found) for what, found in ratios.items()}
    print(codec.name, medians)
    assert all(1 / BOUND < median < BOUND for median in medians.values()), (medians, ratios)
