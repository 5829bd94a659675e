"""The life of a node.

(1) Dumps are forbidden, memory is locked and TLS files are read; (2) keys are reached, and while
they are away, sealed or refused the node says so and waits, listening to nobody; (3) its directory
and its broker are opened, other nodes are listened to, and the cluster is joined; (4) the clients'
listeners serve, and `ready` is said; (5) on SIGTERM or SIGINT leadership is handed over, what was
accepted is finished, logs and journals end in stop frames, and the process exits with 0. SIGHUP
reads the TLS files again.
"""

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog
import trio

from appliance.assembly.control import Control
from appliance.assembly.keys import NodeKeys, reach_keys
from appliance.assembly.listeners import Serving, client_listeners, login_listener, serve
from appliance.assembly.settings import broker_settings, first_policy, server_contexts, tls_files
from appliance.audit.sink import AuditLog
from appliance.authn.mtls import CertificatePrincipals
from appliance.authz.enforcer import check
from appliance.authz.gate import Gate
from appliance.broker.node import BrokerNode
from appliance.config import NodeConfig
from appliance.errors import ApplianceError, ConfigurationError, KeyProviderError, KeysUnavailable
from appliance.keys.waiting import await_serving
from appliance.limits import THREAD_SWITCH_S
from appliance.observe.system import SystemClock, SystemEntropy, keep_freed_memory
from appliance.ports import KeyProvider
from appliance.server.health import HealthSocket
from appliance.server.peer_service import PeerService
from appliance.server.sandbox import forbid_dumps, lock_memory, raise_descriptors
from appliance.server.shares import Budgets, PeerShare
from appliance.server.signer import NodeSigner
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import PartitionId
from appliance.wire.kafka.batch import stamp

if TYPE_CHECKING:
    pass

AUDIT_JOURNAL: Final = PartitionId(UUID("00000000-0000-8000-8000-000000000003"))
"""A fixed id of version 8 (RFC 9562), which no random id can be."""

RETRY_S: Final = 1.0
"""Before another attempt when the keys went away while files were opened."""
REFUSED_RETRY_S: Final = 10.0
"""Before another attempt when the provider refused, or gave wrong keys: a custodian has to act."""
CLOSE_S: Final = 3.0
FAULT: Final = 70
"""Exit code after a fault of this program (EX_SOFTWARE)."""

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


def create(config: NodeConfig, passphrase: bytes | None) -> None:
    """Makes the node's data directory, and so the cluster. Raises ApplianceError."""
    _keep_memory(config)
    if config.bootstrap.policy is not None:
        check(first_policy(config.bootstrap.policy))
    trio.run(_create, config, passphrase)


def run(config: NodeConfig, passphrase: bytes | None, *, announce: Callable[[str], None]) -> None:
    """Runs the node until SIGTERM or SIGINT; calls `announce` with one line when it serves.

    Raises ApplianceError when the node cannot start or go on. A fault of this program is logged
    without the values it happened to, and ends the process with code FAULT.
    """
    _keep_memory(config)
    sys.setswitchinterval(THREAD_SWITCH_S)
    try:
        trio.run(_run, config, passphrase, announce)
    except ApplianceError:
        raise
    except Exception as error:
        if isinstance(error, ExceptionGroup) and error.split(ApplianceError)[1] is None:
            raise
        _log.error("the node ends after a fault of its own", exc_info=error)
        raise SystemExit(FAULT) from None


def with_keys(
    config: NodeConfig, passphrase: bytes | None, action: Callable[[KeyProvider], Awaitable[None]]
) -> None:
    """Reaches a node's keys as the node does, and gives them to `action`; serves nobody."""
    forbid_dumps()
    trio.run(_with_keys, config, passphrase, action)


def _keep_memory(config: NodeConfig) -> None:
    """Step 1: no dumps, no swap where that can be had. Raises ConfigurationError."""
    forbid_dumps()
    raise_descriptors()
    keep_freed_memory()
    try:
        lock_memory()
    except ConfigurationError as error:
        if config.node.lock_memory == "required":
            raise
        _log.warning("keys may be swapped out to a disk", reason=str(error))


async def _create(config: NodeConfig, passphrase: bytes | None) -> None:
    config.node.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with trio.open_nursery() as nursery:
        keys = await reach_keys(config, passphrase, nursery, Control())
        directory = await NodeDirectory.create(
            PosixDisk(config.node.data),
            cluster=config.node.cluster,
            node=config.node.node_id,
            domain=config.node.domain,
            keys=keys.provider,
            entropy=SystemEntropy(),
            stamp=stamp,
        )
        await directory.close()
        nursery.cancel_scope.cancel()


async def _with_keys(
    config: NodeConfig, passphrase: bytes | None, action: Callable[[KeyProvider], Awaitable[None]]
) -> None:
    async with trio.open_nursery() as nursery:
        keys = await reach_keys(config, passphrase, nursery, Control())
        await action(keys.provider)
        nursery.cancel_scope.cancel()


async def _run(
    config: NodeConfig, passphrase: bytes | None, announce: Callable[[str], None]
) -> None:
    control = Control()
    control.contexts = server_contexts(config)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.listen, signals)
            with control.life:
                keys = await reach_keys(config, passphrase, nursery, control)
                await _show_health(config, keys, nursery, control)
                while not control.stopping.is_set():
                    await await_serving(keys.provider, control.on_health)
                    await _live(config, keys, control, announce)
            nursery.cancel_scope.cancel()
    _log.info("stopped")


async def _show_health(
    config: NodeConfig, keys: NodeKeys, nursery: trio.Nursery, control: Control
) -> None:
    """Answers on the socket for the node's health, if the configuration names one."""
    if config.node.health_socket is None:
        return
    from appliance.observe.metrics import Metrics  # noqa: PLC0415 - costs memory where unused

    metrics = Metrics()
    keys.show(metrics)
    metrics.follow_replication(lambda: control.replication and control.replication())
    health = HealthSocket(
        config.node.health_socket,
        is_ready=lambda: control.ready and not control.stopping.is_set(),
        metrics=metrics.text,
    )
    await nursery.start(health.run)


async def _live(
    config: NodeConfig, keys: NodeKeys, control: Control, announce: Callable[[str], None]
) -> None:
    """Opens and serves until a signal, or until the keys are gone: then it may be tried again.

    Keys that are refused, gone or wrong are waited for like absent ones: the node says what a
    custodian has to do, damages nothing, and never ends only to be started again.
    """
    try:
        await _open_and_serve(config, keys, control, announce)
    except* KeysUnavailable as group:
        _log.warning("the keys went away while files were opened", reasons=_reasons(group))
        await trio.sleep(RETRY_S)
    except* KeyProviderError as group:
        control.on_refusal(_reasons(group))
        await trio.sleep(REFUSED_RETRY_S)


def _reasons(group: BaseExceptionGroup[KeyProviderError]) -> list[str]:
    return sorted({str(error) for error in group.exceptions})


DAY_S = 24 * 3600


async def _open_and_serve(
    config: NodeConfig, keys: NodeKeys, control: Control, announce: Callable[[str], None]
) -> None:
    """Steps 3 to 5."""
    clock, entropy = SystemClock(), SystemEntropy()
    storage = await NodeDirectory.open(
        PosixDisk(config.node.data), keys=keys.provider, entropy=entropy, stamp=stamp
    )
    try:
        _check_identity(config, storage)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.run, config.node.scrub_days * DAY_S)
            broker = await BrokerNode.prepare(
                broker_settings(config),
                storage=storage,
                clock=clock,
                entropy=entropy,
                nursery=nursery,
                signer=NodeSigner(config.tls.certificate, config.tls.key),
            )
            control.replication = broker.standing
            nursery.start_soon(_seal_domains, keys, broker)
            journal = await storage.open_journal(AUDIT_JOURNAL)
            try:
                audit = AuditLog(journal, clock)
                await audit.start()
                gate = Gate(broker.policies, broker.topic_names, clock)
                serving = Serving(broker, gate, audit, Budgets())
                await _meet_peers(config, serving, nursery, control)
                await broker.join()
                dispatcher = broker.dispatcher(gate, audit)
                login = await login_listener(config, dispatcher, control, serving, nursery)
                listeners = client_listeners(config, dispatcher, serving, control, login)
                await serve(config, listeners, keys, control, announce)
            finally:
                control.replication = None
                with trio.move_on_after(CLOSE_S, shield=True):
                    await broker.close()
                    await journal.close()
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await storage.close()


async def _meet_peers(
    config: NodeConfig, serving: Serving, nursery: trio.Nursery, control: Control
) -> None:
    """Listens to other nodes and connects to them, where the configuration says so."""
    settings = config.listeners.peers
    if settings is None:
        return
    service = PeerService(
        serving.broker.peers,
        serving.broker.peer_dispatcher(serving.gate, serving.audit),
        CertificatePrincipals(config.tls.trust_domain, allow_nodes=True).node,
        files=tls_files(config),
        budgets=PeerShare(serving.budgets.peers),
        entropy=SystemEntropy(),
    )
    control.peers = service
    await service.bind(settings.bound.host, settings.bound.port)
    await nursery.start(service.run)
    _log.info("listening to nodes", peers=settings.bind)


async def _seal_domains(keys: NodeKeys, broker: BrokerNode) -> None:
    """Closes topics whose own key is gone, or whose lease on it has ended, until cancelled."""
    while True:
        domain = await keys.next_sealed()
        _log.error("a key domain is sealed: its key is gone or its lease over", domain=str(domain))
        await broker.seal_domain(domain)


def _check_identity(config: NodeConfig, storage: NodeDirectory) -> None:
    """A directory of another node or cluster is never served under this one's name."""
    if (storage.cluster, storage.node) != (config.node.cluster, config.node.node_id):
        raise ConfigurationError(
            f"node.data: {config.node.data} belongs to node {storage.node} of cluster"
            f" {storage.cluster}; correct node.id, node.cluster or node.data"
        )
