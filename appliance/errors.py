"""Every error that crosses a module: whose fault it is, and the code that the wire carries.

`ErrorCode` are the Kafka protocol's numbers, which both dialects carry. A library's own exceptions
are
mapped to these where the library is called, without their text where that text could hold a secret.
"""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Error codes of the Kafka protocol (the protocol guide's table of error codes)."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    OFFSET_METADATA_TOO_LARGE = 12
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    INVALID_COMMIT_OFFSET_SIZE = 28
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_SASL_MECHANISM = 33
    ILLEGAL_SASL_STATE = 34
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    SECURITY_DISABLED = 54
    KAFKA_STORAGE_ERROR = 56
    SASL_AUTHENTICATION_FAILED = 58
    UNKNOWN_PRODUCER_ID = 59
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FETCH_SESSION_ID_NOT_FOUND = 70
    INVALID_FETCH_SESSION_EPOCH = 71
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    UNSUPPORTED_COMPRESSION_TYPE = 76
    STALE_BROKER_EPOCH = 77
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    PREFERRED_LEADER_NOT_AVAILABLE = 80
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83
    ELECTION_NOT_NEEDED = 84
    NO_REASSIGNMENT_IN_PROGRESS = 85
    INVALID_RECORD = 87
    UNSTABLE_OFFSET_COMMIT = 88
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    RESOURCE_NOT_FOUND = 91
    DUPLICATE_RESOURCE = 92
    UNACCEPTABLE_CREDENTIAL = 93
    INVALID_UPDATE_VERSION = 95
    FEATURE_UPDATE_FAILED = 96
    UNKNOWN_TOPIC_ID = 100
    FETCH_SESSION_TOPIC_ID_ERROR = 106
    MISMATCHED_ENDPOINT_TYPE = 114
    UNSUPPORTED_ENDPOINT_TYPE = 115
    UNKNOWN_SUBSCRIPTION_ID = 117
    TELEMETRY_TOO_LARGE = 118


class ApplianceError(Exception):
    """Root of what this package raises on purpose; the message is safe to show and to log."""


class RequestError(ApplianceError):
    """A request that cannot be met; answered with its code, the connection goes on."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        """Holds the wire's code and a message for the one who sent the request."""
        super().__init__(message)
        self.code = code


class Shredded(RequestError):
    """Records are asked for that went with their key.

    Kafka's clients are told that the offset is out of range, and our own that nobody has them.
    """

    def __init__(self, message: str) -> None:
        """Holds a message for the one who sent the request."""
        super().__init__(ErrorCode.OFFSET_OUT_OF_RANGE, message)


class ProtocolViolation(ApplianceError):
    """Bytes that break the protocol or a limit: the connection is closed, nothing was done."""


class UnsupportedVersion(ProtocolViolation):
    """A known request in a version that is not served."""


class AuthenticationFailed(ApplianceError):
    """A peer is not who it must be; the connection is closed."""


class ConfigurationError(ApplianceError):
    """An operator's input is wrong; the message names the setting and what to do."""


class StorageError(ApplianceError):
    """Files cannot be read or written as promised."""


class StorageFull(StorageError):
    """No space is left for writes; reads go on."""


class FileSystemFailed(ApplianceError):
    """A sync of the whole file system failed: what is durable is not known, the process must end.

    It is no StorageError, so that nobody takes it for the failure of one file.
    """


class DamageDetected(StorageError):
    """A file disagrees with its seal, its manifest or the journal; it is kept aside.

    Never deleted.
    """


class TornTail(StorageError):
    """The end of a file was not completely written; nothing that was acknowledged is in it."""


class KeyWiped(StorageError):
    """A key is asked for that was wiped: what it opens has been closed."""


class DirectoryInUse(StorageError):
    """Another process owns the data directory."""


class KeyProviderError(ApplianceError):
    """Root of what a key provider raises; never holds key material or a library's text."""


class KeysUnavailable(KeyProviderError):
    """The key provider cannot be reached or is sealed; worth trying again."""


class KeysRefused(KeyProviderError):
    """The key provider refuses this node; a custodian must act."""


class KeyGone(KeysRefused):
    """A domain's key is not there, or may not be used any more: what it sealed stays closed."""


class WrongKey(KeyProviderError):
    """A key was unwrapped that is not the one the data was sealed with."""
