"""Setting up an OpenBao: initialise, unseal, and grant nodes exactly what DESIGN section 6 names.

Rules: the root token exists in memory only, is used once, and is revoked even when a step fails;
every step may be repeated, so a set-up that was cut short is finished by the next start; what must
outlive a restart (unseal key, role ids, secret ids) is written 0600. Blocking: run in a thread.
"""

import base64
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import requests
from certs_tooling import files

from appliance.errors import ConfigurationError
from appliance.types import NodeId

TOKEN_TTL_S = 3600
_TIMEOUT_S = (2.0, 20.0)
_LOCAL_ONLY = ["127.0.0.1/32"]

NODE_POLICY = """
path "transit/keys/+" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = { "derived" = [true, "true"] }
  required_parameters = ["derived"]
}
path "transit/datakey/plaintext/+" { capabilities = ["update"] }
path "transit/decrypt/+" { capabilities = ["update"] }
path "transit/rewrap/+" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
"""
"""What a node may do, and nothing else: no export, configuration, rotation, deletion, no listing.

OpenBao takes the making of a key for an update, because Transit cannot say whether one exists;
`update` of one that does exist changes nothing, as its settings have a path of their own.
Required parameters bind reading too, so a read carries `derived=true` as text in its query.
"""


CUSTODIAN_POLICY = """
path "transit/keys/+" { capabilities = ["read", "delete"] }
path "transit/keys/+/rotate" { capabilities = ["update"] }
path "transit/keys/+/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "deletion_allowed" = []
  }
}
path "auth/token/revoke-self" { capabilities = ["update"] }
"""
"""What a custodian's short-lived token may do: rotate, retire and delete keys, and open none."""

CUSTODIAN_TTL = "24h"


class UnsealMaterial(msgspec.Struct, frozen=True):
    """What unseals this OpenBao; whoever reads it can read every key."""

    unseal_key: str


class RoleFile(msgspec.Struct, frozen=True):
    """The public half of a node's login; the secret id is in a file of its own."""

    role_id: str


class _InitReply(msgspec.Struct):
    keys_base64: list[str]
    root_token: str


class _RootAttempt(msgspec.Struct):
    nonce: str
    otp: str


class _RootReply(msgspec.Struct):
    encoded_token: str = ""


class _RoleId(msgspec.Struct):
    role_id: str


class _SecretId(msgspec.Struct):
    secret_id: str


class _Token(msgspec.Struct):
    client_token: str


class _Auth(msgspec.Struct):
    auth: _Token


class _Mount(msgspec.Struct):
    type: str


Reply = TypeVar("Reply")


class _Data(msgspec.Struct, Generic[Reply]):
    """What OpenBao wraps its answers in."""

    data: Reply


class OpenBaoAPI:
    """The administrative calls, on a session that trusts one authority."""

    def __init__(self, address: str, session: requests.Session) -> None:
        """Takes the session over; `close` closes it."""
        self._address = address
        self._session = session

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def health(self) -> int | None:
        """The status of sys/health (200 serving, 501 new, 503 sealed), None if unreachable."""
        try:
            return self._session.get(
                f"{self._address}/v1/sys/health", timeout=_TIMEOUT_S, allow_redirects=False
            ).status_code
        except requests.RequestException:
            return None

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, object] | None = None,
        token: str | None = None,
    ) -> bytes:
        """One call; the reply's body.

        Raises ConfigurationError naming path and status, and never the reply.
        """
        headers = {"X-Vault-Token": token} if token else {}
        status = None
        content = b""
        try:
            reply = self._session.request(
                method,
                f"{self._address}/v1/{path}",
                json=body,
                headers=headers,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
            )
            status, content = reply.status_code, reply.content
        except requests.RequestException:
            pass
        if status is None:
            raise ConfigurationError(f"OpenBao at {self._address} does not answer; see its log")
        if status >= 300:
            raise ConfigurationError(f"OpenBao refused {method} {path} with status {status}")
        return content

    def initialise(self, material: Path) -> str:
        """Initialises a new OpenBao, keeps its unseal key, returns its root token."""
        shares: dict[str, object] = dict.fromkeys(("secret_shares", "secret_threshold"), 1)
        content = self.call("PUT", "sys/init", shares)
        reply = msgspec.json.decode(content, type=_InitReply)
        files.replace(material, msgspec.json.encode(UnsealMaterial(reply.keys_base64[0])))
        return reply.root_token

    def unseal(self, material: UnsealMaterial) -> None:
        """Unseals; serving follows within a moment."""
        self.call("PUT", "sys/unseal", {"key": material.unseal_key})

    def generate_root(self, material: UnsealMaterial) -> str:
        """A root token for one more set-up, made from the unseal key; to be revoked after it."""
        self.call("DELETE", "sys/generate-root/attempt")
        attempt = msgspec.json.decode(
            self.call("PUT", "sys/generate-root/attempt", {}), type=_RootAttempt
        )
        body: dict[str, object] = {"key": material.unseal_key, "nonce": attempt.nonce}
        reply = msgspec.json.decode(
            self.call("PUT", "sys/generate-root/update", body), type=_RootReply
        )
        encoded = base64.b64decode(reply.encoded_token + "=" * (-len(reply.encoded_token) % 4))
        return bytes(
            one ^ other for one, other in zip(encoded, attempt.otp.encode(), strict=True)
        ).decode()

    def revoke(self, token: str) -> None:
        """Ends a token."""
        self.call("POST", "auth/token/revoke-self", {}, token)

    def prepare(self, token: str) -> None:
        """Transit, AppRole and the nodes' policy, each only if missing or different."""
        if "transit/" not in self._mounts("sys/mounts", token):
            self.call("POST", "sys/mounts/transit", {"type": "transit"}, token)
        self.call("POST", "transit/config/keys", {"disable_upsert": True}, token)
        if "approle/" not in self._mounts("sys/auth", token):
            self.call("POST", "sys/auth/approle", {"type": "approle"}, token)
        self._set_policy("memorystreamer-node", NODE_POLICY, token)
        self._set_policy("memorystreamer-custodian", CUSTODIAN_POLICY, token)

    def issue_custodian_token(self, token: str, file: Path) -> None:
        """A token for trying rotation and shredding out; it ends by itself, before long."""
        made = self.call(
            "POST",
            "auth/token/create-orphan",
            {
                "policies": ["memorystreamer-custodian"],
                "no_default_policy": True,
                "explicit_max_ttl": CUSTODIAN_TTL,
                "ttl": CUSTODIAN_TTL,
            },
            token,
        )
        held = msgspec.json.decode(made, type=_Auth).auth.client_token
        files.replace(file, held.encode())

    def admit_node(self, token: str, node: NodeId, role: Path, secret_id: Path) -> None:
        """An AppRole for one node, from this machine only; the secret id is written first."""
        name = f"auth/approle/role/memorystreamer-node-{node}"
        self.call(
            "POST",
            name,
            {
                "token_policies": ["memorystreamer-node"],
                "token_no_default_policy": True,  # nosec B105 - no secret
                "token_ttl": TOKEN_TTL_S,
                "token_bound_cidrs": _LOCAL_ONLY,
                "secret_id_bound_cidrs": _LOCAL_ONLY,
            },
            token,
        )
        made = self.call("POST", f"{name}/secret-id", {}, token)
        secret = msgspec.json.decode(made, type=_Data[_SecretId]).data.secret_id
        files.replace(secret_id, secret.encode())
        held = self.call("GET", f"{name}/role-id", token=token)
        role_id = msgspec.json.decode(held, type=_Data[_RoleId]).data.role_id
        files.replace(role, msgspec.json.encode(RoleFile(role_id)))

    def _set_policy(self, name: str, policy: str, token: str) -> None:
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy}, token)

    def _mounts(self, path: str, token: str) -> dict[str, _Mount]:
        held = self.call("GET", path, token=token)
        return msgspec.json.decode(held, type=_Data[dict[str, _Mount]]).data
