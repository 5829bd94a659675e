"""How a session reaches a node: TLS 1.3, both sides with certificates, the host's name verified."""

import trio

from appliance.client.connection import Disconnected
from appliance.client.profile import Address, Profile
from appliance.client.session import Connector
from appliance.server.tls import TLSFiles, client_context, connect


def connector(profile: Profile) -> Connector:
    """Opens streams with a profile's credentials, which are read now.

    Raises ConfigurationError, naming the file, if one cannot be used.
    """
    files = TLSFiles(certificate=profile.certificate, key=profile.key, ca=profile.ca)
    context = client_context(files, profile.key_exchange)

    async def dial(address: Address) -> trio.abc.Stream:
        try:
            return await connect(address.host, address.port, context)
        except trio.BrokenResourceError as error:
            raise Disconnected(str(error)) from None

    return dial
