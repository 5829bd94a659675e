"""Making a topic's records unreadable for good, in the five steps of DESIGN section 6.

1. The intent is committed: from its application on the topic refuses reads and writes.
2. Each node closes its logs of the topic, wipes their keys, spares and caches, and confirms.
3. The custodian, and nobody here, destroys the key.
4. It is checked: the key reads as gone, and no wrap of it opens.
5. Completion is committed: the topic goes on under a new key; a signed certificate says what was
   done, and what it cannot vouch for.

Rules: each step may be asked for again. Nothing is certified that was not checked by this node.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import structlog
import trio

from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import Foundation
from appliance.coordination.commands import Topic
from appliance.coordination.key_commands import (
    BeginShred,
    CompleteShred,
    ConfirmShred,
    LogEnd,
    Shredded,
    Shredding,
    TopicKeys,
)
from appliance.errors import ErrorCode, KeyGone, KeyProviderError, RequestError, StorageError
from appliance.ports import Signer
from appliance.types import KeyDomainId, TimestampMs

log = structlog.get_logger()

CloseLogs = Callable[[Topic], Awaitable[tuple[LogEnd, ...]]]
"""Closes every log of a topic on this node and says where each ended."""

NOT_VOUCHED_FOR = (
    "backups of the key server that still hold the destroyed key",
    "records that consumers, or whoever may have read the topic, have copied",
    "memory that the interpreter or the system has not overwritten yet",
)


class Statement(msgspec.Struct, frozen=True):
    """What a certificate of destruction says."""

    statement: str
    cluster: str
    topic: str
    topic_id: str
    shredding: str
    destroyed_key_domain: str
    begun: str
    completed: str
    nodes_that_dropped_their_keys: tuple[int, ...]
    nodes_that_were_late: tuple[int, ...]
    checked_by_node: int
    checks: tuple[str, ...]
    does_not_vouch_for: tuple[str, ...]


class NoSigner:
    """For a broker without a certificate of its own."""

    async def sign(self, _: str) -> str:
        """Refuses; see `ports.Signer`."""
        await trio.lowlevel.checkpoint()
        raise _refused("this node has no certificate to sign with")


NO_SIGNER = NoSigner()


class Shredder:
    """Takes topics through the steps."""

    def __init__(
        self, foundation: Foundation, catalogue: Catalogue, close_logs: CloseLogs, signer: Signer
    ) -> None:
        self._foundation = foundation
        self._catalogue = catalogue
        self._close_logs = close_logs
        self._signer = signer

    async def begin(self, topic: Topic) -> TopicKeys:
        """Steps 1 and 2, as far as this node goes; raises RequestError."""
        keys = self._keys_of(topic)
        if keys.shredding is None:
            self._check_alone(topic)
            shred, now_ms = self._foundation.new_id(), self._foundation.clock.now_ms()
            command = BeginShred(topic.topic, shred, now_ms, (self._foundation.storage.node,))
            keys = await self._catalogue.change_keys(command)
        return await self.confirm(topic)

    def _check_alone(self, topic: Topic) -> None:
        """Raises RequestError where other nodes hold the topic too: they do not confirm yet."""
        membership = self._catalogue.state.membership
        holders = {node for p in topic.partitions for node in membership.assignment(p).everyone}
        others = sorted(holders - {self._foundation.storage.node})
        if others:
            names = ", ".join(map(str, others))
            raise _refused(
                f"nodes {names} hold the topic too, and only a topic with one replica, on the node"
                " that is asked, can be shredded yet: delete the topic, and have a custodian"
                " destroy its key"
            )

    async def confirm(self, topic: Topic) -> TopicKeys:
        """Step 2 on this node; raises RequestError."""
        keys = self._keys_of(topic)
        shredding = _under_way(keys)
        node = self._foundation.storage.node
        if node not in shredding.nodes or node in shredding.confirmed:
            return keys
        try:
            ends = await self._close_logs(topic)
        except (StorageError, KeyProviderError) as error:
            log.warning("a topic's logs cannot be closed for shredding", reason=str(error))
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"where the topic's logs end cannot be told now: {error}",
            ) from None
        self._foundation.storage.keys.forget(keys.domain)
        log.info("keys of a topic dropped", domain=str(keys.domain))
        return await self._catalogue.change_keys(
            ConfirmShred(topic.topic, shredding.shred, node, ends)
        )

    async def complete(self, topic: Topic) -> str:
        """Steps 4 and 5: the certificate; raises RequestError.

        After completion it gives the certificate of the last shredding once more.
        """
        keys = self._keys_of(topic)
        shredding = keys.shredding
        if shredding is not None:
            missing = set(shredding.nodes) - set(shredding.confirmed)
            if missing:
                names = ", ".join(map(str, sorted(missing)))
                raise _refused(f"nodes {names} have not dropped their keys yet: begin again")
            await self._check_gone(topic, keys)
            fresh = KeyDomainId(self._foundation.new_id())
            await self._foundation.storage.keys.create_domain(fresh)
            completed_ms = self._foundation.clock.now_ms()
            keys = await self._catalogue.change_keys(
                CompleteShred(topic.topic, shredding.shred, fresh, completed_ms)
            )
        return await self.certify(topic)

    async def certify(self, topic: Topic) -> str:
        """The certificate of the last shredding; raises RequestError."""
        keys = self._keys_of(topic)
        if keys.last is None:
            raise _refused("no shredding of this topic is done")
        return await self._certificate(topic, keys.last)

    async def _check_gone(self, topic: Topic, keys: TopicKeys) -> None:
        """Step 4; raises RequestError while the key is there or anything opens."""
        storage = self._foundation.storage
        try:
            opens = await storage.keys.any_opens(topic.partitions, keys.domain)
            await storage.keys.status(keys.domain)
        except KeyGone:
            opens = False
        except (KeyProviderError, StorageError) as error:
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"the key cannot be checked now: {error}"
            ) from None
        else:
            raise _refused(
                f"the key of domain {keys.domain} is still there: have a custodian destroy it"
            )
        if opens:
            raise _refused(f"a wrapped key of domain {keys.domain} still opens")

    async def _certificate(self, topic: Topic, done: Shredded) -> str:
        storage = self._foundation.storage
        statement = Statement(
            "The key that every record of this topic was sealed with before completion has been"
            " destroyed: no copy of the broker's files, made at any time, can be read any more.",
            str(storage.cluster),
            topic.name,
            str(topic.topic),
            str(done.shred),
            str(done.domain),
            _time(done.begun_ms),
            _time(done.completed_ms),
            done.confirmed,
            done.late,
            storage.node,
            ("the key server answers that there is no such key", "no wrapped key opens"),
            NOT_VOUCHED_FOR,
        )
        text = msgspec.json.format(msgspec.json.encode(statement), indent=2).decode()
        return await self._signer.sign(text)

    def _keys_of(self, topic: Topic) -> TopicKeys:
        keys = self._catalogue.topic_keys(topic.topic)
        if keys is None:
            raise _refused(
                "the topic is sealed in the cluster's key domain, which other topics need: only a"
                " topic made with memorystreamer.key.domain=topic can be shredded; delete it"
                " instead"
            )
        return keys


def _under_way(keys: TopicKeys) -> Shredding:
    if keys.shredding is None:
        raise _refused("no shredding is under way")
    return keys.shredding


def _time(time_ms: TimestampMs) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def _refused(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, message)
