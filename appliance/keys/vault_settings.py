"""How one node reaches its Vault; importable without hvac, which takes a while to load.

Rules: every part of a URL is chosen here, by an operator, and checked here; nothing that was read
from a data directory ever becomes part of one (CVE-2025-27817 and CVE-2026-105941 are what happens
otherwise).
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


class VaultSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where Vault is, what it is trusted by, and who this node is to it.

    The secret id stays in its file, so that a restart can log in and no configuration holds it.
    Raises ConfigurationError, naming the setting.
    """

    address: str
    ca_file: Path
    role_id: str
    secret_id_file: Path
    cluster: ClusterId
    transit_mount: str = "transit"
    login_mount: str = "approle"
    key_prefix: str = "memorystreamer-"
    namespace: str | None = None
    key_exchange: Literal["preferred", "required"] = "required"

    def __post_init__(self) -> None:
        if not _ADDRESS.match(self.address):
            raise ConfigurationError(
                f"address {self.address!r} of Vault must be https://HOST or https://HOST:PORT"
            )
        for setting, value in (
            ("transit_mount", self.transit_mount),
            ("login_mount", self.login_mount),
            ("namespace", self.namespace or "none"),
        ):
            if not _MOUNT.match(value):
                raise ConfigurationError(
                    f"{setting} {value!r} must be a path of letters, digits, '_' and '-'"
                )
        if not _PREFIX.match(self.key_prefix):
            raise ConfigurationError(
                f"key_prefix {self.key_prefix!r} must be lower-case letters, digits and '-'"
            )

    def key_name(self, domain: KeyDomainId) -> str:
        """The name of a domain's key: the prefix and the UUID in its one canonical form."""
        return f"{self.key_prefix}{domain}"
