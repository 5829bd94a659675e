"""Commands through the replica port: encoded here, applied by the machines of `coordination`.

Rules: an encoding is msgpack with a tag that names command and version; bytes that are no command
of this release are damage or a newer feature level, and end the replay rather than be skipped.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
import trio

from appliance.broker.foundation import Foundation
from appliance.broker.replica import Replica
from appliance.errors import DamageDetected, ErrorCode, RequestError
from appliance.invariant import InvariantViolation, invariant
from appliance.raft.configuration import Configuration
from appliance.types import Entry, EntryHeader, EntryKind, PartitionId

C = TypeVar("C", bound=msgspec.Struct)
O = TypeVar("O")  # noqa: E741 - the outcome of a command


class _Machine(Generic[C, O]):
    """Decodes entries and applies them."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[C], apply: Callable[[C], O]) -> None:
        self._decoder = decoder
        self._apply = apply

    def reset(self) -> None:
        raise InvariantViolation("logs of commands are never cut, so none is replaced")

    def apply(self, entry: Entry) -> O:
        try:
            command = self._decoder.decode(entry.payload)
        except msgspec.MsgspecError:
            raise DamageDetected("an entry holds no command that is known here") from None
        return self._apply(command)


class CommandLog(Generic[C, O]):
    """An internal log whose entries are commands."""

    def __init__(self, replica: Replica[O]) -> None:
        self._replica = replica
        self._encoder = msgspec.msgpack.Encoder()

    @staticmethod
    async def open(
        foundation: Foundation,
        partition: PartitionId,
        *,
        decoder: msgspec.msgpack.Decoder[C],
        apply: Callable[[C], O],
        genesis: Configuration,
    ) -> "CommandLog[C, O]":
        """Opens, or makes, the log; its decided commands are applied through `apply`."""
        machine = _Machine(decoder, apply)
        return CommandLog(await foundation.open(partition, machine, genesis, scan=True))

    @property
    def replica(self) -> Replica[O]:
        """The replica of the log on this node."""
        return self._replica

    @property
    def failed(self) -> bool:
        """Whether the log broke: no command can be executed any more."""
        return self._replica.failed

    def progress(self) -> tuple[int, int]:
        """The term, and the index of the last durable command."""
        return self._replica.term, self._replica.log.durable

    @property
    def serving(self) -> bool:
        """Whether commands are executed here: this node leads and knows all that was decided."""
        return self._replica.serving

    def submit(self, command: C, on_done: Callable[[ErrorCode, O | None], None]) -> None:
        """Proposes a command and returns at once; raises RequestError if it is not taken."""

        def committed(error: ErrorCode, _: EntryHeader, outcome: O | None) -> None:
            on_done(error, outcome)

        self._replica.propose(EntryKind.COMMAND, self._encoder.encode(command), -1, committed)

    async def execute(self, command: C) -> O:
        """Returns what the command came to, once it is committed and applied.

        A command whose wait is cancelled may still take effect. Raises RequestError.
        """
        await self._replica.room(0)
        done = trio.Event()
        results: list[tuple[ErrorCode, O | None]] = []

        def committed(error: ErrorCode, outcome: O | None) -> None:
            results.append((error, outcome))
            done.set()

        self.submit(command, committed)
        await done.wait()
        ((error, outcome),) = results
        if error is not ErrorCode.NONE:
            raise RequestError(error, "the command could not be made durable")
        invariant(outcome is not None, "a committed command has an outcome")
        return outcome  # type: ignore[return-value] # the invariant above rules None out

    async def close(self) -> None:
        """Lets what is under way become durable, and closes the log."""
        await self._replica.close()
