"""DescribeClientQuotas (key 48): which quotas are set (KIP-546).

Why each version exists:
0  the API itself.
1  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    DescribeClientQuotas,
    DescribeClientQuotasResult,
    DescribedQuotas,
    QuotaComponent,
    QuotaEntityPart,
    QuotaValue,
)

ENTITY: Final = row(
    Field("kind", Scalar.STRING),
    Field("name", Scalar.STRING, nullable_from=0),
    into=QuotaEntityPart,
)
"""One part of an entity, in both APIs about quotas."""

_COMPONENT: Final = row(
    Field("kind", Scalar.STRING),
    Field("match", Scalar.INT8),
    Field("name", Scalar.STRING, nullable_from=0),
    into=QuotaComponent,
)

_VALUE: Final = row(
    Field("key", Scalar.STRING),
    Field("value", Scalar.FLOAT64),
    into=QuotaValue,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field(
        "entries",
        Array(
            row(
                Field("entity", Array(ENTITY)),
                Field("values", Array(_VALUE)),
                into=DescribedQuotas,
            )
        ),
        nullable_from=0,
    ),
    into=DescribeClientQuotasResult,
)

API: Final = Api(
    key=48,
    name="DescribeClientQuotas",
    lowest=0,
    highest=1,
    flexible_from=1,
    request=row(
        Field("components", Array(_COMPONENT)),
        Field("strict", Scalar.BOOL),
        into=DescribeClientQuotas,
    ),
    response=_RESPONSE,
)
