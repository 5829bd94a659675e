"""UpdateFeatures (key 57): other levels of features (KIP-584).

Why each version exists:
0  the API itself.
1  kinds of upgrade and validation only (KIP-778).
2  one answer for all features, since they change together or not at all (KIP-1022).
"""

from typing import Final

from msgspec import Struct

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    FeatureUpdate,
    UpdatedFeature,
    UpdateFeatures,
    UpdateFeaturesResult,
)

_UPGRADE: Final = 1
_SAFE_DOWNGRADE: Final = 2
_FIRST_WITH_TYPES: Final = 1


class _Update(Struct, frozen=True, gc=False):
    """One feature as it stands on the wire."""

    name: str
    level: int
    allow_downgrade: bool
    upgrade_type: int


class _Asked(Struct, frozen=True, gc=False):
    """The request as it stands on the wire."""

    timeout_ms: int
    updates: tuple[_Update, ...]
    validate_only: bool


def _request(asked: _Asked, version: int) -> UpdateFeatures:
    updates = []
    for each in asked.updates:
        kind = each.upgrade_type
        if version < _FIRST_WITH_TYPES:
            kind = _SAFE_DOWNGRADE if each.allow_downgrade else _UPGRADE
        updates.append(FeatureUpdate(each.name, each.level, kind))
    return UpdateFeatures(asked.timeout_ms, tuple(updates), asked.validate_only)


_REQUEST: Final = row(
    Field("timeout_ms", Scalar.INT32),
    Field(
        "updates",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("level", Scalar.INT16),
                Field("allow_downgrade", Scalar.BOOL, until=0, default=False),
                Field("upgrade_type", Scalar.INT8, since=1, default=_UPGRADE),
                into=_Update,
            )
        ),
    ),
    Field("validate_only", Scalar.BOOL, since=1, default=False),
    into=_Asked,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field(
        "features",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                into=UpdatedFeature,
            )
        ),
        until=1,
    ),
    into=UpdateFeaturesResult,
)

API: Final = Api(
    key=57,
    name="UpdateFeatures",
    lowest=0,
    highest=2,
    flexible_from=0,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
