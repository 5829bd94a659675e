"""The composition root: the only module that knows concrete classes.

A node's life: (1) dumps are forbidden and TLS files read; (2) keys are reached, and while they are
away or sealed the node says so and waits, listening to nobody; (3) its directory and its broker are
opened; (4) both listeners serve, and `ready` is said; (5) on SIGTERM or SIGINT they finish what was
accepted, logs and journals end in stop frames, and the process exits with 0. SIGHUP reads the TLS
files again.
"""

import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

import structlog
import trio
from msgspec import Struct

from appliance import config as configuration
from appliance.audit.sink import AuditLog
from appliance.authn.mtls import CertificatePrincipals
from appliance.authz.enforcer import check
from appliance.authz.gate import Gate
from appliance.broker.dispatch import Dispatcher
from appliance.broker.node import BrokerNode, BrokerSettings
from appliance.config import Endpoint, NodeConfig, VaultKeys
from appliance.coordination.commands import Endpoint as Advertised
from appliance.errors import ApplianceError, ConfigurationError, KeysUnavailable
from appliance.invariant import InvariantViolation
from appliance.limits import MAX_POLICY_BYTES
from appliance.observe import log as logs
from appliance.observe.system import SystemClock, SystemEntropy
from appliance.ports import KeyProvider
from appliance.server.budget import Budgets
from appliance.server.dialects import KafkaDialect, NativeDialect
from appliance.server.listener import Listener
from appliance.server.sandbox import forbid_dumps
from appliance.server.tls import ServerContexts, TLSFiles
from appliance.storage.node import NodeDirectory
from appliance.types import ClusterId, PartitionId
from appliance.wire.kafka.batch import stamp

AUDIT_JOURNAL: Final = PartitionId(UUID("00000000-0000-8000-8000-000000000003"))
"""A fixed id of version 8 (RFC 9562), which no random id can be."""

MAX_CONFIGURATION_BYTES: Final = 256 * 1024
MAX_PASSPHRASE_BYTES: Final = 1024
RETRY_S: Final = 1.0
"""Between attempts to reach the keys."""
REMIND_AFTER: Final = 60
"""Attempts between two lines in the log that say the same."""
STOP_S: Final = 4.0
"""What is not finished by then, of the five seconds that a stop may take, is cut off."""
CLOSE_S: Final = 3.0
FAULT: Final = 70
"""Exit code after a fault of this program (EX_SOFTWARE)."""

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class Prepared(Struct, frozen=True):
    """What a node is started with."""

    config: NodeConfig
    passphrase: bytes | None


def prepare(path: Path, passphrase_fd: int | None, log_level: str) -> Prepared:
    """Sets up logging and reads the configuration and, for a local keystore, the passphrase.

    Raises ConfigurationError.
    """
    if log_level not in logs.LEVELS:
        raise ConfigurationError(f"--log-level: choose one of {', '.join(logs.LEVELS)}")
    logs.configure(log_level)
    forbid_dumps()
    text = _text(path, MAX_CONFIGURATION_BYTES, "--config")
    config = configuration.parse(text, base=path.absolute().parent)
    return Prepared(config, _passphrase(config, passphrase_fd))


def create(prepared: Prepared) -> None:
    """Makes the node's data directory, and so the cluster. Raises ApplianceError."""
    check(_first_policy(prepared.config))
    trio.run(_create, prepared)


def run(prepared: Prepared, *, announce: Callable[[str], None]) -> None:
    """Runs the node until SIGTERM or SIGINT; calls `announce` with one line when it serves.

    Raises ApplianceError when the node cannot start or go on. A fault of this program is logged
    without the values it happened to, and ends the process with code FAULT.
    """
    try:
        trio.run(_run, prepared, announce)
    except ApplianceError:
        raise
    except Exception as error:
        if isinstance(error, ExceptionGroup) and error.split(ApplianceError)[1] is None:
            raise
        _log.error("the node ends after a fault of its own", exc_info=error)
        raise SystemExit(FAULT) from None


class _Control:
    """What signals do, which depends on how far the node has come."""

    def __init__(self) -> None:
        self.life = trio.CancelScope()
        self.stopping = trio.Event()
        self.contexts: ServerContexts | None = None
        self.serving = False

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

    def _reload(self) -> None:
        if self.contexts is None:
            return
        try:
            self.contexts.reload()
        except ConfigurationError as error:
            _log.error("reload failed, what was in force stays", reason=str(error))
        else:
            _log.info("certificates and revocation list read again")


async def _create(prepared: Prepared) -> None:
    config = prepared.config
    config.node.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with trio.open_nursery() as nursery:
        directory = await NodeDirectory.create(
            config.node.data,
            cluster=config.node.cluster,
            node=config.node.node_id,
            domain=config.node.domain,
            keys=await _keys(prepared, nursery),
            entropy=SystemEntropy(),
            stamp=stamp,
        )
        await directory.close()
        nursery.cancel_scope.cancel()


async def _run(prepared: Prepared, announce: Callable[[str], None]) -> None:
    control = _Control()
    control.contexts = _tls(prepared.config)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.listen, signals)
            with control.life:
                keys = await _keys(prepared, nursery)
                attempt = 0
                while not await _served(prepared.config, keys, control, announce, attempt):
                    attempt += 1
                    await trio.sleep(RETRY_S)
            nursery.cancel_scope.cancel()
    _log.info("stopped")


async def _served(
    config: NodeConfig,
    keys: KeyProvider,
    control: _Control,
    announce: Callable[[str], None],
    attempt: int,
) -> bool:
    """Opens and serves; False when the keys were not to be had and nothing was served."""
    served = True
    try:
        await _open_and_serve(config, keys, control, announce)
    except* KeysUnavailable as group:
        if control.serving:
            raise
        served = False
        if attempt % REMIND_AFTER == 0:
            reasons = sorted({str(error) for error in group.exceptions})
            _log.warning("waiting sealed: no keys, nothing is served", reasons=reasons)
    return served


async def _open_and_serve(
    config: NodeConfig, keys: KeyProvider, control: _Control, announce: Callable[[str], None]
) -> None:
    """Steps 3 to 5."""
    clock, entropy = SystemClock(), SystemEntropy()
    storage = await NodeDirectory.open(config.node.data, keys=keys, entropy=entropy, stamp=stamp)
    try:
        _check_identity(config, storage)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.run)
            broker = await BrokerNode.open(
                _broker_settings(config),
                storage=storage,
                clock=clock,
                entropy=entropy,
                nursery=nursery,
            )
            try:
                journal = await storage.open_journal(AUDIT_JOURNAL)
                audit = AuditLog(journal, clock)
                await audit.start()
                gate = Gate(broker.policies, broker.topic_names, clock)
                await _listen(config, broker.dispatcher(gate, audit), control, announce)
            finally:
                with trio.move_on_after(CLOSE_S, shield=True):
                    await broker.close()
            await journal.close()
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await storage.close()


async def _listen(
    config: NodeConfig, dispatcher: Dispatcher, control: _Control, announce: Callable[[str], None]
) -> None:
    """Serves both listeners until a signal says stop, then until their connections have ended."""
    contexts = control.contexts or _tls(config)
    authenticate = CertificatePrincipals(config.tls.trust_domain, allow_nodes=False).principal
    budgets = Budgets()
    kafka = Listener(
        "kafka", KafkaDialect(), dispatcher, authenticate, contexts=contexts, budgets=budgets
    )
    native = Listener(
        "native", NativeDialect(), dispatcher, authenticate, contexts=contexts, budgets=budgets
    )
    settings = config.listeners
    await kafka.bind(settings.kafka.bound.host, settings.kafka.bound.port)
    await native.bind(settings.native.bound.host, settings.native.bound.port)
    async with trio.open_nursery() as nursery:
        await nursery.start(kafka.serve)
        await nursery.start(native.serve)
        gc.collect()
        gc.freeze()
        control.serving = True
        _log.info("serving", kafka=settings.kafka.bind, native=settings.native.bind)
        announce(f"ready kafka={settings.kafka.public} native={settings.native.public}")
        await control.stopping.wait()
        kafka.stop()
        native.stop()


async def _keys(prepared: Prepared, nursery: trio.Nursery) -> KeyProvider:
    """Step 2: the provider, with its leases renewed in `nursery`.

    Only the chosen provider's libraries are loaded: they are a good part of idle memory.
    """
    keys = prepared.config.keys
    if keys.vault is not None:
        return _vault(keys.vault, prepared.config.node.cluster)
    if keys.local is not None:
        from appliance.keys.local import LocalKeystore  # noqa: PLC0415 - see above

        path, passphrase = keys.local.keystore, prepared.passphrase or b""
        return await trio.to_thread.run_sync(LocalKeystore.open, path, passphrase)
    raise InvariantViolation("a configuration has the table of its provider")


def _vault(vault: VaultKeys, cluster: ClusterId) -> KeyProvider:
    from appliance.keys.vault import VaultProvider  # noqa: PLC0415 - see `_keys`
    from appliance.keys.vault_settings import VaultSettings  # noqa: PLC0415 - see `_keys`

    settings = VaultSettings(
        address=vault.address,
        ca_file=vault.ca,
        role_id=vault.role_id,
        secret_id_file=vault.secret_id_file,
        cluster=cluster,
        transit_mount=vault.transit_mount,
        login_mount=vault.login_mount,
        key_prefix=vault.key_prefix,
        namespace=vault.namespace,
        key_exchange=vault.key_exchange,
    )
    return VaultProvider(settings, SystemClock())


def _tls(config: NodeConfig) -> ServerContexts:
    tls = config.tls
    files = TLSFiles(certificate=tls.certificate, key=tls.key, ca=tls.ca, crl=tls.crl)
    return ServerContexts(files, tls.key_exchange)


def _broker_settings(config: NodeConfig) -> BrokerSettings:
    def advertised(listener: str, endpoint: Endpoint) -> Advertised:
        return Advertised(listener, endpoint.host, endpoint.port)

    return BrokerSettings(
        domain=config.node.domain,
        host=config.node.host,
        rack=config.node.rack,
        endpoints=(
            advertised("kafka", config.listeners.kafka.public),
            advertised("native", config.listeners.native.public),
        ),
        auto_create=config.topics.auto_create,
        default_partitions=config.topics.default_partitions,
        first_policy=_first_policy(config) if config.bootstrap.policy.exists() else None,
    )


def _check_identity(config: NodeConfig, storage: NodeDirectory) -> None:
    """A directory of another node or cluster is never served under this one's name."""
    if (storage.cluster, storage.node) != (config.node.cluster, config.node.node_id):
        raise ConfigurationError(
            f"node.data: {config.node.data} belongs to node {storage.node} of cluster"
            f" {storage.cluster}; correct node.id, node.cluster or node.data"
        )


def _first_policy(config: NodeConfig) -> str:
    return _text(config.bootstrap.policy, MAX_POLICY_BYTES, "bootstrap.policy")


def _text(path: Path, max_bytes: int, setting: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ConfigurationError(f"{setting}: {path} is larger than {max_bytes} bytes")
        return content.decode()
    except OSError as error:
        raise ConfigurationError(f"{setting}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{setting}: {path} is not UTF-8 text") from None


def _passphrase(config: NodeConfig, descriptor: int | None) -> bytes | None:
    """From the descriptor, or the file that the configuration names; never from arguments."""
    if config.keys.local is None:
        return None
    file = config.keys.local.passphrase_file
    try:
        with _opened_passphrase(descriptor, file) as stream:
            given = stream.readline(MAX_PASSPHRASE_BYTES + 2).rstrip(b"\r\n")
    except OSError as error:
        raise ConfigurationError(
            f"keys.local: the passphrase cannot be read: {os.strerror(error.errno or 0)}"
        ) from None
    if not 1 <= len(given) <= MAX_PASSPHRASE_BYTES:
        raise ConfigurationError(f"keys.local: a passphrase has 1 to {MAX_PASSPHRASE_BYTES} bytes")
    return given


def _opened_passphrase(descriptor: int | None, file: Path | None) -> BinaryIO:
    if descriptor is not None:
        return os.fdopen(descriptor, "rb")
    if file is not None:
        return file.open("rb")
    raise ConfigurationError(
        "keys.local: no passphrase; set keys.local.passphrase_file or give --passphrase-fd"
    )
