"""The composition root: the only module that knows concrete classes.

A node's life: (1) dumps are forbidden, memory is locked and TLS files are read; (2) keys are
reached, and while they are away, sealed or refused the node says so and waits, listening to nobody;
(3) its directory and its broker are opened, other nodes are listened to, and the cluster is joined;
(4) the clients' listeners serve, and `ready` is said; (5) on SIGTERM or SIGINT leadership is handed
over, what was accepted is finished, logs and journals end in stop frames, and the process exits
with 0. SIGHUP reads the TLS files again.
"""

import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog
import trio
from msgspec import Struct

from appliance.audit.sink import AuditLog
from appliance.authn.mtls import CertificatePrincipals
from appliance.authz.enforcer import check
from appliance.authz.gate import Gate
from appliance.broker.dispatch import Dispatcher
from appliance.broker.node import BrokerNode, BrokerSettings
from appliance.broker.passwords import KeptPasswords
from appliance.broker.telemetry import Subscription
from appliance.config import Endpoint, NodeConfig, VaultKeys
from appliance.coordination.commands import Endpoint as Advertised
from appliance.errors import ApplianceError, ConfigurationError, KeyProviderError, KeysUnavailable
from appliance.invariant import InvariantViolation
from appliance.keys.lease import LeasedKeys, Report, Standing
from appliance.keys.waiting import await_serving
from appliance.limits import DECOY_SECRET_BYTES, MAX_POLICY_BYTES, THREAD_SWITCH_S
from appliance.logins import open_logins
from appliance.observe.clients import ClientLog
from appliance.observe.system import SystemClock, SystemEntropy, keep_freed_memory
from appliance.ports import KeyHealth, KeyProvider
from appliance.server.budget import Budgets, PeerShare
from appliance.server.dialects import KafkaDialect, NativeDialect
from appliance.server.health import HealthSocket
from appliance.server.listener import Listener
from appliance.server.login_gate import ByLogin
from appliance.server.peer_service import PeerService
from appliance.server.sandbox import forbid_dumps, lock_memory
from appliance.server.signer import NodeSigner
from appliance.server.tls import ServerContexts, TLSFiles
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import ClusterId, KeyDomainId, PartitionId
from appliance.wire.kafka import codec as kafka
from appliance.wire.kafka.batch import stamp
from appliance.wire.native import codec as native

if TYPE_CHECKING:
    from appliance.keys.vault_settings import VaultLogin
    from appliance.observe.metrics import Metrics

AUDIT_JOURNAL: Final = PartitionId(UUID("00000000-0000-8000-8000-000000000003"))
"""A fixed id of version 8 (RFC 9562), which no random id can be."""

RETRY_S: Final = 1.0
"""Before another attempt when the keys went away while files were opened."""
REFUSED_RETRY_S: Final = 10.0
"""Before another attempt when the provider refused, or gave wrong keys: a custodian has to act."""
STOP_S: Final = 4.0
"""What is not finished by then, of the five seconds that a stop may take, is cut off."""
CLOSE_S: Final = 3.0
FAULT: Final = 70
"""Exit code after a fault of this program (EX_SOFTWARE)."""

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class NodeKeys(Struct, frozen=True):
    """Where a node's keys come from, and what returns when it must do without them."""

    provider: KeyProvider
    until_sealed: Callable[[], Awaitable[None]]
    next_sealed: Callable[[], Awaitable[KeyDomainId]] = trio.sleep_forever
    """The next domain whose keys may not be used any more."""
    show: "Callable[[Metrics], None]" = lambda _: None
    """Has the metrics follow how the node stands with its keys."""


def create(config: NodeConfig, passphrase: bytes | None) -> None:
    """Makes the node's data directory, and so the cluster. Raises ApplianceError."""
    _keep_memory(config)
    if config.bootstrap.policy is not None:
        check(_first_policy(config.bootstrap.policy))
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


class _Listeners(Struct, frozen=True):
    """Every listener of clients; `for_login` only where the configuration has one."""

    for_kafka: Listener[kafka.Call]
    for_native: Listener[native.NativeCall]
    for_login: Listener[kafka.Call] | None
    hand_over: Callable[[], Awaitable[None]]
    """Has other nodes lead what they can, while clients are still told where to go."""


class _Serving(Struct, frozen=True):
    """What the listeners of a node share."""

    broker: BrokerNode
    gate: Gate
    audit: AuditLog
    budgets: Budgets


def with_keys(
    config: NodeConfig, passphrase: bytes | None, action: Callable[[KeyProvider], Awaitable[None]]
) -> None:
    """Reaches a node's keys as the node does, and gives them to `action`; serves nobody."""
    forbid_dumps()
    trio.run(_with_keys, config, passphrase, action)


class _Control:
    """What signals do, which depends on how far the node has come."""

    def __init__(self) -> None:
        self.life = trio.CancelScope()
        self.stopping = trio.Event()
        self.contexts: tuple[ServerContexts, ...] = ()
        self.peers: PeerService | None = None
        self.serving = False
        self._refused_for: list[str] = []

    async def listen(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload()
                continue
            _log.info("stopping", signal=signal.Signals(number).name)
            if self.serving and not self.stopping.is_set():
                self.stopping.set()
                self.life.deadline = trio.current_time() + STOP_S
            else:
                self.life.cancel()

    @staticmethod
    def on_health(health: KeyHealth) -> None:
        """Says that the node waits for its keys, and why, or that they are there."""
        if health.serving:
            _log.info("the keys are there")
        elif health.alarm:
            _log.critical("waiting sealed: a credential may be stolen", advice=health.advice)
        else:
            _log.warning("waiting sealed: no keys, nothing is served", advice=health.advice)

    def on_refusal(self, reasons: list[str]) -> None:
        """Says, once for the same reasons, why the keys that are there do not open this node."""
        if reasons != self._refused_for:
            _log.error("waiting sealed: the keys do not open this node", reasons=reasons)
        self._refused_for = reasons

    def on_keys(self, report: Report) -> None:
        """Says how the node stands with its keys; while it waits sealed, `on_health` does."""
        if report.standing is Standing.LEASED:
            left_s = round(report.left_s)
            _log.warning("living on the lease of its keys", reason=report.reason, left_s=left_s)
        elif self.serving and report.standing is Standing.SERVING:
            _log.info("keys are served again")
        elif self.serving:
            _log.error("sealing: the lease of its keys has ended", reason=report.reason)

    def _reload(self) -> None:
        try:
            for contexts in self.contexts:
                contexts.reload()
            if self.peers is not None:
                self.peers.reload()
        except ConfigurationError as error:
            _log.error("reload failed, what was in force stays", reason=str(error))
        else:
            _log.info("certificates and revocation list read again")


def _keep_memory(config: NodeConfig) -> None:
    """Step 1: no dumps, no swap where that can be had. Raises ConfigurationError."""
    forbid_dumps()
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
        keys = await _keys(config, passphrase, nursery, _Control())
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
        keys = await _keys(config, passphrase, nursery, _Control())
        await action(keys.provider)
        nursery.cancel_scope.cancel()


async def _run(
    config: NodeConfig, passphrase: bytes | None, announce: Callable[[str], None]
) -> None:
    control = _Control()
    control.contexts = _tls(config)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.listen, signals)
            with control.life:
                keys = await _keys(config, passphrase, nursery, control)
                await _show_health(config, keys, nursery, control)
                while not control.stopping.is_set():
                    await await_serving(keys.provider, control.on_health)
                    await _live(config, keys, control, announce)
            nursery.cancel_scope.cancel()
    _log.info("stopped")


async def _show_health(
    config: NodeConfig, keys: NodeKeys, nursery: trio.Nursery, control: _Control
) -> None:
    """Answers on the socket for the node's health, if the configuration names one."""
    if config.node.health_socket is None:
        return
    from appliance.observe.metrics import Metrics  # noqa: PLC0415 - costs memory where unused

    metrics = Metrics()
    keys.show(metrics)
    health = HealthSocket(
        config.node.health_socket,
        is_ready=lambda: control.serving and not control.stopping.is_set(),
        metrics=metrics.text,
    )
    await nursery.start(health.run)


async def _live(
    config: NodeConfig, keys: NodeKeys, control: _Control, announce: Callable[[str], None]
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
    config: NodeConfig, keys: NodeKeys, control: _Control, announce: Callable[[str], None]
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
                _broker_settings(config),
                storage=storage,
                clock=clock,
                entropy=entropy,
                nursery=nursery,
                signer=NodeSigner(config.tls.certificate, config.tls.key),
            )
            nursery.start_soon(_seal_domains, keys, broker)
            journal = await storage.open_journal(AUDIT_JOURNAL)
            try:
                audit = AuditLog(journal, clock)
                await audit.start()
                gate = Gate(broker.policies, broker.topic_names, clock)
                serving = _Serving(broker, gate, audit, Budgets())
                await _meet_peers(config, serving, nursery, control)
                await broker.join()
                dispatcher = broker.dispatcher(gate, audit)
                login = await _login_listener(config, dispatcher, control, broker, nursery)
                listeners = _listeners(config, dispatcher, serving, control, login)
                await _serve(config, listeners, keys, control, announce)
            finally:
                with trio.move_on_after(CLOSE_S, shield=True):
                    await broker.close()
                    await journal.close()
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await storage.close()


async def _meet_peers(
    config: NodeConfig, serving: "_Serving", nursery: trio.Nursery, control: _Control
) -> None:
    """Listens to other nodes and connects to them, where the configuration says so."""
    settings = config.listeners.peers
    if settings is None:
        return
    service = PeerService(
        serving.broker.peers,
        serving.broker.peer_dispatcher(serving.gate, serving.audit),
        CertificatePrincipals(config.tls.trust_domain, allow_nodes=True).node,
        files=_tls_files(config),
        budgets=PeerShare(serving.budgets.peers),
        entropy=SystemEntropy(),
    )
    control.peers = service
    await service.bind(settings.bound.host, settings.bound.port)
    await nursery.start(service.run)
    _log.info("listening to nodes", peers=settings.bind)


def _listeners(
    config: NodeConfig,
    dispatcher: Dispatcher,
    serving: _Serving,
    control: _Control,
    login: Listener[kafka.Call] | None,
) -> _Listeners:
    contexts, budgets = control.contexts[0], serving.budgets
    authenticate = CertificatePrincipals(config.tls.trust_domain, allow_nodes=False).principal
    return _Listeners(
        Listener(
            "kafka", KafkaDialect(), dispatcher, authenticate, contexts=contexts, budgets=budgets
        ),
        Listener(
            "native", NativeDialect(), dispatcher, authenticate, contexts=contexts, budgets=budgets
        ),
        login,
        serving.broker.hand_over,
    )


async def _login_listener(
    config: NodeConfig,
    dispatcher: Dispatcher,
    control: _Control,
    broker: BrokerNode,
    nursery: trio.Nursery,
) -> Listener[kafka.Call] | None:
    """The listener for logins, if the configuration has one; its issuer's keys are kept fresh."""
    settings = config.listeners.login
    if settings is None:
        return None
    clock, entropy = SystemClock(), SystemEntropy()
    passwords = KeptPasswords(broker.policies, entropy.random_bytes(DECOY_SECRET_BYTES))
    logins = await open_logins(settings, passwords, clock, entropy)
    nursery.start_soon(logins.refresh)
    return Listener(
        "login",
        KafkaDialect(),
        dispatcher,
        ByLogin(logins.begin),
        contexts=control.contexts[1],
        budgets=Budgets(),
    )


async def _serve(
    config: NodeConfig,
    listeners: _Listeners,
    keys: NodeKeys,
    control: _Control,
    announce: Callable[[str], None],
) -> None:
    """Serves until a signal, or the end of the keys' lease; then sees the connections off."""
    settings = config.listeners
    for_kafka, for_native = listeners.for_kafka, listeners.for_native
    login = listeners.for_login
    await for_kafka.bind(settings.kafka.bound.host, settings.kafka.bound.port)
    await for_native.bind(settings.native.bound.host, settings.native.bound.port)
    if login is not None and settings.login is not None:
        await login.bind(settings.login.bound.host, settings.login.bound.port)
    async with trio.open_nursery() as nursery:
        if login is not None:
            await nursery.start(login.serve)
        await nursery.start(for_kafka.serve)
        await nursery.start(for_native.serve)
        gc.collect()
        gc.freeze()
        control.serving = True
        _log.info("serving", kafka=settings.kafka.bind, native=settings.native.bind)
        announce(f"ready kafka={settings.kafka.public} native={settings.native.public}")
        await _first(control.stopping.wait, keys.until_sealed)
        control.serving = control.stopping.is_set()
        await listeners.hand_over()
        for_kafka.stop()
        for_native.stop()
        if login is not None:
            login.stop()


async def _seal_domains(keys: NodeKeys, broker: BrokerNode) -> None:
    """Closes topics whose own key is gone, or whose lease on it has ended, until cancelled."""
    while True:
        domain = await keys.next_sealed()
        _log.error("a key domain is sealed: its key is gone or its lease over", domain=str(domain))
        await broker.seal_domain(domain)


async def _first(*events: Callable[[], Awaitable[None]]) -> None:
    """Returns when one of the waits has returned."""

    async def one(event: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        await event()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(one, event, nursery.cancel_scope)


async def _keys(
    config: NodeConfig, passphrase: bytes | None, nursery: trio.Nursery, control: _Control
) -> NodeKeys:
    """Step 2: the provider; Vault's with leases that are renewed in `nursery`.

    Only the chosen provider's libraries are loaded: they are a good part of idle memory.
    """
    keys = config.keys
    if keys.local is not None:
        from appliance.keys.local import LocalKeystore  # noqa: PLC0415 - see above

        path = keys.local.keystore
        store = await trio.to_thread.run_sync(LocalKeystore.open, path, passphrase or b"")
        return NodeKeys(store, trio.sleep_forever)
    if keys.vault is None:
        raise InvariantViolation("a configuration has the table of its provider")
    provider = _vault(keys.vault, config.node.cluster)
    leased = LeasedKeys(
        provider,
        SystemClock(),
        lease_s=keys.vault.lease_s,
        spares=keys.vault.spare_data_keys,
        report=control.on_keys,
    )
    await nursery.start(leased.run)
    until_sealed = partial(leased.until_sealed, config.node.domain)

    def show(metrics: "Metrics") -> None:
        metrics.follow_keys(leased.standings, leased.refusals)

    return NodeKeys(leased, until_sealed, leased.next_sealed, show)


def _vault(vault: VaultKeys, cluster: ClusterId) -> KeyProvider:
    from appliance.keys.vault import VaultProvider  # noqa: PLC0415 - see `_keys`
    from appliance.keys.vault_settings import VaultSettings  # noqa: PLC0415 - see `_keys`

    settings = VaultSettings(
        address=vault.address,
        ca_file=vault.ca,
        cluster=cluster,
        login=_login(vault),
        transit_mount=vault.transit_mount,
        key_prefix=vault.key_prefix,
        namespace=vault.namespace,
        key_exchange=vault.key_exchange,
    )
    return VaultProvider(settings, SystemClock())


def _login(vault: VaultKeys) -> "VaultLogin":
    from appliance.keys import vault_settings as logins  # noqa: PLC0415 - see `_keys`

    if (role := vault.approle) is not None:
        return logins.AppRoleLogin(
            role_id=role.role_id,
            secret_id_file=role.secret_id_file,
            wrapping_token_file=role.wrapping_token_file,
            mount=role.mount,
        )
    if (account := vault.kubernetes) is not None:
        return logins.KubernetesLogin(
            role=account.role, token_file=account.token_file, mount=account.mount
        )
    if (pair := vault.certificate) is not None:
        return logins.CertificateLogin(
            certificate=pair.certificate, key=pair.key, role=pair.role, mount=pair.mount
        )
    raise InvariantViolation("a configuration has one login to Vault")


def _tls(config: NodeConfig) -> tuple[ServerContexts, ...]:
    """TLS of the listeners for certificates, and of the one for logins if there is one."""
    files, tls = _tls_files(config), config.tls
    by_certificate = ServerContexts(files, tls.key_exchange)
    login = config.listeners.login
    if login is None:
        return (by_certificate,)
    return by_certificate, ServerContexts(files, tls.key_exchange, login.client_certificate)


def _tls_files(config: NodeConfig) -> TLSFiles:
    tls = config.tls
    return TLSFiles(certificate=tls.certificate, key=tls.key, ca=tls.ca, crl=tls.crl)


def _broker_settings(config: NodeConfig) -> BrokerSettings:
    def advertised(listener: str, endpoint: Endpoint) -> Advertised:
        return Advertised(listener, endpoint.host, endpoint.port)

    policy = config.bootstrap.policy
    return BrokerSettings(
        domain=config.node.domain,
        host=config.node.host,
        rack=config.node.rack,
        endpoints=tuple(
            advertised("peer" if name == "peers" else name, listener.public)
            for name, listener in config.listeners.all.items()
        ),
        auto_create=config.topics.auto_create,
        default_partitions=config.topics.default_partitions,
        default_replication=config.topics.default_replication,
        first_policy=_first_policy(policy) if policy is not None and policy.exists() else None,
        joins=config.bootstrap.join,
        subscription=Subscription(config.telemetry.metrics, config.telemetry.interval_s),
        client_reports=ClientLog(),
    )


def _check_identity(config: NodeConfig, storage: NodeDirectory) -> None:
    """A directory of another node or cluster is never served under this one's name."""
    if (storage.cluster, storage.node) != (config.node.cluster, config.node.node_id):
        raise ConfigurationError(
            f"node.data: {config.node.data} belongs to node {storage.node} of cluster"
            f" {storage.cluster}; correct node.id, node.cluster or node.data"
        )


def _first_policy(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"bootstrap.policy: cannot read {path}: {error.strerror}"
        ) from None
    if len(text) > MAX_POLICY_BYTES:
        raise ConfigurationError(f"bootstrap.policy: {path} has over {MAX_POLICY_BYTES} bytes")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"bootstrap.policy: {path} is not UTF-8 text") from None
