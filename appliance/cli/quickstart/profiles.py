"""What clients need to connect: librdkafka property files, and profiles for our own commands.

Both are written anew at each start from the paths and ports of that start, so a DIR that was moved
works; certificates are issued once. Property files hold absolute paths, because kcat takes relative
ones from where it is started.
"""

from collections.abc import Sequence
from pathlib import Path

from certs_tooling.authority import Authority

from appliance.cli.quickstart.layout import Layout, replace
from appliance.client import profile
from appliance.config import Endpoint, VaultKeys
from appliance.types import ClusterId

USERS = ("admin", "producer", "consumer", "nobody")
"""`nobody` is authenticated and granted nothing."""


def write_all(
    layout: Layout, authority: Authority, kafka: Sequence[Endpoint], native: Sequence[Endpoint]
) -> None:
    """Issues the certificates that are missing and writes every profile."""
    ca = layout.client / "ca.pem"
    replace(ca, authority.certificate_file.read_bytes())
    for user in USERS:
        certificate, key = layout.client / f"{user}.pem", layout.client / f"{user}.key"
        if not (certificate.exists() and key.exists()):
            authority.issue_client(user).save(certificate=certificate, key=key)
        replace(
            layout.client / f"{user}.properties",
            properties(user, kafka, ca=ca, certificate=certificate, key=key),
        )
        ours = profile.Profile(
            bootstrap=tuple(profile.Address(each.host, each.port) for each in native),
            certificate=Path(certificate.name),
            key=Path(key.name),
            ca=Path(ca.name),
        )
        replace(layout.client / f"{user}.toml", profile.render(ours))


def write_custodian(layout: Layout, cluster: ClusterId, vault: VaultKeys) -> None:
    """Writes where a key-custodian reaches Vault; the token itself stays in its own file."""
    text = (
        "# written by `memorystreamer quickstart` at each start; the token for trying out is in\n"
        f"# {layout.openbao / 'custodian.token'}\n"
        f'address = "{vault.address}"\n'
        'ca = "ca.pem"\n'
        f'cluster = "{cluster}"\n'
        f'transit_mount = "{vault.transit_mount}"\n'
        f'key_prefix = "{vault.key_prefix}"\n'
        f'key_exchange = "{vault.key_exchange}"\n'
    )
    replace(layout.client / "custodian.toml", text)


def properties(
    user: str, kafka: Sequence[Endpoint], *, ca: Path, certificate: Path, key: Path
) -> str:
    """A librdkafka property file; kcat takes it with -F, confluent-kafka line by line."""
    settings = {
        "bootstrap.servers": ",".join(map(str, kafka)),
        "security.protocol": "ssl",
        "ssl.ca.location": str(ca),
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
        "ssl.endpoint.identification.algorithm": "https",
    }
    if user in {"consumer", "admin"}:
        settings["auto.offset.reset"] = "earliest"
    lines = [
        f"# {user}: written by `memorystreamer quickstart` at each start; copy it to change it"
    ]
    lines += [f"{name}={value}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"
