"""Who sent a request and over which connection, as handlers, the gate and audit see it."""

import msgspec

from appliance.types import Principal


class Caller(msgspec.Struct, frozen=True):
    """One authenticated connection; `listener` is `kafka`, `native` or `peer`."""

    principal: Principal
    listener: str
    address: str
    client_id: str | None = None
