"""One replica's files are harmed while clients read and write, on three nodes of real processes.

A run flips a bit of a closed file of one node, or cuts the file off, and has that node lead, so
that readers come upon it. The node must say so, hand over, and be filled again by the others; then
it leads again, and all is read from its own files. No client may be told of anything: the producer
gets every record acknowledged, the reader gets every record, once and in order, in every round.
"""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from confluent_kafka import Consumer, TopicPartition

from tests.torture.failover import NODES, PARTITIONS, TOPIC, wait_for
from tests.torture.handover import AsAdmin

FILE_BYTES = 1 << 20
RECORD_BYTES = 4_000
"""Of each record, so that a partition fills a file in a few seconds."""
FOUND = "a log is damaged"
LEAD_S = 60.0


class Reader(threading.Thread):
    """Reads every partition from its beginning to its end, round after round."""

    def __init__(self, settings: dict[str, str]) -> None:
        super().__init__(daemon=True)
        own = {"group.id": "reader", "auto.offset.reset": "error", "enable.partition.eof": "true"}
        self._settings = settings | own
        self._stopping = threading.Event()
        self.rounds = 0
        self.errors: list[str] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            self._round()
            self.rounds += 1

    def _round(self) -> None:
        consumer = Consumer(self._settings)
        consumer.assign([TopicPartition(TOPIC, index, 0) for index in range(PARTITIONS)])
        following, ended = dict.fromkeys(range(PARTITIONS), 0), set[int]()
        while len(ended) < PARTITIONS and not self._stopping.is_set():
            message = consumer.poll(1)
            if message is None:
                continue
            partition, error = message.partition(), message.error()
            if error is None and message.offset() == following[partition]:
                following[partition] += 1
            elif error is None:
                self.errors.append(f"{message.offset()} came where {following[partition]} was next")
            elif error.name() == "_PARTITION_EOF":
                ended.add(partition)
            else:
                self.errors.append(str(error))
        consumer.close()

    def finish(self) -> None:
        """Ends the round that it is in."""
        self._stopping.set()
        self.join()


class Repairs(AsAdmin):
    """The suite: a run is one file harmed, found and made whole."""

    topic_settings = MappingProxyType({"segment.bytes": str(FILE_BYTES)})
    record_bytes = RECORD_BYTES

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._flipped = self._cut = self._rounds = 0

    def run(self, number: int) -> int:
        """Harms a file, has it found, and has its node serve everything again."""
        source = random.Random(f"repair {self._seed} {number}")
        node = 1 + number % NODES
        path = wait_for(lambda: self._closed_file(node, source), "a closed file")
        reader = Reader(self._nodes.client("admin"))
        reader.start()
        try:
            found = self._nodes.count(FOUND)
            self._harm(path, source, number)
            wait_for(lambda: self._tries(node, lambda: self._nodes.count(FOUND) > found), "finding")
            wait_for(lambda: self._leads_all(node), "the node to be whole", LEAD_S)
            rounds = reader.rounds
            wait_for(lambda: reader.rounds > rounds + 1, "a whole round of reading")
        finally:
            reader.finish()
        self._rounds += reader.rounds
        if reader.errors:
            raise AssertionError(f"a reader was told: {reader.errors[0]}")
        if not path.exists():
            raise AssertionError("what is damaged is to be kept")
        return 1

    def _closed_file(self, node: int, source: random.Random) -> Path | None:
        """A file of a partition that is not its newest, and has not been harmed before."""
        data = self._nodes.directory / "nodes" / str(node) / "data"
        closed = []
        for folder in sorted(path for path in data.iterdir() if path.is_dir()):
            files = [each for each in folder.iterdir() if each.stat().st_size > FILE_BYTES // 2]
            files.sort(key=lambda each: each.stat().st_mtime)
            closed += files[:-1]
        return source.choice(closed) if closed else None

    def _harm(self, path: Path, source: random.Random, number: int) -> None:
        size = path.stat().st_size
        place = source.randrange(size // 4, size // 2)
        with path.open("r+b") as file:
            if number % 2:
                file.truncate(place)
                self._cut += 1
            else:
                file.seek(place)
                (byte,) = file.read(1)
                file.seek(place)
                file.write(bytes([byte ^ 1 << source.randrange(8)]))
                self._flipped += 1

    def _tries(self, node: int, done: Callable[[], bool]) -> bool:
        """Has a node lead what it can, so that readers come upon its files."""
        if not done():
            self._lead_all(node)
            time.sleep(1)
        return done()

    def _leads_all(self, node: int) -> bool:
        self._lead_all(node)
        time.sleep(1)
        return len(self._led().get(node, ())) == PARTITIONS

    def summary(self) -> str:
        """What was harmed, and what clients saw of it."""
        return (
            f"{self._flipped} bits flipped and {self._cut} files cut off, each repaired from the"
            f" other nodes; no client was told; {self._rounds} rounds of reading;"
            f" {self._read_back} records read back, each once"
        )
