"""The broker of one node, put together: what `assembly` opens, serves through and closes.

Start, in order: (1) the catalogue's log is opened, and other nodes may speak to this one; (2) a new
cluster gets its first policy, any other is joined: this node says where it is, and waits until all
that was decided before shows here; (3) what deletions left behind is removed; (4) the groups' log
and the partitions that others hold too are opened. Other partitions are opened when they are first
used.
"""

import structlog
import trio

from appliance.authz.enforcer import check
from appliance.authz.gate import Gate
from appliance.authz.peer_rows import PEER_ROWS
from appliance.broker.auditor import Auditor
from appliance.broker.catalogue import Catalogue
from appliance.broker.consensus import Consensus
from appliance.broker.coordinator import Coordinator
from appliance.broker.dispatch import Dispatcher
from appliance.broker.fetch_sessions import FetchSessions
from appliance.broker.forwarding import Forwarding
from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG, Foundation
from appliance.broker.handlers.peer import (
    DeliverHandler,
    EnactHandler,
    ForwardHandler,
    GreetHandler,
)
from appliance.broker.housekeeping import Housekeeper
from appliance.broker.key_domains import TopicDomains
from appliance.broker.key_dropping import KeyDropper
from appliance.broker.pacing import MovePace
from appliance.broker.peering import Identity, Peers
from appliance.broker.placement import Placement
from appliance.broker.quotas import Quotas
from appliance.broker.rekeying import Rekeyer
from appliance.broker.rendezvous import remembered
from appliance.broker.repair import Repair
from appliance.broker.serving import Parts, register_all
from appliance.broker.settings import PEER_LISTENER, BrokerSettings
from appliance.broker.shredding import NO_SIGNER, Shredder
from appliance.broker.steward import Steward
from appliance.broker.topics import Topics
from appliance.coordination.cluster_commands import FIRST_LEVEL
from appliance.coordination.key_commands import TopicShredded
from appliance.errors import ConfigurationError, RequestError, StorageError
from appliance.ports import AuditSink, Clock, Entropy, NodeStorage, ReplicationStanding, Signer
from appliance.raft.configuration import Configuration
from appliance.raft.ready import Shrunk
from appliance.types import KeyDomainId, PartitionId, TopicId
from appliance.wire.requests.peer import Address

log = structlog.get_logger()

ANNOUNCE_RETRY_S = 0.2
HANDOVER_S = 1.0
"""For others to take leadership over, of the five seconds that a stop may take."""


class BrokerNode:
    """One node's broker; `policies` and `topic_names` are what its gate is made with."""

    def __init__(
        self,
        settings: BrokerSettings,
        foundation: Foundation,
        catalogue: Catalogue,
        signer: Signer,
    ) -> None:
        """Use `prepare`, then `join`."""
        self._settings = settings
        self._foundation = foundation
        self._catalogue = catalogue
        self.quotas = Quotas(catalogue.state.quotas, foundation.clock)
        """What this node keeps of its clients' use."""
        self._placement = Placement(
            foundation.node,
            catalogue,
            foundation.consensus,
            lambda group: foundation.storage.hard_state(group).term,
        )
        self._topics = Topics(
            foundation, catalogue, self._placement, TopicDomains(foundation, catalogue)
        )
        self._fetch_sessions = FetchSessions(
            foundation.clock.monotonic, foundation.new_session_number
        )
        self._dropper = KeyDropper(
            foundation, catalogue, self._topics, self._fetch_sessions.forget_topic
        )
        self._shredder = Shredder(foundation, catalogue, signer)
        self._rekeyer = Rekeyer(foundation, self._topics)
        self._steward = Steward(foundation, catalogue, self._placement)
        self._forwarding = Forwarding(foundation, catalogue)
        self._coordinator = Coordinator(
            foundation, first_join_delay_ms=settings.first_join_delay_ms
        )
        self._forwards = ForwardHandler(catalogue)
        self._housekeeper = Housekeeper(self._topics, foundation.clock)
        self._repair = Repair(
            foundation, self._topics, self._steward,
            {CATALOGUE_LOG: catalogue, GROUPS_LOG: self._coordinator},
        )  # fmt: skip
        self._auditors: list[Auditor] = []
        self._joined = trio.Event()
        self._life = trio.CancelScope()

    @staticmethod
    async def open(
        settings: BrokerSettings,
        *,
        storage: NodeStorage,
        clock: Clock,
        entropy: Entropy,
        nursery: trio.Nursery,
        signer: Signer = NO_SIGNER,
    ) -> "BrokerNode":
        """A node whose cluster is there or is itself: `prepare`, then `join`."""
        node = await BrokerNode.prepare(
            settings,
            storage=storage,
            clock=clock,
            entropy=entropy,
            nursery=nursery,
            signer=signer,
        )
        await node.join()
        return node

    @staticmethod
    async def prepare(
        settings: BrokerSettings,
        *,
        storage: NodeStorage,
        clock: Clock,
        entropy: Entropy,
        nursery: trio.Nursery,
        signer: Signer = NO_SIGNER,
    ) -> "BrokerNode":
        """Opens the catalogue's log: from here on other nodes may speak to this one.

        `signer` signs certificates of destruction. `nursery` holds flushes and timers; it ends by
        itself once `close` has returned. Raises StorageError, KeyProviderError.
        """
        # The number of this life: clocks are set back, and peers must not take it for an older one.
        life = await storage.begin_life(clock.now_ms())
        identity = Identity(storage.cluster, storage.node, life, settings.address, settings.listens)
        peers = Peers(identity)
        foundation = Foundation(
            storage, clock, entropy, nursery, settings.domain,
            set(storage.partitions()), Consensus(peers), peers,
            MovePace(settings.moves_bytes_per_s, clock),
        )  # fmt: skip
        node = BrokerNode(settings, foundation, Catalogue(foundation), signer)
        node._follow_catalogue()
        nursery.start_soon(node._live)
        alone = frozenset({storage.node})
        genesis = (
            Configuration(frozenset(), learners=alone) if settings.joins else Configuration(alone)
        )
        await node._catalogue.open(genesis)
        said = await remembered(node._catalogue.log.replica.log, PEER_LISTENER)
        for other, endpoint in said.items():
            peers.greeted(other, Address(endpoint.host, endpoint.port))
        return node

    async def join(self) -> None:
        """Takes part in the cluster; returns when this node can serve clients.

        Raises ConfigurationError (a new cluster without a policy), StorageError.
        """
        catalogue = self._catalogue
        if catalogue.leads and catalogue.policy()[0] == 0:
            if self._settings.first_policy is None:
                raise ConfigurationError("bootstrap.policy: a new cluster needs its first policy")
            check(self._settings.first_policy)
            await catalogue.set_policy(self._settings.first_policy, expected_version=0)
        await catalogue.known_whole()
        await self._announce()
        if catalogue.leads:
            await catalogue.raise_level(self._settings.newest_level)
        await self._topics.remove_dropped()
        await self._topics.remove_unknown()
        await self._hold_groups()
        if self._coordinator.leads:
            await self._forget_gone_topics()
        self._topics.follow()
        self._dropper.follow()
        self._joined.set()

    async def _announce(self) -> None:
        """Says where this node is, until the cluster has taken notice of it."""
        said = ""
        while True:
            try:
                await self._catalogue.register(
                    host=self._settings.host,
                    rack=self._settings.rack,
                    endpoints=self._settings.endpoints,
                    levels=(FIRST_LEVEL, self._settings.newest_level),
                )
            except RequestError as error:
                if str(error) != said:
                    said = str(error)
                    log.info("waiting for the cluster", reason=said)
                await trio.sleep(ANNOUNCE_RETRY_S)
            else:
                return

    # --- following the catalogue -----------------------------------------------------------------

    def _follow_catalogue(self) -> None:
        catalogue, consensus = self._catalogue, self._foundation.consensus
        catalogue.on_nodes = self._know_nodes
        catalogue.on_placed = self._placed
        catalogue.on_topic_gone = self._topic_gone
        catalogue.on_keys = self._keys_stepped
        catalogue.on_shredded = self._shredded
        consensus.on_leadership = self._leadership
        consensus.on_damaged = self._repair.found
        self._foundation.storage.tell_damage(lambda group: self._repair.found(group, False))

    def _know_nodes(self) -> None:
        peers, membership = self._foundation.peers, self._catalogue.state.membership
        addresses = {}
        for node, known in membership.nodes.items():
            endpoint = known.endpoint(PEER_LISTENER)
            if endpoint is not None:
                addresses[node] = Address(endpoint.host, endpoint.port)
        peers.know(addresses)
        for node in membership.retired:
            peers.forget_greeting(node)

    def _placed(self, group: PartitionId) -> None:
        if group == GROUPS_LOG:
            if self._topics.following:
                self._foundation.nursery.start_soon(self._hold_groups)
        else:
            self._topics.settle(group)

    def _keys_stepped(self, topic: TopicId) -> None:
        self._dropper.stepped(topic)
        self._shredder.stepped(topic)

    def _shredded(self, done: TopicShredded) -> None:
        self._dropper.shredded(done)
        self._topics.shredded(done)

    def _leadership(self, group: PartitionId) -> None:
        if group == GROUPS_LOG:
            self._coordinator.leadership_changed()

    def _topic_gone(self, topic: TopicId) -> None:
        self._foundation.nursery.start_soon(self._forget_topic, topic)

    async def _forget_topic(self, topic: TopicId) -> None:
        try:
            await self._coordinator.forget_topics([topic])
        except RequestError as error:
            log.info("offsets of a deleted topic stay until the next start", reason=str(error))

    async def _hold_groups(self) -> None:
        """Opens the groups' log if it is to lie here, or gives it up."""
        assignment = self._catalogue.state.membership.assignment(GROUPS_LOG)
        if self._foundation.node in assignment.everyone:
            await self._coordinator.hold(Configuration(frozenset(assignment.replicas)))
        else:
            await self._coordinator.give_up()

    async def _forget_gone_topics(self) -> None:
        known = self._catalogue.state.names.keys()
        gone = self._coordinator.topics_with_offsets() - known
        await self._coordinator.forget_topics(sorted(gone))

    async def _live(self) -> None:
        with self._life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._foundation.consensus.run)
                nursery.start_soon(self._coordinator.keep_time)
                await self._joined.wait()
                nursery.start_soon(self._steward.run)
                nursery.start_soon(self._housekeeper.run)

    # --- serving ---------------------------------------------------------------------------------

    @property
    def peers(self) -> Peers:
        """The other nodes, for `server.peers` to connect to."""
        return self._foundation.peers

    @property
    def policies(self) -> Catalogue:
        """The gate's `PolicySource`."""
        return self._catalogue

    @property
    def topic_names(self) -> Catalogue:
        """The gate's `TopicResolver`."""
        return self._catalogue

    async def settled(self) -> None:
        """Returns once the replicas that are to lie here are open, and have caught up.

        As far as they can: not those that do not open, nor those that nobody leads.
        """
        await self._topics.settled()
        await self._foundation.consensus.caught_up()

    def standing(self) -> ReplicationStanding:
        """How this node's replicas stand, for whoever measures it."""
        return self._foundation.consensus.standing()

    def dispatcher(self, gate: Gate, sink: AuditSink) -> Dispatcher:
        """What every connection of a client hands its requests to.

        Raises InvariantViolation unless each request of the authorisation catalogue is served.
        """
        auditor = Auditor(sink, self._foundation.nursery)
        self._auditors.append(auditor)
        dispatcher = Dispatcher(gate, auditor, forwarding=self._forwarding, meter=self.quotas)
        register_all(self._parts(), dispatcher, auditor)
        dispatcher.check_complete()
        self._forwards.serve(dispatcher)
        return dispatcher

    def _parts(self) -> Parts:
        return Parts(
            settings=self._settings,
            foundation=self._foundation,
            catalogue=self._catalogue,
            placement=self._placement,
            topics=self._topics,
            fetch_sessions=self._fetch_sessions,
            coordinator=self._coordinator,
            forwarding=self._forwarding,
            quotas=self.quotas,
            shredder=self._shredder,
            rekeyer=self._rekeyer,
        )

    def peer_dispatcher(self, gate: Gate, sink: AuditSink) -> Dispatcher:
        """What every connection of another node hands its requests to, from `prepare` on."""
        auditor = Auditor(sink, self._foundation.nursery)
        self._auditors.append(auditor)
        self._raise_alarms(auditor)
        dispatcher = Dispatcher(gate, auditor, catalogue=PEER_ROWS)
        peers, catalogue = self._foundation.peers, self._catalogue
        dispatcher.register(GreetHandler(peers, catalogue))
        dispatcher.register(DeliverHandler(peers, self._foundation.consensus, catalogue))
        dispatcher.register(self._forwards)
        dispatcher.register(EnactHandler(catalogue))
        dispatcher.check_complete()
        return dispatcher

    def _raise_alarms(self, auditor: Auditor) -> None:
        """Has it said and recorded when another node's disk is older than its word."""

        def shrunk(partition: PartitionId, found: Shrunk) -> None:
            log.error(
                "a node holds less than it acknowledged: an old disk was restored, or one was lost",
                node=found.node, partition=str(partition), acknowledged=found.acknowledged,
                held=found.held,
            )  # fmt: skip
            self._foundation.nursery.start_soon(auditor.log_shrunk, partition, found)

        self._foundation.consensus.on_shrunk = shrunk

    async def seal_domain(self, domain: KeyDomainId) -> None:
        """Closes what is sealed in a topic's own domain, whose key is not to be had any more."""
        await self._topics.close_domain(domain)

    async def hand_over(self) -> None:
        """Has others lead what they can, while clients are still answered where to go."""
        await self._steward.resign_all(HANDOVER_S)

    async def close(self) -> None:
        """Clean stop: what is under way becomes durable, then every log is closed.

        Called when no connection is served any more, and before the audit journal and the storage
        are closed.
        """
        for auditor in self._auditors:
            await auditor.close()
        if self._joined.is_set():
            await self._housekeeper.close()
        await self._topics.close()
        for part in (self._coordinator, self._catalogue):
            try:
                await part.close()
            except StorageError as error:
                log.warning("an internal log was not closed cleanly", reason=str(error))
        self._life.cancel()
