"""AlterClientQuotas (key 49): sets and removes quotas (KIP-546).

Why each version exists:
0  the API itself.
1  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.apis.describe_client_quotas import ENTITY
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    AlterClientQuotas,
    AlterClientQuotasResult,
    AlteredQuotas,
    QuotaChange,
    QuotasToChange,
)

_CHANGE: Final = row(
    Field("key", Scalar.STRING),
    Field("value", Scalar.FLOAT64),
    Field("remove", Scalar.BOOL),
    into=QuotaChange,
)

_REQUEST: Final = row(
    Field(
        "entries",
        Array(
            row(
                Field("entity", Array(ENTITY)),
                Field("changes", Array(_CHANGE)),
                into=QuotasToChange,
            )
        ),
    ),
    Field("validate_only", Scalar.BOOL),
    into=AlterClientQuotas,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "entries",
        Array(
            row(
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                Field("entity", Array(ENTITY)),
                into=AlteredQuotas,
            )
        ),
    ),
    into=AlterClientQuotasResult,
)

API: Final = Api(
    key=49,
    name="AlterClientQuotas",
    lowest=0,
    highest=1,
    flexible_from=1,
    request=_REQUEST,
    response=_RESPONSE,
)
