"""A node's configuration: what it may hold, and the relations between its settings.

Rules: the text of one TOML file comes in and a frozen value comes out; no file is opened here. What
is not known is refused, so a misspelt setting never means 'use the default'. A setting names files,
addresses and numbers, never code. Every listener speaks TLS: there is no setting that says
otherwise. Every refusal names the setting and what to do.
"""

import re
import tomllib
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance import limits
from appliance.errors import ConfigurationError
from appliance.types import ClusterId, KeyDomainId, NodeId

KeyExchange = Literal["preferred", "required"]
"""Whether a peer without X25519MLKEM768 is served with X25519, or refused."""

Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
MountName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", max_length=128)]
KeyPrefix = Annotated[str, Meta(pattern=r"^[a-z0-9-]{0,64}$")]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Number = Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]

_ENDPOINT = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})"
)
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # nosec B104 - compared with, not bound
_HTTPS = re.compile(r"https://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Root of all tables of the file."""


class Endpoint(Struct, frozen=True):
    """A host and a port, as sockets and clients take them."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, with the brackets that an IPv6 address needs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @staticmethod
    def parse(text: str) -> "Endpoint":
        """Reads `host:port` or `[address]:port`. Raises ValueError."""
        found = _ENDPOINT.fullmatch(text)
        if found is None or int(found["port"]) > 65_535:
            raise ValueError(f"{text!r} is not host:port with a port of 0 to 65535")
        return Endpoint(found["six"] or found["host"], int(found["port"]))


class NodeSettings(Section, frozen=True):
    """`[node]`: which node of which cluster this is, and where its data lies."""

    id: Number
    cluster: ClusterId
    data: Path
    host: Label = "host"
    """Replicas never share a host label where hosts suffice."""
    rack: Label = "rack"
    scrub_days: Annotated[float, Meta(ge=0.01, le=365)] = 7
    """In how many days every file is read once, to find damage early."""
    lock_memory: Literal["preferred", "required"] = "preferred"
    """Whether a node that cannot keep its memory out of swap says so, or does not start."""
    health_socket: Path | None = None
    """A Unix socket for /livez, /readyz and /metrics, which the node's user and root may open."""

    @property
    def node_id(self) -> NodeId:
        """The node's number as its own type."""
        return NodeId(self.id)

    @property
    def domain(self) -> KeyDomainId:
        """The cluster's own key domain, which carries the cluster's id."""
        return KeyDomainId(self.cluster)


class ListenerSettings(Section, frozen=True):
    """`[listeners.X]`: where to listen, and what clients are told to connect to."""

    bind: str
    advertised: str | None = None

    def __post_init__(self) -> None:
        """Refuses what is no endpoint; raises ValueError, which msgspec reports with its place."""
        bound = Endpoint.parse(self.bind)
        if bound.port == 0:
            raise ValueError("'bind' names no port: clients are told one, so give it")
        if self.advertised is None and bound.host in _EVERYWHERE:
            raise ValueError(f"'bind' is {bound.host}: say in 'advertised' where clients connect")
        if self.advertised is not None and Endpoint.parse(self.advertised).port == 0:
            raise ValueError("'advertised' names no port: clients connect to one, so give it")

    @property
    def bound(self) -> Endpoint:
        """The address to bind."""
        return Endpoint.parse(self.bind)

    @property
    def public(self) -> Endpoint:
        """The address that clients are told; the bound one unless the file says otherwise."""
        return Endpoint.parse(self.advertised or self.bind)


class OAuthSettings(Section, frozen=True):
    """`[listeners.login.oauth]`: whose tokens are believed. Nothing of it has a default."""

    issuer: Text
    audience: Text
    algorithms: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=16)]
    keys: Path | None = None
    """A JWK set in a file; `keys_url` and `keys_ca` fetch it over HTTPS instead."""
    keys_url: str | None = None
    keys_ca: Path | None = None
    principal_claim: Text = "sub"

    def __post_init__(self) -> None:
        """Checks that there is exactly one source of keys, and that it is a safe one."""
        if (self.keys is None) is (self.keys_url is None):
            raise ValueError("give either 'keys', a file, or 'keys_url' and 'keys_ca'")
        if self.keys_url is not None:
            if not self.keys_url.startswith("https://"):
                raise ValueError("'keys_url' begins with https://: keys decide who is let in")
            if self.keys_ca is None:
                raise ValueError("'keys_url' needs 'keys_ca', whose certificates it must show")


Mechanism = Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class LoginListenerSettings(ListenerSettings, frozen=True):
    """`[listeners.login]`: Kafka's protocol for clients that log in inside TLS.

    Every client of this listener logs in; `client_certificate` says whether it must have one too.
    """

    mechanisms: Annotated[tuple[Mechanism, ...], Meta(min_length=1)] = (
        "SCRAM-SHA-256",
        "SCRAM-SHA-512",
    )
    client_certificate: Literal["required", "optional"] = "required"
    max_session_s: Annotated[int, Meta(ge=0, le=86_400 * 30)] = 3600
    """A login lasts no longer, and is then renewed (KIP-368); 0 is without end."""
    oauth: OAuthSettings | None = None

    def __post_init__(self) -> None:
        """Checks that tokens are accepted by rules, and rules not without tokens."""
        super().__post_init__()
        if ("OAUTHBEARER" in self.mechanisms) is (self.oauth is None):
            raise ValueError("OAUTHBEARER among 'mechanisms' and the table 'oauth' go together")


class ListenersSettings(Section, frozen=True):
    """`[listeners]`: all speak TLS 1.3; who a peer is says its certificate, or its login.

    Without `peers` a node stays alone; with it, only certificates of nodes are let in there.
    """

    kafka: ListenerSettings
    native: ListenerSettings
    login: LoginListenerSettings | None = None
    peers: ListenerSettings | None = None

    @property
    def all(self) -> dict[str, ListenerSettings]:
        """The listeners that are there, by name."""
        given = {
            "kafka": self.kafka,
            "native": self.native,
            "login": self.login,
            "peers": self.peers,
        }
        return {name: listener for name, listener in given.items() if listener is not None}


class TLSSettings(Section, frozen=True):
    """`[tls]`: this node's certificate, and whose certificates it believes."""

    certificate: Path
    key: Path
    ca: Path
    trust_domain: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,254}$")]
    crl: Path | None = None
    key_exchange: KeyExchange = "preferred"


class AppRoleKeys(Section, frozen=True):
    """`[keys.vault.approle]`: a role id, and the secret id in a file."""

    role_id: Text
    secret_id_file: Path
    wrapping_token_file: Path | None = None
    """Holds a response-wrapping token instead; `secret_id_file` is then written, in memory."""
    mount: MountName = "approle"


class KubernetesKeys(Section, frozen=True):
    """`[keys.vault.kubernetes]`: the pod's service account."""

    role: Text
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    mount: MountName = "kubernetes"


class CertificateKeys(Section, frozen=True):
    """`[keys.vault.certificate]`: a TLS client certificate."""

    certificate: Path
    key: Path
    role: Text | None = None
    mount: MountName = "cert"


class VaultKeys(Section, frozen=True):
    """`[keys.vault]`: the Transit mount of Vault or OpenBao, and one way to log in to it."""

    address: str
    ca: Path
    approle: AppRoleKeys | None = None
    kubernetes: KubernetesKeys | None = None
    certificate: CertificateKeys | None = None
    transit_mount: MountName = "transit"
    key_prefix: KeyPrefix = "memorystreamer-"
    namespace: Text | None = None
    key_exchange: KeyExchange = "required"
    lease_s: Annotated[int, Meta(ge=60, le=7 * 86_400)] = 3600
    """How long the node goes on without Vault, and a revoked one at most."""
    spare_data_keys: Annotated[int, Meta(ge=0, le=4096)] = 64
    """Data keys held ahead for each key domain: so many logs can be made while Vault is away."""

    def __post_init__(self) -> None:
        """Refuses an address that would carry keys in the clear, and unclear logins."""
        if _HTTPS.fullmatch(self.address) is None:
            raise ValueError("'address' must be https://host:port, it carries data keys")
        logins = (self.approle, self.kubernetes, self.certificate)
        if sum(login is not None for login in logins) != 1:
            raise ValueError(
                "add one of the tables [keys.vault.approle], [keys.vault.kubernetes] and"
                " [keys.vault.certificate], and not two"
            )


class LocalKeys(Section, frozen=True):
    """`[keys.local]`: a keystore sealed by a passphrase, for one node without Vault."""

    keystore: Path
    passphrase_file: Path | None = None
    """Readable by this node only; `node run --passphrase-fd` takes its place."""


class KeySettings(Section, frozen=True):
    """`[keys]`: which provider keys come from, and the table of that provider."""

    provider: Literal["vault", "local"]
    vault: VaultKeys | None = None
    local: LocalKeys | None = None

    def __post_init__(self) -> None:
        """Checks that exactly the chosen provider's table is there."""
        chosen, other = (
            (self.vault, self.local) if self.provider == "vault" else (self.local, self.vault)
        )
        if chosen is None:
            raise ValueError(f"provider is '{self.provider}': add the table [keys.{self.provider}]")
        if other is not None:
            raise ValueError(f"provider is '{self.provider}': remove the other provider's table")


class TopicSettings(Section, frozen=True):
    """`[topics]`: what a topic gets that is created without saying."""

    auto_create: bool = False
    default_partitions: Annotated[int, Meta(ge=1, le=limits.MAX_PARTITIONS_PER_TOPIC)] = 1
    default_replication: Annotated[int, Meta(ge=1, le=limits.MAX_REPLICAS)] | None = None
    """As many as there are nodes, up to 3, unless it is given."""


class TelemetrySettings(Section, frozen=True):
    """`[telemetry]`: which metrics clients are asked for (KIP-714); none, unless it is said."""

    metrics: Annotated[
        tuple[Annotated[str, Meta(max_length=128, pattern=r"^[a-z0-9._]*$")], ...],
        Meta(max_length=limits.MAX_SUBSCRIBED_METRICS),
    ] = ()
    """Names, or how they begin; an empty one asks for all."""
    interval_s: Annotated[
        int, Meta(ge=limits.MIN_PUSH_INTERVAL_S, le=limits.MAX_PUSH_INTERVAL_S)
    ] = limits.DEFAULT_PUSH_INTERVAL_S


class ReplicationSettings(Section, frozen=True):
    """`[replication]`: what replicas may cost."""

    moves_mb_per_s: Annotated[int, Meta(ge=1, le=100_000)] = limits.DEFAULT_MOVES_MB_PER_S
    """MiB a second that this node sends to replicas that are yet to come."""


class BootstrapSettings(Section, frozen=True):
    """`[bootstrap]`: how this node came to its cluster; read when its directory is made.

    A cluster is created by one node, with its first `policy`; every other has `join = true` and
    waits until `memorystreamer cluster add` names it.
    """

    policy: Path | None = None
    join: bool = False

    def __post_init__(self) -> None:
        """Refuses what says both or neither."""
        if self.join == (self.policy is not None):
            raise ValueError(
                "give 'policy' on the node that creates the cluster, 'join = true' on all others"
            )


class NodeConfig(Section, frozen=True):
    """The whole file."""

    node: NodeSettings
    listeners: ListenersSettings
    tls: TLSSettings
    keys: KeySettings
    bootstrap: BootstrapSettings
    topics: TopicSettings = TopicSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    replication: ReplicationSettings = ReplicationSettings()

    def __post_init__(self) -> None:
        """Checks the relations between tables."""
        bound = [(name, each.bound) for name, each in self.listeners.all.items()]
        for (one, first), (other, second) in combinations(bound, 2):
            if first.port == second.port and _overlap(first.host, second.host):
                raise ValueError(
                    f"listeners.{one} and listeners.{other} both bind port {first.port}"
                )
        if self.bootstrap.join and self.listeners.peers is None:
            raise ValueError("a node that joins others needs the table [listeners.peers]")


def parse(text: str, *, base: Path) -> NodeConfig:
    """Reads a configuration; relative paths in it are relative to `base`.

    Raises:
        ConfigurationError: the text is no TOML, or a setting is missing, unknown or wrong; the
            message names it.
    """

    def decode_path(target: type, value: object) -> Path:
        if target is Path and isinstance(value, str) and value:
            return base / value
        raise ValueError("expected the path of a file")

    try:
        return msgspec.convert(tomllib.loads(text), type=NodeConfig, dec_hook=decode_path)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"the configuration is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigurationError(_explained(str(error))) from None


def _explained(message: str) -> str:
    """Turns msgspec's wording into the setting's name and what to do."""
    what, _, place = message.partition(" - at `$")
    table = place.rstrip("`").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", what)
    if unknown is not None:
        return f"{_joined(table, unknown[1])}: no such setting; remove it or correct its name"
    missing = re.fullmatch(r"Object missing required field `(.+)`", what)
    if missing is not None:
        return f"{_joined(table, missing[1])}: is missing; add it"
    return f"{table}: {what}; correct it" if table else f"{what}; correct it"


def _joined(table: str, setting: str) -> str:
    return f"{table}.{setting}" if table else setting


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _EVERYWHERE or other in _EVERYWHERE
