"""What the configuration says, in the words of the parts that it is said to."""

from pathlib import Path

from appliance.broker.settings import BrokerSettings
from appliance.broker.telemetry import Subscription
from appliance.config import Endpoint, NodeConfig
from appliance.coordination.commands import Endpoint as Advertised
from appliance.errors import ConfigurationError
from appliance.limits import MAX_POLICY_BYTES
from appliance.observe.clients import ClientLog
from appliance.server.tls import ServerContexts, TLSFiles


def server_contexts(config: NodeConfig) -> tuple[ServerContexts, ...]:
    """TLS of the listeners for certificates, and of the one for logins if there is one."""
    files, tls = tls_files(config), config.tls
    by_certificate = ServerContexts(files, tls.key_exchange)
    login = config.listeners.login
    if login is None:
        return (by_certificate,)
    return by_certificate, ServerContexts(files, tls.key_exchange, login.client_certificate)


def tls_files(config: NodeConfig) -> TLSFiles:
    """The certificate that this node shows, and whom it trusts."""
    tls = config.tls
    return TLSFiles(certificate=tls.certificate, key=tls.key, ca=tls.ca, crl=tls.crl)


def broker_settings(config: NodeConfig) -> BrokerSettings:
    """What the broker is told. Raises ConfigurationError when the first policy cannot be read."""

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
        first_policy=first_policy(policy) if policy is not None and policy.exists() else None,
        joins=config.bootstrap.join,
        subscription=Subscription(config.telemetry.metrics, config.telemetry.interval_s),
        client_reports=ClientLog(),
        moves_bytes_per_s=config.replication.moves_mb_per_s << 20,
    )


def first_policy(path: Path) -> str:
    """The text that a new cluster begins with. Raises ConfigurationError."""
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
