"""How a client reaches a node: TLS 1.3 with the profile's credentials, host name verified."""

import trio

from appliance.client.connection import Disconnected
from appliance.client.profile import Address, Profile
from appliance.client.session import Connector
from appliance.server.tls import TLSFiles, client_context, connect


def connector(profile: Profile) -> Connector:
    """Opens streams as the profile's principal; raises ConfigurationError for unusable files."""
    files = TLSFiles(certificate=profile.certificate, key=profile.key, ca=profile.ca)
    context = client_context(files, profile.key_exchange)

    async def open_stream(address: Address) -> trio.abc.Stream:
        try:
            return await connect(address.host, address.port, context)
        except trio.BrokenResourceError as error:
            raise Disconnected(str(error)) from None

    return open_stream
