"""The TLS limits of the appliance's own stack: `server.tls` on trio, and nothing behind it.

Usage: `tls_server.py NODE_FOLDER`; prints `port N`. The first byte that a client sends says what
it wants: `r` to be read from until it ends, `s` to be sent to, `e` to be echoed.
"""

import sys
from pathlib import Path

import trio

from appliance.config import parse
from appliance.limits import MIB
from appliance.server.tls import TLSFiles, TLSStream
from appliance.server.tls.context import TLSContext, server_context


async def serve(folder: Path) -> None:
    """Serves until the process is ended."""
    tls = parse((folder / "node.toml").read_text(), base=folder).tls
    context = server_context(TLSFiles(certificate=tls.certificate, key=tls.key, ca=tls.ca))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print("port", listener.socket.getsockname()[1], flush=True)
    async with trio.open_nursery() as nursery:
        while True:
            accepted = await listener.accept()
            nursery.start_soon(converse, accepted, context)


async def converse(accepted: trio.SocketStream, context: TLSContext) -> None:
    """One connection to its end, whichever side ends it."""
    stream = TLSStream(accepted, context)
    try:
        await stream.do_handshake()
        wanted = await stream.receive_some()
        await {b"r": read, b"s": send, b"e": echo}[wanted[:1]](stream)
        await stream.aclose()
    except trio.BrokenResourceError:
        stream.abandon()


async def read(stream: TLSStream) -> None:
    """Takes what comes, as a connection does with a large request."""
    room = memoryview(bytearray(MIB))
    while await stream.receive_into(room):
        pass


async def send(stream: TLSStream) -> None:
    """Sends 1 MiB buffers, as a connection does with a large reply."""
    data = bytes(MIB)
    while True:
        await stream.send_many((data,))
        await trio.lowlevel.checkpoint()


async def echo(stream: TLSStream) -> None:
    """The textbook's echo: each piece that arrives is sent back before the next is looked at."""
    while data := await stream.receive_some():
        await stream.send_all(data)


if __name__ == "__main__":
    try:
        trio.run(serve, Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(0)
