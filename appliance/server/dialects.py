"""The dialects of clients and of nodes, each a thin face of its codec.

Responses reach them as the common root; that every response class is one that the codecs take is
held by a test, so the casts say nothing that could be false.
"""

from typing import cast

from appliance.types import Buffer
from appliance.wire.kafka import codec as kafka
from appliance.wire.native import codec as native
from appliance.wire.native import peer
from appliance.wire.requests import AnyResponse, Response
from appliance.wire.requests.peer import AnyPeerResponse


class KafkaDialect:
    """Kafka's protocol."""

    decode = staticmethod(kafka.decode)

    def encode(self, call: kafka.Call, response: Response) -> list[Buffer]:
        """See `Dialect.encode`."""
        return kafka.encode(call, cast("AnyResponse", response))


class NativeDialect:
    """The native protocol."""

    decode = staticmethod(native.decode)

    def encode(self, call: native.NativeCall, response: Response) -> list[Buffer]:
        """See `Dialect.encode`."""
        return native.encode(call, cast("AnyResponse", response))


class PeerDialect:
    """What nodes speak among themselves."""

    decode = staticmethod(peer.decode)

    def encode(self, call: peer.PeerCall, response: Response) -> list[Buffer]:
        """See `Dialect.encode`."""
        return peer.encode(call, cast("AnyPeerResponse", response))
