"""AlterConfigs (key 33): replaces the settings of topics as a whole; deprecated by key 44.

Why each version exists:
0  the API itself (KIP-133).
1  the client waits out its throttling itself (KIP-219).
2  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    AlterConfigs,
    AlterConfigsResult,
    AlteredSettings,
    SettingsToReplace,
)

_REQUEST: Final = row(
    Field(
        "resources",
        Array(
            row(
                Field("kind", Scalar.INT8),
                Field("name", Scalar.STRING),
                Field(
                    "settings",
                    Array(
                        row(
                            Field("name", Scalar.STRING),
                            Field("value", Scalar.STRING, nullable_from=0),
                        )
                    ),
                ),
                into=SettingsToReplace,
            )
        ),
    ),
    Field("validate_only", Scalar.BOOL),
    into=AlterConfigs,
)

RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "resources",
        Array(
            row(
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                Field("kind", Scalar.INT8),
                Field("name", Scalar.STRING),
                into=AlteredSettings,
            )
        ),
    ),
    into=AlterConfigsResult,
)
"""IncrementalAlterConfigs answers alike."""

API: Final = Api(
    key=33,
    name="AlterConfigs",
    lowest=0,
    highest=2,
    flexible_from=2,
    request=_REQUEST,
    response=RESPONSE,
)
