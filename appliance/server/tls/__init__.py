"""TLS 1.3 on trio by pyOpenSSL: the only package of the appliance that knows OpenSSL."""

from appliance.server.tls.context import (
    ClientContexts,
    KeyExchange,
    ServerContexts,
    TLSContext,
    TLSFiles,
    client_context,
    server_context,
)
from appliance.server.tls.dial import connect
from appliance.server.tls.stream import HYBRID_GROUP, TLSStream

__all__ = [
    "HYBRID_GROUP",
    "ClientContexts",
    "KeyExchange",
    "ServerContexts",
    "TLSContext",
    "TLSFiles",
    "TLSStream",
    "client_context",
    "connect",
    "server_context",
]
