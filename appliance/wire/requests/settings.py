"""Settings of topics and nodes, read and changed, under Kafka's names."""

from enum import IntEnum

from appliance.errors import ErrorCode
from appliance.wire.requests.base import Name, Part, Request, Response


class SettingsOf(IntEnum):
    """Kinds of things that have settings, by Kafka's numbers; others are refused."""

    TOPIC = 2
    BROKER = 4


class SettingSource(IntEnum):
    """Where a value comes from, by Kafka's numbers."""

    TOPIC = 1
    NODE = 4
    DEFAULT = 5


class SettingKind(IntEnum):
    """The type of a value, by Kafka's numbers."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


class AskedSettings(Part, frozen=True):
    """A thing by kind and name; `names` None, or none of them, asks for all of its settings."""

    kind: int
    name: Name
    names: tuple[Name, ...] | None = None


class DescribeConfigs(Request, frozen=True):
    """Asks for settings."""

    resources: tuple[AskedSettings, ...]
    synonyms: bool = False
    documentation: bool = False


class SettingSynonym(Part, frozen=True):
    """One of the places that a value could come from, those first that win."""

    name: str
    value: str | None
    source: SettingSource


class Setting(Part, frozen=True):
    """A setting as it is."""

    name: str
    value: str | None
    read_only: bool = False
    source: SettingSource = SettingSource.DEFAULT
    synonyms: tuple[SettingSynonym, ...] = ()
    kind: SettingKind = SettingKind.STRING
    documentation: str | None = None


class DescribedSettings(Part, frozen=True):
    """The settings of one thing."""

    kind: int
    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    settings: tuple[Setting, ...] = ()


class DescribeConfigsResult(Response, frozen=True):
    """Answer to DescribeConfigs."""

    resources: tuple[DescribedSettings, ...]
    throttle_time_ms: int = 0


class SettingsToReplace(Part, frozen=True):
    """All settings of a thing; what is not named gets its default."""

    kind: int
    name: Name
    settings: tuple[tuple[Name, Name | None], ...]


class AlterConfigs(Request, frozen=True):
    """Replaces settings as a whole."""

    resources: tuple[SettingsToReplace, ...]
    validate_only: bool = False


class SettingOperation(IntEnum):
    """What to do with one setting (KIP-339)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class SettingsToChange(Part, frozen=True):
    """Settings of a thing, (name, operation, value); the others stay as they are."""

    kind: int
    name: Name
    settings: tuple[tuple[Name, int, Name | None], ...]


class IncrementalAlterConfigs(Request, frozen=True):
    """Changes single settings."""

    resources: tuple[SettingsToChange, ...]
    validate_only: bool = False


class AlteredSettings(Part, frozen=True):
    """What became of one thing's settings."""

    kind: int
    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class AlterConfigsResult(Response, frozen=True):
    """Answer to AlterConfigs, and to IncrementalAlterConfigs."""

    resources: tuple[AlteredSettings, ...]
    throttle_time_ms: int = 0


class ListConfigResources(Request, frozen=True):
    """Asks what has settings, of some kinds by Kafka's numbers; without any, of all."""

    kinds: tuple[int, ...] = ()


class ConfigResource(Part, frozen=True):
    """One thing that has settings."""

    name: str
    kind: int


class ListConfigResourcesResult(Response, frozen=True):
    """Answer to ListConfigResources."""

    resources: tuple[ConfigResource, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    throttle_time_ms: int = 0
