"""How one node reaches its Vault; importable without hvac, which takes a while to load.

Rules: every part of a URL is chosen here, by an operator, and checked here; nothing that was read
from a data directory ever becomes part of one (CVE-2025-27817 and CVE-2026-105941 are what happens
otherwise). A login names files that hold credentials, never a credential itself.
"""

import re
from pathlib import Path
from typing import Literal

import msgspec

from appliance.errors import ConfigurationError
from appliance.types import ClusterId, KeyDomainId

_ADDRESS = re.compile(r"https://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?\Z")
_MOUNT = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*\Z")
_PREFIX = re.compile(r"[a-z0-9-]{0,64}\Z")

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def _check_mount(setting: str, value: str) -> None:
    if not _MOUNT.match(value):
        raise ConfigurationError(
            f"{setting} {value!r} must be a path of letters, digits, '_' and '-'"
        )


class AppRoleLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A role id, and a secret id in a file, so that a restart can log in.

    With `wrapping_token_file`, the secret id is unwrapped once from the response-wrapping token in
    that file and kept in `secret_id_file`, which then has to lie in a file system in memory.
    """

    role_id: str
    secret_id_file: Path
    wrapping_token_file: Path | None = None
    mount: str = "approle"

    def __post_init__(self) -> None:
        _check_mount("mount", self.mount)


class KubernetesLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A role, and the pod's service account token, read anew at each login: they are rotated."""

    role: str
    token_file: Path = SERVICE_ACCOUNT_TOKEN
    mount: str = "kubernetes"

    def __post_init__(self) -> None:
        _check_mount("mount", self.mount)


class CertificateLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A client certificate and its key; `role` narrows it to one of Vault's entries."""

    certificate: Path
    key: Path
    role: str | None = None
    mount: str = "cert"

    def __post_init__(self) -> None:
        _check_mount("mount", self.mount)


VaultLogin = AppRoleLogin | KubernetesLogin | CertificateLogin


class VaultServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where Vault is, what it is trusted by, and where a cluster's keys are in it.

    Raises ConfigurationError, naming the setting.
    """

    address: str
    ca_file: Path
    cluster: ClusterId
    transit_mount: str = "transit"
    key_prefix: str = "memorystreamer-"
    namespace: str | None = None
    key_exchange: Literal["preferred", "required"] = "required"

    def __post_init__(self) -> None:
        if not _ADDRESS.match(self.address):
            raise ConfigurationError(
                f"address {self.address!r} of Vault must be https://HOST or https://HOST:PORT"
            )
        _check_mount("transit_mount", self.transit_mount)
        _check_mount("namespace", self.namespace or "none")
        if not _PREFIX.match(self.key_prefix):
            raise ConfigurationError(
                f"key_prefix {self.key_prefix!r} must be lower-case letters, digits and '-'"
            )

    def key_name(self, domain: KeyDomainId) -> str:
        """The name of a domain's key: the prefix and the UUID in its one canonical form."""
        return f"{self.key_prefix}{domain}"


class VaultSettings(VaultServer, frozen=True, kw_only=True):
    """A Vault, and who this node is to it."""

    login: VaultLogin
