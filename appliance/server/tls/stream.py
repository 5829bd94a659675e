"""One TLS connection as a trio stream, on pyOpenSSL's memory BIOs.

Rules:
- An end without close_notify is an error (a truncation), never an end of file.
- Sockets are read up to 1 MiB at a time, and OpenSSL is called as seldom as pyOpenSSL allows.
- One task may receive while another sends; what OpenSSL itself has to say goes out with either.
"""

import contextlib
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from appliance.errors import AuthenticationFailed
from appliance.invariant import invariant
from appliance.limits import KIB, MAX_HANDSHAKE_BYTES, MAX_LINGER_S, MAX_SILENT_RECORDS, MIB
from appliance.server.hostname import check_server_certificate, parse_address
from appliance.server.outbox import Outbox, steps
from appliance.server.records import MAX_PLAINTEXT_BYTES, RecordMeter, sealed_bytes
from appliance.server.tls.context import TLSContext
from appliance.types import Buffer

HYBRID_GROUP: Final = "X25519MLKEM768"

_READ_BYTES: Final = 256 * KIB
_LARGE_READ_BYTES: Final = MIB
_BIO_READ_BYTES: Final = 64 * KIB
"""pyOpenSSL allocates what it is asked for, and larger pieces come fresh from the kernel."""
_CERTIFICATE_ALERTS: Final = ("certificate", "unknown ca", "access denied")

_TAKE_BYTES: Final = 64 * KIB
"""Of one `take`: a frame that is a view into it keeps all of it."""

_ALWAYS: Final = contextlib.nullcontext()
"""Turns of who need not wait for any."""

_scratch: Final = trio.lowlevel.RunVar[bytearray]("tls_scratch")


class TLSStream(trio.abc.Stream):
    """One TLS connection. Before anything else, `do_handshake` must have returned.

    Besides trio's interface there is a faster one for who reads and writes many small messages:
    `wait_data`, then `take` or `take_into` while `has_data`; and `send_now`, completed by `flush`.
    """

    def __init__(
        self, transport: trio.SocketStream, context: TLSContext, *, host: str | None = None
    ) -> None:
        """Takes the socket over. `host` names the server on outgoing connections, else None."""
        self._socket = socket.socket(fileno=transport.socket.detach())
        self._socket.setblocking(False)
        self._key_exchange = context.key_exchange
        self._host = host
        self._connection = SSL.Connection(context.openssl, None)
        if host is None:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            if parse_address(host) is None:
                self._connection.set_tlsext_host_name(host.encode("idna"))
        self._view = _scratch_view()
        self._read_bytes = _READ_BYTES
        self._last_read_full = False
        self._meter = RecordMeter()
        self._records = 0
        self._fed = 0
        self._silent_records = 0
        self._finished = False
        self._outbox = Outbox(self._socket)
        self._closed = False

    # --- the handshake ---------------------------------------------------------------------

    async def do_handshake(self, turns: AbstractAsyncContextManager[object] = _ALWAYS) -> None:
        """Brings TLS up; the peer is verified when this returns. The caller sets a time limit.

        Each step is taken in one of the `turns`.

        Raises:
            AuthenticationFailed: the peer is not trusted, not the host that was dialled, or does
                not offer the key exchange that is required. An alert has been sent.
            trio.BrokenResourceError: the connection is lost, or does not speak TLS 1.3.
        """
        received = 0
        try:
            up = self._host is not None and self._step()  # A client speaks first.
            while not up:
                await self.flush()
                room = min(MAX_HANDSHAKE_BYTES - received, _READ_BYTES)
                if room == 0:
                    raise trio.BrokenResourceError("the handshake is too large")
                await self._arrival()
                async with turns:
                    received += self._receive(room)
                    up = self._step()
        except SSL.Error as error:
            await self._say_farewell()
            raise _mapped(error, handshake=True) from None
        await self.flush()
        self._check_peer()

    def _step(self) -> bool:
        """Goes on with the handshake as far as what has arrived allows; whether it is over."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def _check_peer(self) -> None:
        if self._key_exchange == "required" and self.group_name != HYBRID_GROUP:
            raise AuthenticationFailed(f"the peer does not offer {HYBRID_GROUP}")
        if self._host is not None:
            check_server_certificate(self._peer_certificate(), self._host)

    def _peer_certificate(self) -> x509.Certificate:
        try:
            certificate = self._connection.get_peer_certificate(as_cryptography=True)
        except (ValueError, x509.InvalidVersion):  # OpenSSL is the more lenient reader.
            raise AuthenticationFailed("the peer's certificate cannot be read") from None
        if certificate is None:
            raise AuthenticationFailed("the peer has no certificate")
        return certificate

    @property
    def peer_certificate_der(self) -> bytes:
        """The peer's verified certificate."""
        return self._peer_certificate().public_bytes(Encoding.DER)

    @property
    def group_name(self) -> str | None:
        """The key exchange that was negotiated, by its IANA name."""
        return self._connection.get_group_name()

    @property
    def peer_address(self) -> str:
        """The peer's IP address."""
        return str(self._socket.getpeername()[0])

    @property
    def send_stalled_since(self) -> float | None:
        """When the peer stopped taking bytes that wait for it (trio's clock), or None."""
        return self._outbox.stalled_since

    # --- receiving -------------------------------------------------------------------------

    @property
    def has_data(self) -> bool:
        """True when `take` may find bytes without waiting."""
        return self._records > 0

    async def wait_data(self, turns: AbstractAsyncContextManager[object] = _ALWAYS) -> bool:
        """Waits for `has_data`; False when the peer has ended its side with close_notify.

        What has arrived is read in one of the `turns`.

        Raises:
            trio.BrokenResourceError: the connection was lost or cut, or broke the protocol.
        """
        if self._records:
            await trio.lowlevel.checkpoint()
        while not self._records and not self._finished:
            await self._arrival()
            async with turns:
                self._receive(self._read_bytes)
        return not self._finished

    def take(self) -> bytearray:
        """What has arrived, up to 64 KiB; nothing when that held nothing for us.

        A small message often comes in several records, so they are decrypted into one buffer.
        """
        room = bytearray(min(self._records * MAX_PLAINTEXT_BYTES, self._fed + MAX_PLAINTEXT_BYTES,
                             _TAKE_BYTES))  # fmt: skip
        view = memoryview(room)
        taken = self.take_into(view)
        view.release()
        del room[taken:]
        return room

    def take_into(self, room: memoryview) -> int:
        """Decrypts records that have arrived straight into `room`; how many bytes."""
        taken = 0
        left = len(room)
        connection = self._connection
        try:
            while left and self._records:
                wanted = min(MAX_PLAINTEXT_BYTES, left)
                count = connection.recv_into(room[taken:] if taken else room, wanted)
                taken += count
                left -= count
                if wanted == MAX_PLAINTEXT_BYTES or not connection.pending():
                    self._records -= 1
        except SSL.Error as error:
            self._not_data(error)
        if taken:
            self._silent_records = 0
        return taken

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At most 16 KiB of what has arrived, b"" after close_notify (`trio.abc.ReceiveStream`)."""
        while await self.wait_data():
            room = bytearray(min(max_bytes or MAX_PLAINTEXT_BYTES, MAX_PLAINTEXT_BYTES))
            taken = self.take_into(memoryview(room))
            if taken:
                return bytes(memoryview(room)[:taken])
        return b""

    async def receive_into(self, room: memoryview) -> int:
        """As `receive_some`, into `room`, which is not empty; 0 after close_notify."""
        while await self.wait_data():
            taken = self.take_into(room)
            if taken:
                return taken
        return 0

    async def _arrival(self) -> None:
        """Waits until the socket may have something; always a checkpoint."""
        if self._last_read_full:
            await trio.lowlevel.checkpoint()
        else:
            await self._readable()

    def _receive(self, limit: int) -> int:
        """Gives OpenSSL what the socket has; how many bytes, none if it had nothing after all."""
        try:
            count = self._socket.recv_into(self._view, limit)
        except BlockingIOError:
            self._last_read_full = False
            return 0
        except OSError as error:
            raise self._lost(error) from None
        if count == 0:
            raise trio.BrokenResourceError("the peer cut the connection without ending it")
        self._last_read_full = count == limit
        if self._last_read_full and limit == _READ_BYTES:
            self._read_bytes = _LARGE_READ_BYTES
        data = self._view[:count]
        self._connection.bio_write(data)
        self._records += self._meter.feed(data)
        self._fed = count
        return count

    async def _readable(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this side closed the connection")
        await trio.lowlevel.wait_readable(self._socket)

    def _not_data(self, error: SSL.Error) -> None:
        """OpenSSL has used up what it was given without a byte for us."""
        self._records = 0
        if isinstance(error, SSL.ZeroReturnError):
            self._finished = True
            return
        self._drain()
        self._push()
        if not isinstance(error, SSL.WantReadError):
            raise _mapped(error, handshake=False) from None
        # Key updates and the like; each may cost us an answer, so an endless row is refused.
        self._silent_records += 1
        if self._silent_records > MAX_SILENT_RECORDS:
            raise trio.BrokenResourceError("the peer sends too many messages of TLS itself")

    # --- sending ---------------------------------------------------------------------------

    def send_now(self, data: Buffer) -> bool:
        """Encrypts `data`, of moderate size, and gives the socket what it takes at once.

        Returns:
            True when everything is on its way; else `flush` must be awaited for the rest.
        """
        self._seal(data)
        return self._push()

    async def send_many(self, buffers: Sequence[Buffer]) -> None:
        """Sends buffers in order; small ones share records, large ones are not copied.

        A checkpoint only where it has to wait, or between steps of a long send.
        """
        await self.flush()
        for step, data in enumerate(steps(buffers)):
            if step:
                await trio.lowlevel.checkpoint()
            self._seal(data)
            await self.flush()

    async def send_all(self, data: Buffer) -> None:
        """Sends all of `data` (`trio.abc.SendStream`)."""
        await trio.lowlevel.checkpoint()
        await self.send_many((data,))

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until the socket takes bytes (`trio.abc.SendStream`)."""
        await self.flush()
        await trio.lowlevel.wait_writable(self._socket)

    async def flush(self) -> None:
        """Waits until the socket has all that was sealed; one task at a time."""
        self._drain()
        try:
            await self._outbox.flush()
        except OSError as error:
            raise self._lost(error) from None

    def _seal(self, data: Buffer) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this side closed the connection")
        size = len(data)
        if size == 0:
            return
        try:
            written = self._connection.send(data)
        except SSL.Error as error:
            raise _mapped(error, handshake=False) from None
        invariant(written == size, "a memory BIO takes every byte")
        self._drain(sealed_bytes(size))

    def _drain(self, expected: int = 0) -> None:
        """Moves ciphertext out of OpenSSL.

        A read that falls short of what it asked for emptied the BIO, so asking for a little more
        than is expected spares the exception that an empty one raises.
        """
        while True:
            wanted = min(_BIO_READ_BYTES, expected + 64) if expected else _BIO_READ_BYTES
            try:
                data = self._connection.bio_read(wanted)
            except SSL.WantReadError:
                return
            self._outbox.add(data)
            expected = max(0, expected - len(data))
            if len(data) < wanted:
                return

    def _push(self) -> bool:
        try:
            return self._outbox.push()
        except OSError as error:
            raise self._lost(error) from None

    # --- the end ---------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Says close_notify, as far as the socket takes it, and closes."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        with contextlib.suppress(SSL.Error):  # One that never came up has nothing to end.
            self._connection.shutdown()
        try:
            await self._say_farewell()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Closes at once, and says nothing."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def _say_farewell(self) -> None:
        """Sends what is left, and lets the peer read it.

        Closing a socket with unread bytes resets the connection, and the reset overtakes the last
        alert or reply; so what the peer still sends is thrown away unread, for a short while.
        """
        with trio.move_on_after(MAX_LINGER_S):
            try:
                await self.flush()
                if self._finished:
                    return
                self._socket.shutdown(socket.SHUT_WR)
                for _ in range(MAX_SILENT_RECORDS):
                    await trio.lowlevel.wait_readable(self._socket)
                    if not self._socket.recv_into(self._view, _READ_BYTES):
                        return
            except (OSError, trio.BrokenResourceError, trio.BusyResourceError):
                return

    def _lost(self, error: OSError) -> Exception:
        if self._closed:
            return trio.ClosedResourceError("this side closed the connection")
        return trio.BrokenResourceError(f"the connection is lost: {error.strerror}")


def _mapped(error: SSL.Error, *, handshake: bool) -> Exception:
    """OpenSSL's reason, which names what was wrong and holds no peer's bytes, as our own error."""
    details = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reason = ", ".join(str(detail[-1]) for detail in details) or "the connection was cut"
    # In TLS 1.3 a client's handshake is over before the server judges its certificate, so the
    # server's refusal arrives as an alert in place of the first reply.
    if any(word in reason for word in _CERTIFICATE_ALERTS) and (handshake or "alert" in reason):
        return AuthenticationFailed(f"TLS: {reason}")
    return trio.BrokenResourceError(f"TLS: {reason}")


def _scratch_view() -> memoryview:
    """Where sockets are read into: one buffer for all connections of a run.

    No task waits between a read into it and the BIO's copy out of it.
    """
    try:
        scratch = _scratch.get()
    except LookupError:
        scratch = bytearray(_LARGE_READ_BYTES)
        _scratch.set(scratch)
    return memoryview(scratch)
