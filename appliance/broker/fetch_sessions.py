"""Fetch sessions (KIP-227): what a reader asks for again and again, kept here instead of sent.

A session holds its partitions' questions and what was last told of each, so that a fetch names only
what changes and its answer only what is new. It holds no data and no permission: every fetch is
judged anew, name by name.

Rules: a session belongs to the principal that opened it; to anybody else its number says nothing.
Sessions, and their partitions together, are bounded; one that is in use makes no room for another.
"""

from collections.abc import Callable, Iterable

import msgspec

from appliance.coordination.commands import Topic
from appliance.errors import ErrorCode, RequestError
from appliance.limits import (
    MAX_FETCH_SESSION_PARTITIONS,
    MAX_FETCH_SESSIONS,
    MAX_FETCH_SESSIONS_PER_PRINCIPAL,
    MIN_FETCH_SESSION_IDLE_S,
)
from appliance.types import PartitionIndex, Principal, TopicId, TopicName
from appliance.wire.requests import (
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchTopic,
    ForgottenTopic,
)

FINAL_EPOCH = -1
"""A full fetch without a session; one that the request names is closed."""
INITIAL_EPOCH = 0
"""A full fetch that asks for a new session."""
_LAST_EPOCH = (1 << 31) - 1

_Key = tuple[TopicName, TopicId | None, PartitionIndex]


class _Held(msgspec.Struct):
    """One partition: what is asked, and what was last told (-1: nothing yet)."""

    asked: FetchPartition
    high_watermark: int = -1
    log_start_offset: int = -1


class FetchSession:
    """One reader's partitions, those first that were longest without data."""

    def __init__(self, number: int, owner: Principal, by_id: bool) -> None:
        """Use `FetchSessions.open`."""
        self.number = number
        self.owner = owner
        self.by_id = by_id
        self.epoch = 1
        self.used_s = 0.0
        self._held: dict[_Key, _Held] = {}

    def __len__(self) -> int:
        """How many partitions it holds."""
        return len(self._held)

    def update(self, request: Fetch) -> None:
        """Takes in what a fetch changes: new or moved partitions, and forgotten ones."""
        for topic in request.topics:
            for part in topic.partitions:
                key = _key(topic, part.index)
                held = self._held.get(key)
                if held is None:
                    self._held[key] = _Held(part)
                else:
                    held.asked = part
        for forgotten in request.forgotten_topics:
            for index in forgotten.partitions:
                self._held.pop(_key(forgotten, index), None)

    def topics(self) -> tuple[FetchTopic, ...]:
        """Everything that is asked for now."""
        topics: list[FetchTopic] = []
        parts: list[FetchPartition] = []
        last: tuple[TopicName, TopicId | None] | None = None
        for (name, topic_id, _), held in self._held.items():
            if last is not None and last != (name, topic_id):
                topics.append(FetchTopic(last[0], tuple(parts), last[1]))
                parts = []
            last = (name, topic_id)
            parts.append(held.asked)
        if last is not None:
            topics.append(FetchTopic(last[0], tuple(parts), last[1]))
        return tuple(topics)

    def asks_for(self, name: TopicName, topic_id: TopicId) -> bool:
        """Whether a topic is among what is asked, by its name or its id."""
        return any(key[0] == name or key[1] == topic_id for key in self._held)

    def news(self, topics: Iterable[FetchedTopic], *, everything: bool) -> tuple[FetchedTopic, ...]:
        """What of an answer the reader does not know yet, which counts as told from here on."""
        told = []
        for topic in topics:
            parts = tuple(
                part
                for part in topic.partitions
                if self._is_news(_key(topic, part.index), part) or everything
            )
            if parts:
                told.append(FetchedTopic(topic.name, parts, topic.topic_id))
        return tuple(told)

    def _is_news(self, key: _Key, part: FetchedPartition) -> bool:
        held = self._held.get(key)
        if held is None:
            return True
        leads_on = part.diverging is not None or part.preferred_read_replica >= 0
        if part.error is not ErrorCode.NONE or leads_on:
            held.high_watermark = -1  # so that the first answer after the error is news
            return True
        told = (held.high_watermark, held.log_start_offset)
        held.high_watermark, held.log_start_offset = part.high_watermark, part.log_start_offset
        if part.batches:
            # Who got data goes last, so that no busy partition starves the others.
            self._held[key] = self._held.pop(key)
            return True
        return told != (part.high_watermark, part.log_start_offset)


class FetchSessions:
    """Every session of this node."""

    def __init__(self, now_s: Callable[[], float], draw: Callable[[], int]) -> None:
        """`draw` gives random numbers from 1 to 2^31 - 1."""
        self._now_s = now_s
        self._draw = draw
        self._sessions: dict[int, FetchSession] = {}
        """In the order of their last use."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._sessions)

    def open(self, owner: Principal, request: Fetch) -> FetchSession | None:
        """A new session with the partitions of a full fetch; None where there is no room."""
        count = sum(len(topic.partitions) for topic in request.topics)
        if count == 0 or not self._make_room(owner, count):
            return None
        number = self._draw()
        while number in self._sessions:
            number = self._draw()
        session = FetchSession(number, owner, _by_id(request))
        session.update(request)
        self._sessions[number] = session
        session.used_s = self._now_s()
        return session

    def resume(self, owner: Principal, request: Fetch) -> FetchSession:
        """The session of an incremental fetch, updated.

        Raises RequestError: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH,
        FETCH_SESSION_TOPIC_ID_ERROR; the reader then begins a new one.
        """
        session = self._sessions.get(request.session_id)
        if session is None or session.owner != owner:
            raise RequestError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, "there is no such session")
        if session.epoch != request.session_epoch:
            raise RequestError(
                ErrorCode.INVALID_FETCH_SESSION_EPOCH, f"epoch {session.epoch} is next"
            )
        if (request.topics or request.forgotten_topics) and _by_id(request) != session.by_id:
            raise RequestError(
                ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR, "the session has topics by the other kind"
            )
        session.epoch = 1 if session.epoch == _LAST_EPOCH else session.epoch + 1
        session.used_s = self._now_s()
        self._sessions[session.number] = self._sessions.pop(session.number)
        session.update(request)
        if sum(map(len, self._sessions.values())) > MAX_FETCH_SESSION_PARTITIONS:
            del self._sessions[session.number]
            raise RequestError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, "the session grew too large")
        return session

    def close(self, owner: Principal, number: int) -> None:
        """Forgets a session, if it is the caller's."""
        session = self._sessions.get(number)
        if session is not None and session.owner == owner:
            del self._sessions[number]

    def forget_topic(self, topic: Topic) -> None:
        """Forgets every session that asks for a topic: its readers begin new ones."""
        for session in tuple(self._sessions.values()):
            if session.asks_for(topic.name, topic.topic):
                del self._sessions[session.number]

    def _make_room(self, owner: Principal, count: int) -> bool:
        """Evicts idle sessions, the longest idle first, until there is room for one more."""
        own = [each for each in self._sessions.values() if each.owner == owner]
        if len(own) >= MAX_FETCH_SESSIONS_PER_PRINCIPAL and not self._evict(own[0]):
            return False
        while self._is_full(count):
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or not self._evict(oldest):
                return False
        return True

    def _is_full(self, count: int) -> bool:
        held = sum(map(len, self._sessions.values()))
        return (
            len(self._sessions) >= MAX_FETCH_SESSIONS or held + count > MAX_FETCH_SESSION_PARTITIONS
        )

    def _evict(self, session: FetchSession) -> bool:
        if self._now_s() - session.used_s < MIN_FETCH_SESSION_IDLE_S:
            return False
        del self._sessions[session.number]
        return True


def _key(topic: FetchTopic | FetchedTopic | ForgottenTopic, index: PartitionIndex) -> _Key:
    """A topic asked for by id is that one, whatever name stands beside it."""
    name = topic.name if topic.topic_id is None else TopicName("")
    return name, topic.topic_id, index


def _by_id(request: Fetch) -> bool:
    parts: tuple[FetchTopic | ForgottenTopic, ...] = (*request.topics, *request.forgotten_topics)
    return bool(parts) and parts[0].topic_id is not None
