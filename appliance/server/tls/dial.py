"""Outgoing connections, to a server whose certificate is for the host that was dialled."""

import trio

from appliance.limits import MAX_HANDSHAKE_S
from appliance.server.tls.context import TLSContext
from appliance.server.tls.stream import TLSStream


async def connect(host: str, port: int, context: TLSContext) -> TLSStream:
    """A verified connection to a server, within MAX_HANDSHAKE_S.

    Raises:
        AuthenticationFailed: the server is not who it must be, or refuses this client by an alert.
        trio.BrokenResourceError: it cannot be reached, or is lost on the way.
    """
    try:
        with trio.fail_after(MAX_HANDSHAKE_S):
            transport = await trio.open_tcp_stream(host, port)
            stream = TLSStream(transport, context, host=host)
            try:
                await stream.do_handshake()
            except BaseException:
                stream.abandon()
                raise
            return stream
    except OSError as error:
        raise trio.BrokenResourceError(f"cannot connect to {host}:{port}: {error}") from None
    except trio.TooSlowError:
        raise trio.BrokenResourceError(f"{host}:{port} does not answer") from None
