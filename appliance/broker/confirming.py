"""Whether this replica still leads, as of now: asked before what only a leader may say is said.

Rules: a leader that was cut off does not know that others elect another. What it says of its past
stays true; that something is not there, or not yet, may not. So it asks a quorum first (ReadIndex,
thesis, section 6.4), all who ask at once with one round.
"""

from collections.abc import Iterable

import trio

from appliance.errors import ErrorCode, RequestError
from appliance.raft.core import Core
from appliance.raft.ready import ReadState, Refused


class Confirmations:
    """Everybody who waits for a quorum's word, of one replica."""

    def __init__(self, core: Core) -> None:
        """Nobody waits yet."""
        self._core = core
        self._asked = 0
        self._waiting: dict[int, trio.Event] = {}
        self._confirmed: set[int] = set()

    def ask(self) -> int:
        """Begins to ask; raises RequestError when this replica does not lead."""
        self._asked += 1
        try:
            self._core.read_index(self._asked)
        except Refused:
            raise _elsewhere() from None
        self._waiting[self._asked] = trio.Event()
        return self._asked

    async def wait(self, number: int) -> None:
        """Returns once a quorum has confirmed; raises RequestError when none does."""
        event = self._waiting.get(number)
        try:
            if event is not None:
                await event.wait()
            if number not in self._confirmed:
                raise _elsewhere()
        finally:
            self._waiting.pop(number, None)
            self._confirmed.discard(number)

    def settle(self, confirmed: Iterable[ReadState], lost: Iterable[int]) -> None:
        """Takes what consensus has come to."""
        for state in confirmed:
            self._tell(state.context, confirmed=True)
        for number in lost:
            self._tell(number, confirmed=False)

    def end(self) -> None:
        """Nobody will be told any more."""
        for number in tuple(self._waiting):
            self._tell(number, confirmed=False)

    def _tell(self, number: int, *, confirmed: bool) -> None:
        event = self._waiting.get(number)
        if event is not None:
            if confirmed:
                self._confirmed.add(number)
            event.set()


def _elsewhere() -> RequestError:
    return RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "this node does not lead any more")
