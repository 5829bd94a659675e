"""IncrementalAlterConfigs (key 44): changes single settings of topics (KIP-339).

Why each version exists:
0  the API itself.
1  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.apis.alter_configs import RESPONSE
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import IncrementalAlterConfigs, SettingsToChange

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
                            Field("operation", Scalar.INT8),
                            Field("value", Scalar.STRING, nullable_from=0),
                        )
                    ),
                ),
                into=SettingsToChange,
            )
        ),
    ),
    Field("validate_only", Scalar.BOOL),
    into=IncrementalAlterConfigs,
)

API: Final = Api(
    key=44,
    name="IncrementalAlterConfigs",
    lowest=0,
    highest=1,
    flexible_from=1,
    request=_REQUEST,
    response=RESPONSE,
)
