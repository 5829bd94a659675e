"""DescribeConfigs (key 32): the settings of topics and nodes.

Why each version exists:
1  where a value comes from, and what else it could come from (KIP-226).
2  the client waits out its throttling itself (KIP-219).
3  types and documentation (KIP-569).
4  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    AskedSettings,
    DescribeConfigs,
    DescribeConfigsResult,
    DescribedSettings,
    Setting,
    SettingSynonym,
)

_REQUEST: Final = row(
    Field(
        "resources",
        Array(
            row(
                Field("kind", Scalar.INT8),
                Field("name", Scalar.STRING),
                Field("names", Array(Scalar.STRING), nullable_from=0),
                into=AskedSettings,
            )
        ),
    ),
    Field("synonyms", Scalar.BOOL),
    Field("documentation", Scalar.BOOL, since=3, default=False),
    into=DescribeConfigs,
)

_SYNONYM: Final = row(
    Field("name", Scalar.STRING),
    Field("value", Scalar.STRING, nullable_from=0),
    Field("source", Scalar.INT8),
    into=SettingSynonym,
)

_SETTING: Final = row(
    Field("name", Scalar.STRING),
    Field("value", Scalar.STRING, nullable_from=0),
    Field("read_only", Scalar.BOOL),
    Field("source", Scalar.INT8),
    Field("is_sensitive", Scalar.BOOL, bound=False, default=False),
    Field("synonyms", Array(_SYNONYM)),
    Field("kind", Scalar.INT8, since=3),
    Field("documentation", Scalar.STRING, since=3, nullable_from=3),
    into=Setting,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "resources",
        Array(
            row(
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                Field("kind", Scalar.INT8),
                Field("name", Scalar.STRING),
                Field("settings", Array(_SETTING)),
                into=DescribedSettings,
            )
        ),
    ),
    into=DescribeConfigsResult,
)

API: Final = Api(
    key=32,
    name="DescribeConfigs",
    lowest=1,
    highest=4,
    flexible_from=4,
    request=_REQUEST,
    response=_RESPONSE,
)
