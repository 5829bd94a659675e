"""DeleteRecords (key 21): lets go of records below an offset (KIP-107).

Why each version exists:
1  the client waits out its throttling itself (KIP-219).
2  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    DeletedRecords,
    DeletedRecordsTopic,
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsResult,
    DeleteRecordsTopic,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32), Field("offset", Scalar.INT64), into=DeleteRecordsPartition
)

_REQUEST: Final = row(
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_PARTITION)),
                into=DeleteRecordsTopic,
            )
        ),
    ),
    Field("timeout_ms", Scalar.INT32),
    into=DeleteRecords,
)

_DELETED: Final = row(
    Field("index", Scalar.INT32),
    Field("low_watermark", Scalar.INT64),
    Field("error", Scalar.INT16),
    into=DeletedRecords,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_DELETED)),
                into=DeletedRecordsTopic,
            )
        ),
    ),
    into=DeleteRecordsResult,
)

API: Final = Api(
    key=21,
    name="DeleteRecords",
    lowest=0,
    highest=2,
    flexible_from=2,
    request=_REQUEST,
    response=_RESPONSE,
)
