"""Batches that were refused for the moment, so that what was sent behind them is refused as well.

An idempotent producer has up to five batches of a partition under way. If the first finds no leader
here and the second finds one, the second leaves a gap that this node has made, not the producer.
Told of OUT_OF_ORDER_SEQUENCE_NUMBER for a batch that is not its oldest, librdkafka takes a new
epoch and sends again what it has no answer for, in every partition: what another leader wrote
before it fell is then written twice. And where nothing is known of the producer yet, the second
batch would be taken for its first one.

Rules: after a refusal as many later batches of its producer are refused alike as may be under way;
then a gap is a gap. The refused batch itself, sent again, ends it.
"""

from contextlib import suppress
from typing import Final

import msgspec

from appliance.broker.producers import REMEMBERED_BATCHES
from appliance.errors import ErrorCode, RequestError
from appliance.types import TopicName
from appliance.wire.kafka.records import BatchHeader, read_header
from appliance.wire.requests import ProducePartition

MAX_REFUSALS: Final = 4_096
"""Producers' partitions that are remembered; beyond that the oldest refusal is forgotten."""

_FOR_THE_MOMENT: Final = frozenset(
    {
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
)
"""What a producer answers by sending the same batch again."""

_HALF: Final = 1 << 30
_MASK: Final = 0x7FFF_FFFF
"""Sequences go round (KIP-98): what is less than half of them ahead comes later."""

_Key = tuple[TopicName, int, int, int]
"""A partition, and a producer's id and epoch."""


class SentBehind(RequestError):
    """A batch that was sent behind one that was refused, and is refused like it."""


class _Refused(msgspec.Struct, gc=False):
    sequence: int
    code: ErrorCode
    behind: int
    """How many more batches may have been under way behind it."""


class Refusals:
    """What was refused of idempotent producers, by partition and producer."""

    __slots__ = ("_bound", "_refused")

    def __init__(self, bound: int = MAX_REFUSALS) -> None:
        """Nothing was refused yet."""
        self._bound = bound
        self._refused: dict[_Key, _Refused] = {}

    def __len__(self) -> int:
        """How many refusals are remembered."""
        return len(self._refused)

    def check(self, topic: TopicName, index: int, header: BatchHeader, expected: int) -> None:
        """Raises SentBehind for a gap that a refusal has made; `expected` is what comes next."""
        key = topic, index, header.producer_id, header.producer_epoch
        refused = self._refused.get(key)
        if refused is None:
            return
        first = header.base_sequence
        if first in {expected, refused.sequence} or not refused.behind:
            del self._refused[key]
        elif _comes_after(first, expected) and _comes_after(first, refused.sequence):
            refused.behind -= 1
            raise SentBehind(refused.code, "a batch that comes before it was refused")

    def remember(self, topic: TopicName, part: ProducePartition, error: RequestError) -> None:
        """A part of a request was refused: for what the producer has sent behind it."""
        if part.batch is not None:
            with suppress(RequestError):  # too short to be anybody's
                self.note(topic, part.index, read_header(part.batch), error)

    def note(self, topic: TopicName, index: int, header: BatchHeader, error: RequestError) -> None:
        """A batch was refused, by whomever."""
        if header.producer_id < 0 or error.code not in _FOR_THE_MOMENT:
            return
        if isinstance(error, SentBehind):
            return
        key = topic, index, header.producer_id, header.producer_epoch
        earlier = self._refused.get(key)
        if earlier is not None and earlier.behind:
            if _comes_after(header.base_sequence, earlier.sequence):
                earlier.behind = REMEMBERED_BATCHES - 1
                return
        elif earlier is None and len(self._refused) >= self._bound:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = _Refused(header.base_sequence, error.code, REMEMBERED_BATCHES - 1)


def _comes_after(sequence: int, other: int) -> bool:
    return 0 < (sequence - other) & _MASK < _HALF
