"""The settings of a topic: Kafka's names, and only what is honoured.

Rules: see `setting_kinds`. A setting that is not given has its default.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from appliance.broker.setting_kinds import (
    Known,
    between,
    fraction,
    honoured,
    one_of,
    only,
    refused,
    words,
)
from appliance.errors import ErrorCode, RequestError
from appliance.limits import (
    DEFAULT_BATCH_BYTES,
    KIB,
    MAX_BATCH_BYTES,
    MAX_REPLICAS,
    MAX_SEGMENT_BYTES,
    MIB,
)
from appliance.wire.kafka.records import TimestampLimits
from appliance.wire.requests import SettingKind

Given = Iterable[tuple[str, str | None]]
KEY_DOMAIN: Final = "memorystreamer.key.domain"
"""Whether a topic is sealed under the cluster's key or under one of its own; fixed when made."""
MAX_SETTINGS: Final = 64
DAY_MS: Final = 24 * 3600 * 1000
WEEK_MS: Final = 7 * DAY_MS
"""Kafka's default of retention.ms and of segment.ms."""
_MAX_MS: Final = (1 << 63) - 1
_TIMES: Final = TimestampLimits()

BOOLEAN, STRING, INT = SettingKind.BOOLEAN, SettingKind.STRING, SettingKind.INT
LONG, LIST = SettingKind.LONG, SettingKind.LIST

_FILES = "files roll and are indexed by the store's own rules, which keep their seals in one piece"
_FLUSH = "every batch is synced before it is acknowledged"
_TIERED = "there is no tiered storage"
_THROTTLE = "replicas are throttled by the cluster, not by topic"
_CODECS = "batches are kept as their producers compressed them"


class TopicSettings(msgspec.Struct, frozen=True):
    """What the settings mean."""

    max_batch_bytes: int
    min_in_sync: int
    timestamps: TimestampLimits
    segment_bytes: int
    segment_ms: int
    retention_ms: int
    retention_bytes: int
    deletes: bool
    compacts: bool
    min_dirty_ratio: float
    min_compaction_lag_ms: int
    delete_retention_ms: int


TOPIC_SETTINGS: Final = (
    honoured(
        "cleanup.policy",
        LIST,
        "delete",
        words("compact", "delete"),
        "whether old files go, only the newest record of each key stays, or both",
    ),
    honoured(
        "delete.retention.ms",
        LONG,
        str(DAY_MS),
        between(0, _MAX_MS),
        "how long compaction leaves a tombstone for readers to see",
    ),
    honoured(
        "min.cleanable.dirty.ratio",
        SettingKind.DOUBLE,
        "0.5",
        fraction(),
        "what part of the closed files must be new before they are compacted",
    ),
    honoured(
        "min.compaction.lag.ms",
        LONG,
        "0",
        between(0, _MAX_MS),
        "how old a file's newest record must be before it is compacted",
    ),
    only("compression.type", STRING, "producer", _CODECS),
    honoured(
        "max.message.bytes",
        INT,
        str(DEFAULT_BATCH_BYTES),
        between(KIB, MAX_BATCH_BYTES),
        "the largest record batch that is taken",
    ),
    honoured(
        "message.timestamp.after.max.ms",
        LONG,
        str(_TIMES.after_ms),
        between(0, _MAX_MS),
        "how far ahead of the leader's clock a record's time may be",
    ),
    honoured(
        "message.timestamp.before.max.ms",
        LONG,
        str(_MAX_MS if _TIMES.before_ms is None else _TIMES.before_ms),
        between(0, _MAX_MS),
        "how far behind the leader's clock a record's time may be",
    ),
    only("message.timestamp.type", STRING, "CreateTime", "records keep their producers' times"),
    honoured(
        "min.insync.replicas",
        INT,
        "1",
        between(1, MAX_REPLICAS),
        "how many replicas hold a batch before acks=all is answered; at least a majority",
    ),
    honoured(
        "retention.bytes",
        LONG,
        "-1",
        between(-1, _MAX_MS),
        "what a partition's files hold at the least before the oldest one goes",
    ),
    honoured(
        "retention.ms",
        LONG,
        str(WEEK_MS),
        between(-1, _MAX_MS),
        "how old a file's newest record becomes before the file goes",
    ),
    honoured(
        "segment.bytes",
        INT,
        str(MAX_SEGMENT_BYTES),
        between(MIB, MAX_SEGMENT_BYTES),
        "how large a file becomes before the next one begins",
    ),
    honoured(
        "segment.ms",
        LONG,
        str(WEEK_MS),
        between(1, _MAX_MS),
        "how old a file becomes before the next one begins",
    ),
    only(
        "unclean.leader.election.enable",
        BOOLEAN,
        "false",
        "a leader that lacks acknowledged records is never elected",
    ),
    honoured(
        KEY_DOMAIN,
        STRING,
        "cluster",
        one_of("cluster", "topic"),
        "whether it is sealed under the cluster's key or one of its own; fixed when it is made",
    ),
    refused("compression.gzip.level", _CODECS),
    refused("compression.lz4.level", _CODECS),
    refused("compression.zstd.level", _CODECS),
    refused("file.delete.delay.ms", _FILES),
    refused("flush.messages", _FLUSH),
    refused("flush.ms", _FLUSH),
    refused("follower.replication.throttled.replicas", _THROTTLE),
    refused("index.interval.bytes", _FILES),
    refused("leader.replication.throttled.replicas", _THROTTLE),
    refused("local.retention.bytes", _TIERED),
    refused("local.retention.ms", _TIERED),
    refused("max.compaction.lag.ms", "files are compacted by how much of them is new"),
    refused("preallocate", _FILES),
    refused("remote.log.copy.disable", _TIERED),
    refused("remote.log.delete.on.disable", _TIERED),
    refused("remote.storage.enable", _TIERED),
    refused("segment.index.bytes", _FILES),
    refused("segment.jitter.ms", _FILES),
)
"""Every topic setting that Kafka has, and ours."""

BY_NAME: Final[Mapping[str, Known]] = MappingProxyType({each.name: each for each in TOPIC_SETTINGS})


def check_settings(given: Given) -> tuple[tuple[str, str], ...]:
    """The settings as the catalogue keeps them, sorted.

    Raises RequestError(INVALID_CONFIG), naming the setting.
    """
    kept: dict[str, str] = {}
    for name, value in given:
        if len(kept) >= MAX_SETTINGS or name in kept:
            raise _invalid("each setting is given once")
        if value is None:
            raise _invalid(f"{name[:64]}: null is no value")
        known = BY_NAME.get(name)
        fault = "there is no such setting here" if known is None else known.fault(value)
        if fault is not None:
            raise _invalid(f"{name[:64]}: {fault}")
        kept[name] = value
    return tuple(sorted(kept.items()))


def meaning(kept: tuple[tuple[str, str], ...]) -> TopicSettings:
    """What checked settings amount to, defaults filled in."""
    values = dict(kept)
    before = values.get("message.timestamp.before.max.ms")
    after = values.get("message.timestamp.after.max.ms")
    return TopicSettings(
        max_batch_bytes=int(values.get("max.message.bytes", DEFAULT_BATCH_BYTES)),
        min_in_sync=int(values.get("min.insync.replicas", "1")),
        timestamps=TimestampLimits(
            _TIMES.before_ms if before is None else int(before),
            _TIMES.after_ms if after is None else int(after),
        ),
        segment_bytes=int(values.get("segment.bytes", MAX_SEGMENT_BYTES)),
        segment_ms=int(values.get("segment.ms", WEEK_MS)),
        retention_ms=int(values.get("retention.ms", WEEK_MS)),
        retention_bytes=int(values.get("retention.bytes", -1)),
        deletes="delete" in values.get("cleanup.policy", "delete"),
        compacts="compact" in values.get("cleanup.policy", "delete"),
        min_dirty_ratio=float(values.get("min.cleanable.dirty.ratio", "0.5")),
        min_compaction_lag_ms=int(values.get("min.compaction.lag.ms", "0")),
        delete_retention_ms=int(values.get("delete.retention.ms", DAY_MS)),
    )


def has_own_key(kept: tuple[tuple[str, str], ...]) -> bool:
    """Whether a topic with these settings is sealed under a key of its own."""
    return dict(kept).get(KEY_DOMAIN) == "topic"


def _invalid(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_CONFIG, message)
