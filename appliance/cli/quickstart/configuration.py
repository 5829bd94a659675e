"""The node configuration and the policy that the quickstart writes, once.

What is there is kept: it may have been edited. Ports given on the command line, and the address of
the OpenBao that this start runs, win over the file's, by rewriting their lines only.
"""

import re
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance import config
from appliance.authz.baseline import baseline_text
from appliance.cli.quickstart.layout import Layout, NodeFolder, replace
from appliance.types import ClusterId

HOST = "127.0.0.1"
FOUNDER = 1
"""The node that creates the cluster; the others join it."""
DEFAULT_KAFKA_PORT = 9093
DEFAULT_NATIVE_PORT = 9193
DEFAULT_PEER_PORT = 9293


class Ports(Struct, frozen=True):
    """The ports that were asked for; None where the command line did not say."""

    kafka: int | None
    native: int | None
    peers: int | None = None

    def of(self, node: int) -> "Ports":
        """A node's own: those of the first, and one more for each node after it."""
        return Ports(*(None if port is None else port + node - 1 for port in self._all))

    def defaulted(self, node: int) -> "Ports":
        """The same with the usual ones where nothing was said."""
        usual = (DEFAULT_KAFKA_PORT, DEFAULT_NATIVE_PORT, DEFAULT_PEER_PORT)
        return Ports(
            *(
                default + node - 1 if port is None else port
                for port, default in zip(self._all, usual, strict=True)
            )
        )

    @property
    def _all(self) -> tuple[int | None, int | None, int | None]:
        return self.kafka, self.native, self.peers


class Wanted(Struct, frozen=True):
    """What a node's configuration must say at this start."""

    cluster: ClusterId
    ports: Ports
    trust_domain: str
    provider: str
    keys: dict[str, str]
    login: dict[str, str] = {}
    with_peers: bool = False
    """Whether there are other nodes."""


def stored(node: NodeFolder) -> config.NodeConfig | None:
    """The node's configuration as an earlier start left it."""
    if not node.config.exists():
        return None
    return config.parse(node.config.read_text(), base=node.root)


def write(layout: Layout, node: NodeFolder, wanted: Wanted) -> config.NodeConfig:
    """Writes what is missing and returns the configuration that the node will run with."""
    if not layout.policy.exists():
        replace(layout.policy, baseline_text())
    text = node.config.read_text() if node.config.exists() else _rendered(layout, node, wanted)
    if wanted.with_peers and "[listeners.peers]" not in text:
        peers = wanted.ports.defaulted(node.id).peers
        text += f'\n[listeners.peers]\nbind = "{HOST}:{peers}"\n'
    given = wanted.ports
    for name, port in (("kafka", given.kafka), ("native", given.native), ("peers", given.peers)):
        if port is not None:
            text = _changed(text, f"listeners.{name}", "bind", f"{HOST}:{port}")
    if "address" in wanted.keys:
        text = _changed(text, "keys.vault", "address", wanted.keys["address"])
    replace(node.config, text)
    return config.parse(text, base=node.root)


def _changed(text: str, table: str, setting: str, value: str) -> str:
    """The text with one string setting of one table changed, and every other byte kept."""
    pattern = rf"""(?m)^(\[{re.escape(table)}\]\n(?:[^\[\n].*\n)*?{setting} = )"[^"\n]*"$"""
    return re.sub(pattern, lambda found: found[1] + _value(value), text)


def _rendered(layout: Layout, node: NodeFolder, wanted: Wanted) -> str:
    authority = Path("../../certs/ca")
    ports = wanted.ports.defaulted(node.id)
    founds = node.id == FOUNDER
    tables: dict[str, dict[str, str | int | bool]] = {
        "node": {
            "id": node.id,
            "cluster": str(wanted.cluster),
            "data": node.data.name,
            "host": f"node-{node.id}",
            "rack": "local",
        },
        "listeners.kafka": {"bind": f"{HOST}:{ports.kafka}"},
        "listeners.native": {"bind": f"{HOST}:{ports.native}"},
        **({"listeners.peers": {"bind": f"{HOST}:{ports.peers}"}} if wanted.with_peers else {}),
        "tls": {
            "certificate": node.certificate.name,
            "key": node.key.name,
            "ca": str(authority / "ca.pem"),
            "crl": str(authority / "crl.pem"),
            "trust_domain": wanted.trust_domain,
        },
        "keys": {"provider": wanted.provider},
        f"keys.{wanted.provider}": dict(wanted.keys),
        **({"keys.vault.approle": dict(wanted.login)} if wanted.login else {}),
        "topics": {"auto_create": True},
        "bootstrap": (
            {"policy": str(Path("../..") / layout.policy.name)} if founds else {"join": True}
        ),
    }
    lines = ["# Written once by `memorystreamer quickstart`; edits are kept."]
    for table, settings in tables.items():
        lines += ["", f"[{table}]"]
        lines += [f"{name} = {_value(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _value(value: str | float | bool) -> str:
    """A TOML value: JSON's strings, numbers and booleans are TOML's too."""
    return msgspec.json.encode(value).decode()
