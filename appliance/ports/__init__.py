"""What the layers ask of each other; concrete classes meet only in `appliance.assembly`.

A port is as narrow as its user needs. Everything async runs on trio; everything else returns at
once.
"""

from appliance.ports.authority import (
    AuditSink,
    PolicySource,
    TopicResolver,
)
from appliance.ports.keys import (
    DataKey,
    DomainStanding,
    DomainStatus,
    KeyCustodian,
    KeyHealth,
    KeyPlace,
    KeyProvider,
    SecretKey,
    Signer,
    WrapAt,
    WrappedKey,
)
from appliance.ports.replication import ReplicationStanding
from appliance.ports.storage import (
    BEGINNING_OF_LOGS,
    HardState,
    KeyMaintenance,
    NodeStorage,
    PartitionLog,
    Rewrapped,
    SealedJournal,
    SegmentInfo,
    Slice,
    Snapshot,
    WrapCount,
)
from appliance.ports.system import (
    Clock,
    Entropy,
)
from appliance.ports.telemetry import (
    ClientReport,
    TelemetrySink,
)

__all__ = [
    "BEGINNING_OF_LOGS",
    "AuditSink",
    "ClientReport",
    "Clock",
    "DataKey",
    "DomainStanding",
    "DomainStatus",
    "Entropy",
    "HardState",
    "KeyCustodian",
    "KeyHealth",
    "KeyMaintenance",
    "KeyPlace",
    "KeyProvider",
    "NodeStorage",
    "PartitionLog",
    "PolicySource",
    "ReplicationStanding",
    "Rewrapped",
    "SealedJournal",
    "SecretKey",
    "SegmentInfo",
    "Signer",
    "Slice",
    "Snapshot",
    "TelemetrySink",
    "TopicResolver",
    "WrapAt",
    "WrapCount",
    "WrappedKey",
]
