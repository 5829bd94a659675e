"""DescribeKeys: every key domain, its versions, and how many wraps of each this node keeps."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.errors import ErrorCode, KeyProviderError, StorageError
from appliance.ports import NodeStorage
from appliance.types import KeyDomainId, TopicName
from appliance.wire.requests import DescribeKeys, DescribeKeysResult, KeyDomainState


class DescribeKeysHandler:
    """Shows the keys, never one of them."""

    request = DescribeKeys

    def __init__(self, catalogue: Catalogue, storage: NodeStorage, domain: KeyDomainId) -> None:
        """`domain` is the cluster's own."""
        self._catalogue = catalogue
        self._storage = storage
        self._domain = domain

    def refuse(self, _: DescribeKeys, code: ErrorCode) -> DescribeKeysResult:
        """Says why not."""
        return DescribeKeysResult(code)

    async def handle(self, _: Caller, __: Authorized[DescribeKeys]) -> DescribeKeysResult:
        """One state a domain, the cluster's first."""
        try:
            counts = await self._storage.keys.count_wraps()
        except (StorageError, KeyProviderError) as error:
            return DescribeKeysResult(ErrorCode.KAFKA_STORAGE_ERROR, message=str(error))
        wraps: dict[KeyDomainId, list[tuple[int, int]]] = {}
        for each in counts:
            wraps.setdefault(each.domain, []).append((each.version, each.count))
        states = [
            await self._state(domain, topic, shredding, tuple(sorted(wraps.get(domain, ()))))
            for domain, topic, shredding in self._domains()
        ]
        return DescribeKeysResult(ErrorCode.NONE, self._storage.node, tuple(states))

    def _domains(self) -> list[tuple[KeyDomainId, TopicName | None, bool]]:
        found: list[tuple[KeyDomainId, TopicName | None, bool]] = [(self._domain, None, False)]
        for topic, keys in self._catalogue.state.key_domains.topics.items():
            name = self._catalogue.name_of(topic)
            if name is not None:
                found.append((keys.domain, name, keys.shredding is not None))
        return found

    async def _state(
        self,
        domain: KeyDomainId,
        topic: TopicName | None,
        shredding: bool,
        wraps: tuple[tuple[int, int], ...],
    ) -> KeyDomainState:
        keys = self._storage.keys
        newest = oldest = 0
        trouble = None
        try:
            status = await keys.status(domain)
        except KeyProviderError as error:
            trouble = str(error)
        else:
            newest, oldest = status.newest_version, status.oldest_version
        return KeyDomainState(
            domain,
            topic,
            newest,
            oldest,
            keys.epoch(domain),
            wraps,
            keys.lease_left_s(domain),
            shredding,
            trouble,
        )
