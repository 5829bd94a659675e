"""Two answers to one request: what differs, once what must differ was set aside.

Set aside, as they are a cluster's own: ids of topics, of the cluster and of its members, hosts and
ports, the sizes of a disk, the words of an error message (that there is one counts). Epochs of
leaders are compared with the side's current one, rows of an array by what names them.
"""

import re
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from messages import Row
from sides import Outcome, Side

from appliance.wire.kafka.records import read_header

Differences = list[tuple[str, object, object]]
"""(place, Kafka's, the appliance's)."""

ABSENT: Final = "absent"

_MADE_UP: Final = re.compile(r"(tests|an-instance|.*)-[0-9a-f-]{36}")
"""A member's id as coordinators make it."""
_OF_OTHER_CASES: Final = ("fresh-", "scoped-", "no-such", "bad name")
"""How names begin that the cases before have left behind, where everything is listed."""
_MOST_GROUPS: Final = 4
"""That a case asks for; more than that is a list of all."""

_OWN: Final = {
    "cluster_id", "host", "port", "client_host", "total_bytes", "usable_bytes", "size_bytes",
    "last_fetch_ms", "last_caught_up_ms", "last_timestamp_ms", "features_epoch",
    "replica_directory_id",
}  # fmt: skip
_NAMED_BY: Final = (
    "name", "topic", "group", "index", "partition", "key", "node_id", "replica_id", "topic_id",
    "producer_id",
)  # fmt: skip


def differences(kafka: Outcome, ours: Outcome, sides: tuple[Side, Side]) -> Differences:
    """Every place at which the two answers say different things.

    Where a row's errors differ, or it is not there at all, what else it holds follows from that.
    """
    return list(_unlike(_plain(kafka, sides[0]), _plain(ours, sides[1]), ""))


def _unlike(theirs: object, ours: object, place: str) -> Iterator[tuple[str, object, object]]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in theirs:
            if name == "error" and theirs[name] != ours[name]:
                yield f"{place}.error".lstrip("."), theirs[name], ours[name]
                return
        for name, value in theirs.items():
            yield from _unlike(value, ours.get(name), f"{place}.{name}".lstrip("."))
    elif isinstance(theirs, list) and isinstance(ours, list):
        yield from _unlike_rows(_labelled(theirs), _labelled(ours), place)
    elif theirs != ours:
        yield place, _short(theirs), _short(ours)


def _unlike_rows(
    theirs: dict[str, object], ours: dict[str, object], place: str
) -> Iterator[tuple[str, object, object]]:
    if place == "groups" and len(theirs) > _MOST_GROUPS:
        theirs, ours = _lasting(theirs), _lasting(ours)
    for label in [*theirs, *(each for each in ours if each not in theirs)]:
        where = f"{place}[{label}]"
        if label not in ours:
            yield where, "there", ABSENT
        elif label not in theirs:
            yield where, ABSENT, "there"
        else:
            yield from _unlike(theirs[label], ours[label], where)


def _lasting(rows: dict[str, object]) -> dict[str, object]:
    return {name: row for name, row in rows.items() if not name.startswith(_OF_OTHER_CASES)}


def _short(value: object) -> object:
    """An answer, where the other side gave none."""
    return "answered" if isinstance(value, dict) else "rows" if isinstance(value, list) else value


def _labelled(rows: list[object]) -> dict[str, object]:
    """Rows by what names them; of those with one name, the second is `#2`."""
    named: dict[str, object] = {}
    for row in rows:
        label, times = _label(row), 1
        name = label
        while name in named:
            times += 1
            name = f"{label}#{times}"
        named[name] = row
    return named


def _label(row: object) -> str:
    if not isinstance(row, dict):
        return str(row)
    for name in _NAMED_BY:
        if row.get(name) not in {None, ""}:
            return str(row[name])
    return ""


def _plain(value: object, side: Side, name: str = "") -> object:
    if isinstance(value, dict):
        return {key: _plain(inner, side, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(each, side, name) for each in value]
    if value is None:
        return None
    if name in _OWN:
        return "its own"
    if isinstance(value, UUID):
        return "an id"
    if name in {"message", "documentation"}:
        return "words" if value else value
    if name in {"member_id", "leader"} and value == side.kept.get("member_id") and value:
        return "its member"
    if name in {"member_id", "leader"} and _MADE_UP.fullmatch(str(value)):
        return "a member"
    if name == "session_id" and value in side.sessions:
        return "a session"
    if name in {"leader_epoch", "epoch"} and value == side.epoch:
        return "current"
    if name == "producer_id" and isinstance(value, int) and value >= 0:
        return "a producer"
    if name in {"batch", "batches"} and isinstance(value, bytes):
        return _batches(value)
    return value


def _batches(data: bytes) -> object:
    """Whole batches as their headers tell them; that a last one is cut short is a client's loss."""
    found: list[Row] = []
    position = 0
    view = memoryview(data)
    while len(data) - position >= 61:
        header = read_header(view[position:])
        if header.size_bytes > len(data) - position:
            break
        found.append({
            "offset": header.base_offset, "count": header.record_count,
            "last": header.last_offset_delta, "attributes": header.attributes,
            "crc": header.crc, "sequence": header.base_sequence,
        })  # fmt: skip
        position += header.size_bytes
    return {"whole": [str(each) for each in found], "rest": len(data) - position}
