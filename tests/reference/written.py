"""Cases that no declaration gives: batches, sessions, epochs, the life of a group, raw frames."""

from collections.abc import Callable, Iterator
from typing import Final

from bases import COMPACTED, PLAIN, creation, fresh, id_of, kept, new_topic, scoped
from batches import TIME_MS, batch, idempotent, wrong_batches
from cases import NOBODY_S_ID, Ask, Case
from messages import BY_NAME, Row, filled
from sides import Side

from appliance.wire.kafka.records import Codec, Record, encode_batch

Name = str | Callable[[Side], str]


def ask(api: str, version: int, values: Row) -> Ask:
    """A request with the usual for what is not given."""
    return Ask(api, version, filled(BY_NAME[api], version, values))


def made(name: object, partitions: int = 1) -> Ask:
    """Makes a topic."""
    each = creation(name, partitions)
    return ask(each.api, each.version, each.values)


def produce(version: int, topic: Name, data: object, index: int = 0) -> Ask:
    """A produce of one batch, by name or by id as the version has it."""
    return ask("Produce", version, {
        "transactional_id": None, "acks": -1, "timeout_ms": 5_000,
        "topics": [{"name": topic, "topic_id": id_of(topic), "partitions": [
            {"index": index, "batch": data},
        ]}],
    })  # fmt: skip


def fetch(version: int, parts: list[Row], **more: object) -> Ask:
    """A fetch of parts, which say their topic, index and offset."""
    topics: dict[str, Row] = {}
    for part in parts:
        name = str(part["topic"])
        topic = topics.setdefault(name, {"name": name, "topic_id": id_of(name), "partitions": []})
        rows = topic["partitions"]
        if isinstance(rows, list):
            rows.append({
                "index": 0, "current_leader_epoch": -1, "offset": 0, "last_fetched_epoch": -1,
                "log_start_offset": -1, "max_bytes": 1 << 20, **part,
            })  # fmt: skip
    usual: Row = {
        "replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20,
        "isolation_level": 0, "session_id": 0, "session_epoch": -1,
        "topics": list(topics.values()), "forgotten_topics": [], "rack_id": "",
        "replica_state": {"replica_id": -1, "replica_epoch": -1},
    }  # fmt: skip
    return ask("Fetch", version, {**usual, **more})


def of_produce(version: int) -> Iterator[Case]:
    """Batches, good and bad, and the sequences of a producer."""
    for name, data in wrong_batches():
        yield Case(f"batch: {name}", (made(fresh), produce(version, fresh, data),
                   fetch(12, [{"topic": PLAIN}])))  # fmt: skip
    for codec in Codec:
        for count in (1, 3):
            data = batch(count, codec)
            yield Case(
                f"batch: {count} in {codec.name}", (made(fresh), produce(version, fresh, data))
            )
    keyless = bytes(encode_batch([Record(None, b"v", timestamp_ms=TIME_MS)]))
    yield Case("compacted: with a key", (produce(version, COMPACTED, batch()),))
    yield Case("compacted: no key", (produce(version, COMPACTED, keyless),))
    first = idempotent(4_000, 0, 0, 2)
    rows: dict[str, tuple[bytes, ...]] = {
        "in order": (first, idempotent(4_000, 0, 2)),
        "again": (first, first),
        "an older one again": (first, idempotent(4_000, 0, 2), first),
        "a gap": (first, idempotent(4_000, 0, 5)),
        "begins elsewhere": (idempotent(4_000, 0, 7),),
        "of another length": (first, idempotent(4_000, 0, 0, 1)),
        "a new epoch": (first, idempotent(4_000, 1, 0)),
        "a new epoch begins elsewhere": (first, idempotent(4_000, 1, 4)),
        "an old epoch": (idempotent(4_000, 3, 0), idempotent(4_000, 2, 0)),
        "wraps": (idempotent(4_001, 0, (1 << 31) - 2, 2), idempotent(4_001, 0, 0)),
    }
    for name, sent in rows.items():
        yield Case(f"sequence: {name}",
                   (made(fresh), *(produce(version, fresh, each) for each in sent)))  # fmt: skip
    twice = ask("Produce", version, {
        "transactional_id": None, "acks": -1, "timeout_ms": 5_000,
        "topics": [{"name": fresh, "topic_id": id_of(fresh), "partitions": [
            {"index": 0, "batch": batch()}, {"index": 0, "batch": batch()},
        ]}],
    })  # fmt: skip
    yield Case("one partition twice", (made(fresh), twice))
    yield Case("no topic of this name or id", (produce(version, "no-such-topic", batch()),))


def of_fetch(version: int) -> Iterator[Case]:
    """Limits, epochs and sessions."""
    both = [{"topic": PLAIN, "index": 0}, {"topic": PLAIN, "index": 1}]
    for name, part in {
        "the end": {"offset": 10}, "beyond the end": {"offset": 11}, "before all": {"offset": -1},
        "one byte": {"max_bytes": 1}, "no byte": {"max_bytes": 0},
        "two batches": {"max_bytes": 150},
        "an epoch of none": {"current_leader_epoch": -2},
        "epoch to come": {"current_leader_epoch": 900},
        "a diverging epoch": {"last_fetched_epoch": 900, "offset": 3},
        "partition of none": {"index": 9},
    }.items():  # fmt: skip
        yield Case(f"part: {name}", (fetch(version, [{"topic": PLAIN, **part}]),))
    for limit in (0, 1, 100, 200, 1_000):
        yield Case(f"at most {limit} bytes", (fetch(version, both, max_bytes=limit),))
    yield Case("isolated", (fetch(version, both, isolation_level=1),))
    yield Case("isolated otherwise", (fetch(version, both, isolation_level=9),))
    yield Case("of an unknown topic", (fetch(version, [{"topic": "no-such-topic"}]),))
    yield Case("of a known and an unknown", (fetch(version, [*both, {"topic": "no-such-topic"}]),))
    if version >= 7:
        yield from _sessions(version, both)


def _sessions(version: int, both: list[Row]) -> Iterator[Case]:
    """KIP-227."""
    opened = fetch(version, both, session_epoch=0)
    known = kept("session_id")
    more: dict[str, tuple[Ask, ...]] = {
        "nothing new": (fetch(version, [], session_id=known, session_epoch=1),),
        "two in a row": (
            fetch(version, [], session_id=known, session_epoch=1),
            fetch(version, [], session_id=known, session_epoch=2),
        ),
        "wrong epoch": (fetch(version, [], session_id=known, session_epoch=5),),
        "one of nobody": (fetch(version, [], session_id=4_711, session_epoch=1),),
        "another offset": (
            fetch(version, [{"topic": PLAIN, "offset": 4}], session_id=known, session_epoch=1),
        ),
        "one more": (
            fetch(version, [{"topic": PLAIN, "index": 2}], session_id=known, session_epoch=1),
        ),
        "an unknown one more": (
            fetch(version, [{"topic": "no-such-topic"}], session_id=known, session_epoch=1),
        ),
        "one forgotten": (
            fetch(version, [], session_id=known, session_epoch=1, forgotten_topics=[
                {"name": PLAIN, "topic_id": id_of(PLAIN), "partitions": [0]},
            ]),
        ),
        "closed": (
            fetch(version, both, session_id=known, session_epoch=-1),
            fetch(version, [], session_id=known, session_epoch=1),
        ),
        "begun again": (fetch(version, both, session_id=known, session_epoch=0),),
        "epoch 0 of nobody": (fetch(version, both, session_id=4_711, session_epoch=0),),
    }  # fmt: skip
    for name, asks in more.items():
        yield Case(f"session: {name}", (opened, *asks))
    yield Case("session: of nothing", (fetch(version, [], session_epoch=0),))


def of_offsets(version: int) -> Iterator[Case]:
    """Times, those with a meaning and those of records."""
    for time in (-1, -2, -3, -4, -5, -6, -7, 0, TIME_MS, TIME_MS + 1_500, TIME_MS + 9_000, 1 << 50):
        for index in (0, 1):
            parts = [{"index": index, "current_leader_epoch": -1, "timestamp_ms": time}]
            yield Case(f"offset at {time} in {index}", (ask("ListOffsets", version, {
                "replica_id": -1, "isolation_level": 0, "timeout_ms": 5_000,
                "topics": [{"name": PLAIN, "partitions": parts}],
            }),))  # fmt: skip
    twice = [{"index": 0, "current_leader_epoch": -1, "timestamp_ms": -1}] * 2
    yield Case("one partition twice", (ask("ListOffsets", version, {
        "replica_id": -1, "isolation_level": 0, "timeout_ms": 5_000,
        "topics": [{"name": PLAIN, "partitions": twice}],
    }),))  # fmt: skip


def of_metadata(version: int) -> Iterator[Case]:
    """All topics, none, and topics by id."""
    usual: Row = {
        "allow_auto_topic_creation": False, "cluster_operations": False, "topic_operations": False,
    }  # fmt: skip
    rows: dict[str, object] = {
        "all": None if version else [], "a bad name": [{"name": "a b", "topic_id": None}],
        "more than one": [{"name": n, "topic_id": None} for n in (PLAIN, "cut", "no-such-topic")],
    }  # fmt: skip
    if version:
        rows["none"] = []
    if version >= 10:
        rows |= {
            "by id": [{"name": None, "topic_id": id_of(PLAIN)}],
            "an id of nobody": [{"name": None, "topic_id": NOBODY_S_ID}],
            "neither": [{"name": None, "topic_id": None}],
            "by id and name": [{"name": PLAIN, "topic_id": id_of(PLAIN)}],
        }
    for name, topics in rows.items():
        yield Case(f"topics: {name}", (ask("Metadata", version, {**usual, "topics": topics}),))


_GROUP: Final[Row] = {
    "session_timeout_ms": 600_000, "rebalance_timeout_ms": 600_000, "group_instance_id": None,
    "protocol_type": "consumer", "protocols": [{"name": "range", "metadata": b"\x00\x01"}],
    "reason": None,
}  # fmt: skip


def of_groups() -> Iterator[Case]:
    """The life of a group of one, in each version of its requests."""
    member: Row = {
        "group": fresh, "member_id": kept("member_id"), "generation_id": kept("generation_id"),
        "group_instance_id": None, "protocol_type": "consumer", "protocol_name": "range",
    }  # fmt: skip
    for version in range(5, 10):
        joined = ask("JoinGroup", version, {**_GROUP, "group": fresh, "member_id": ""})
        again = ask(
            "JoinGroup", version, {**_GROUP, "group": fresh, "member_id": kept("member_id")}
        )
        sync = ask("SyncGroup", min(version, 5), {**member, "assignments": [
            {"member_id": kept("member_id"), "assignment": b"\x00\x07"},
        ]})  # fmt: skip
        beat = ask("Heartbeat", 4, member)
        commit = ask("OffsetCommit", 8, {**member, "topics": [
            {"name": PLAIN, "partitions": [
                {"index": 0, "offset": 3, "leader_epoch": -1, "metadata": "m"},
                {"index": 9, "offset": 3, "leader_epoch": -1, "metadata": None},
            ]},
            {"name": "no-such-topic", "partitions": [
                {"index": 0, "offset": 3, "leader_epoch": -1, "metadata": "m"},
            ]},
        ]})  # fmt: skip
        found = ask("OffsetFetch", 8, {"groups": [{"group": fresh, "topics": None}]})
        described = ask("DescribeGroups", 5, {"groups": [fresh], "operations": True})
        left = ask("LeaveGroup", 5, {"group": fresh, "members": [
            {"member_id": kept("member_id"), "group_instance_id": None, "reason": None},
        ]})  # fmt: skip
        removed = ask("DeleteGroups", 2, {"groups": [fresh]})
        yield Case(f"a group's life by JoinGroup v{version}", (
            joined, again, beat, sync, beat, commit, found, described, removed, left, described,
            removed, described, found,
        ))  # fmt: skip


def of_topics(version: int) -> Iterator[Case]:
    """Topics that cannot be, and some that can."""

    def create(*topics: Row, validate_only: bool = False) -> Ask:
        return ask("CreateTopics", version, {
            "topics": list(topics), "timeout_ms": 5_000, "validate_only": validate_only,
        })  # fmt: skip

    usual = new_topic(fresh)
    for name in (".", "..", "a/b", "x" * 249, "x" * 250, "__consumer_offsets", "_under"):
        yield Case(f"topic name {name[:30]} of {len(name)}", (create({**usual, "name": name}),))
    for name, setting in {
        "unknown": ("no.such.setting", "1"), "null": ("retention.ms", None),
        "no number": ("retention.ms", "soon"), "too small": ("retention.ms", "-2"),
        "a list": ("cleanup.policy", "compact,delete"), "bad policy": ("cleanup.policy", "burn"),
        "empty policy": ("cleanup.policy", ""), "codec": ("compression.type", "zstd"),
        "bad codec": ("compression.type", "rar"), "size": ("max.message.bytes", "-1"),
        "isr": ("min.insync.replicas", "1"), "isr 0": ("min.insync.replicas", "0"),
        "time": ("message.timestamp.type", "CreateTime"),
        "bad time": ("message.timestamp.type", "x"),
        "segment": ("segment.bytes", "1048576"), "small segment": ("segment.bytes", "13"),
        "unclean": ("unclean.leader.election.enable", "true"),
    }.items():  # fmt: skip
        row = {**usual, "settings": [{"name": setting[0], "value": setting[1]}]}
        yield Case(f"setting: {name}", (create(row),))
    twice = [{"name": "retention.ms", "value": v} for v in ("1000", "2000")]
    yield Case("one setting twice", (create({**usual, "settings": twice}),))
    placed: dict[str, list[Row]] = {
        "right": [{"partition": 0, "nodes": [1]}],
        "a gap": [{"partition": 1, "nodes": [1]}],
        "no node": [{"partition": 0, "nodes": []}],
        "a node of none": [{"partition": 0, "nodes": [7]}],
        "a node twice": [{"partition": 0, "nodes": [1, 1]}],
        "a partition twice": [{"partition": 0, "nodes": [1]}] * 2,
    }
    for name, rows in placed.items():
        free = {**usual, "partition_count": -1, "replication_factor": -1, "assignments": rows}
        yield Case(f"placed: {name}", (create(free),))
        yield Case(f"placed with counts: {name}", (create({**usual, "assignments": rows}),))
    yield Case("only judged", (create(usual, validate_only=True), create(usual), create(usual)))
    yield Case("two at once", (create(usual, {**usual, "name": scoped}),), f"topics {version}")
    yield Case("a name that collides", (
        create({**usual, "name": "a.name"}), create({**usual, "name": "a_name"}),
    ))  # fmt: skip


def raw_frames() -> Iterator[tuple[str, bytes]]:
    """Bytes that are no request; each side answers, or ends the connection."""

    def framed(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    def header(key: int, version: int) -> bytes:
        return (
            key.to_bytes(2, "big", signed=True)
            + version.to_bytes(2, "big", signed=True)
            + b"\0\0\0\7\xff\xff"
        )

    yield "no bytes at all", framed(b"")
    yield "two bytes", framed(b"\0\3")
    yield "a header cut short", framed(header(3, 4)[:7])
    yield "a negative size", b"\xff\xff\xff\xff"
    yield "a size of 2^31 - 1", b"\x7f\xff\xff\xff" + bytes(64)
    yield "an API of none", framed(header(9_999, 0))
    yield "an API below 0", framed(header(-1, 0))
    for key in (0, 1, 3, 17, 19, 36):
        for version in (-1, 0, 99):
            if (key, version) not in {(3, 0), (36, 0)}:
                yield f"API {key} in version {version}", framed(header(key, version))
    for version in (-1, 5, 32_767):
        yield f"ApiVersions in version {version}", framed(header(18, version) + b"\0\1\1\0")
    yield "a client id cut short", framed(b"\0\3\0\4\0\0\0\7\0\x20ab")
    yield "a client id that is no text", framed(b"\0\x12\0\0\0\0\0\7\0\2\xff\xfe")
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def all_written() -> Iterator[Case]:
    """Every case of this module that is made of requests; what lists everything goes first."""
    for version in range(14):
        yield from of_metadata(version)
    for version in (3, 8, 12, 13):
        yield from of_produce(version)
    for version in (4, 11, 12, 13, 18):
        yield from of_fetch(version)
    for version in (1, 4, 8, 11):
        yield from of_offsets(version)
    yield from of_groups()
    for version in (2, 5, 7):
        yield from of_topics(version)
