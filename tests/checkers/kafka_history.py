"""Judges what clients of partitions saw, in the manner of Jepsen's kafka workload.

A history is what each process was told, in the order in which it was told; processes tell each
other nothing, so no clock is compared. Values are unique: what carries one twice was written twice.
A key names one partition.

The anomalies (Jepsen's names, `jepsen.tests.kafka`):

| Name | What was seen |
|---|---|
| inconsistent-offsets | two values at one offset |
| duplicate | one value at two offsets |
| lost-write | an acknowledged value below what was read, and no poll ever had it |
| aborted-read | a value whose send failed for certain |
| unsent | a value that nobody sent |
| poll-skip | a consumer went past a value that stands between two that it read |
| nonmonotonic-poll | a consumer went back, and nobody had moved it |
| nonmonotonic-send | a producer's later send was acknowledged at an earlier offset |
| unseen | an acknowledged value above everything that was read, once all had been read |

Gaps between offsets alone prove nothing: entries that no client sees may stand there.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec


class Result(Enum):
    """What a producer was told."""

    OK = "ok"
    FAIL = "fail"
    """It was not written, and never will be."""
    INFO = "info"
    """It may have been written, or may yet be."""


class Send(msgspec.Struct, frozen=True, tag="send"):
    """One value to one partition; its offset, where it was told."""

    process: str
    key: str
    value: str
    result: Result
    offset: int | None = None


class Poll(msgspec.Struct, frozen=True, tag="poll"):
    """What one poll brought from one partition, in its order."""

    process: str
    key: str
    records: tuple[tuple[int, str], ...]


class Assign(msgspec.Struct, frozen=True, tag="assign"):
    """A consumer was moved, or given other partitions: its next poll may begin anywhere."""

    process: str


Operation = Send | Poll | Assign

ANOMALIES = (
    "inconsistent-offsets", "duplicate", "lost-write", "aborted-read", "unsent", "poll-skip",
    "nonmonotonic-poll", "nonmonotonic-send", "unseen",
)  # fmt: skip


class Anomaly(msgspec.Struct, frozen=True):
    """One thing that must not be."""

    name: str
    text: str


class Verdict(msgspec.Struct, frozen=True):
    """What a history proves, and how much of it there was."""

    anomalies: tuple[Anomaly, ...]
    acknowledged: int
    unknown: int
    failed: int
    read: int
    """Records that polls brought, each as often as it came."""

    def count(self, name: str) -> int:
        """How often one kind was found."""
        return sum(anomaly.name == name for anomaly in self.anomalies)

    def __str__(self) -> str:
        """One line of figures."""
        found = {name: self.count(name) for name in ANOMALIES}
        told = ", ".join(f"{count} {name}" for name, count in found.items() if count)
        return (
            f"{self.acknowledged} acknowledged, {self.unknown} unknown, {self.failed} refused, "
            f"{self.read} read: {told or 'no anomaly'}"
        )


class _Partition:
    """What is known of one partition."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.values: dict[int, str] = {}
        """Each offset's value, as it was first told."""
        self.offsets: dict[str, int] = {}
        """Each value's offset, as it was first told."""
        self.sends: dict[str, Send] = {}
        self.polled: set[str] = set()
        self.highest_polled = -1
        self.order: list[int] = []
        """Every offset that holds a value, ascending."""


def check(history: Iterable[Operation], *, read_to_end: bool) -> Verdict:
    """Judges a history.

    Args:
        history: operations, each process' own in order.
        read_to_end: whether some consumer has read every partition to its end, after the last
            send: only then is what nobody has read an anomaly.
    """
    operations = tuple(history)
    partitions: dict[str, _Partition] = {}
    found: list[Anomaly] = []
    for operation in operations:
        if not isinstance(operation, Assign):
            part = partitions.setdefault(operation.key, _Partition(operation.key))
            _take_in(part, operation, found)
    for part in partitions.values():
        part.order = sorted(part.values)
        found += _of_values(part, read_to_end=read_to_end)
    found += _of_consumers(operations, partitions)
    found += _of_producers(operations)
    sends = [operation for operation in operations if isinstance(operation, Send)]
    return Verdict(
        tuple(found),
        sum(send.result is Result.OK for send in sends),
        sum(send.result is Result.INFO for send in sends),
        sum(send.result is Result.FAIL for send in sends),
        sum(len(each.records) for each in operations if isinstance(each, Poll)),
    )


def _take_in(part: _Partition, operation: Send | Poll, found: list[Anomaly]) -> None:
    if isinstance(operation, Send):
        part.sends[operation.value] = operation
        if operation.result is Result.OK and operation.offset is not None:
            _place(part, operation.offset, operation.value, found)
        return
    for offset, value in operation.records:
        _place(part, offset, value, found)
        part.polled.add(value)
        part.highest_polled = max(part.highest_polled, offset)


def _place(part: _Partition, offset: int, value: str, found: list[Anomaly]) -> None:
    there = part.values.setdefault(offset, value)
    if there != value:
        found.append(Anomaly("inconsistent-offsets", f"{part.key}@{offset} is {there} and {value}"))
    at = part.offsets.setdefault(value, offset)
    if at != offset:
        found.append(Anomaly("duplicate", f"{value} is at {part.key}@{at} and @{offset}"))


def _of_values(part: _Partition, *, read_to_end: bool) -> Iterable[Anomaly]:
    for value, send in part.sends.items():
        if send.result is Result.FAIL and value in part.polled:
            yield Anomaly("aborted-read", f"{value} failed, and {part.key} holds it")
        if send.result is not Result.OK or value in part.polled:
            continue
        offset = part.offsets.get(value)
        if offset is None or offset <= part.highest_polled:
            yield Anomaly("lost-write", f"{value} was acknowledged at {part.key}@{offset}")
        elif read_to_end:
            yield Anomaly("unseen", f"{value} at {part.key}@{offset}, the end of what was read")
    for value in sorted(part.polled - part.sends.keys()):
        yield Anomaly("unsent", f"{part.key} holds {value}, which nobody sent")


def _of_consumers(
    operations: Sequence[Operation], partitions: dict[str, _Partition]
) -> Iterable[Anomaly]:
    """Each consumer's way through each partition, between two moves."""
    at: dict[str, dict[str, int]] = defaultdict(dict)
    for operation in operations:
        if isinstance(operation, Assign):
            at[operation.process].clear()
        elif isinstance(operation, Poll):
            part, position = partitions[operation.key], at[operation.process]
            for offset, _ in operation.records:
                before = position.get(operation.key)
                if before is not None:
                    yield from _step(part, operation.process, before, offset)
                position[operation.key] = offset


def _step(part: _Partition, process: str, before: int, offset: int) -> Iterable[Anomaly]:
    if offset <= before:
        text = f"{process} read {part.key}@{offset} after @{before}"
        yield Anomaly("nonmonotonic-poll", text)
        return
    following = part.order[bisect_left(part.order, before + 1)]
    if following < offset:
        text = f"{process} read {part.key}@{before}, then @{offset}, and passed @{following}"
        yield Anomaly("poll-skip", text)


def _of_producers(operations: Sequence[Operation]) -> Iterable[Anomaly]:
    last: dict[tuple[str, str], int] = {}
    for operation in operations:
        if not isinstance(operation, Send) or operation.offset is None:
            continue
        if operation.result is not Result.OK:
            continue
        way = operation.process, operation.key
        before = last.get(way, -1)
        if operation.offset < before:
            text = f"{way} was acknowledged @{before}, then @{operation.offset}"
            yield Anomaly("nonmonotonic-send", text)
        last[way] = max(before, operation.offset)


def encode(operation: Operation) -> bytes:
    """One line of a history file."""
    return msgspec.json.encode(operation) + b"\n"


def decode(lines: Iterable[bytes]) -> list[Operation]:
    """A history file; a last line that was cut short by a kill is left out."""
    decoder = msgspec.json.Decoder(Operation)
    return [decoder.decode(line) for line in lines if line.endswith(b"\n")]
