"""The ways in which a node proves to Vault who it is: AppRole, Kubernetes, a TLS certificate.

Rules:
- credentials are read from their files at each login, so one that was renewed there is used;
- a secret id that comes response-wrapped is unwrapped once: (1) the wrapping token is looked up,
  and one that is spent is an alarm; (2) what made it must be a secret id of this very mount, so
  that nobody's own wrap passes for it; (3) it is unwrapped, and kept where a restart finds it: in a
  file system in memory, never on a disk;
- nothing is raised: a login comes to a `Grant` or a `Failure`. Every call here blocks.
"""

import os
import re
from pathlib import Path
from typing import assert_never

import msgspec

from appliance.keys.vault_calls import VaultClient
from appliance.keys.vault_failures import Failure
from appliance.keys.vault_login import Grant
from appliance.keys.vault_replies import LoginReply, LookupReply, SecretIdReply
from appliance.keys.vault_settings import (
    AppRoleLogin,
    CertificateLogin,
    KubernetesLogin,
    VaultLogin,
)

MAX_CREDENTIAL_BYTES = 16 * 1024
_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def log_in(client: VaultClient, login: VaultLogin) -> Grant | Failure:
    """Puts a fresh token in place."""
    match login:
        case AppRoleLogin():
            body = _app_role(client, login)
        case KubernetesLogin():
            token = _credential(login.token_file)
            body = Failure.LOGIN_UNREADABLE if token is None else _kubernetes(login, token)
        case CertificateLogin():
            body = {} if login.role is None else {"name": login.role}
        case _:
            assert_never(login)
    if isinstance(body, Failure):
        return body
    outcome = client.log_in(f"auth/{login.mount}/login", body, grant)
    if outcome is Failure.INVALID or outcome is Failure.MISSING:
        # A wrong secret id is answered with 400, an unknown mount with 404.
        return Failure.REFUSED
    return outcome


def renew(client: VaultClient) -> Grant | Failure:
    """More time for the token that is in place."""
    return client.write("auth/token/renew-self", {}, grant)


def grant(reply: object) -> Grant:
    """What a login or a renewal says of its token."""
    state = msgspec.convert(reply, LoginReply).auth
    return Grant(lease_duration=state.lease_duration, renewable=state.renewable)


def _kubernetes(login: KubernetesLogin, token: str) -> dict[str, object]:
    return {"role": login.role, "jwt": token}


def _app_role(client: VaultClient, login: AppRoleLogin) -> dict[str, object] | Failure:
    secret_id = _credential(login.secret_id_file)
    if secret_id is None and login.wrapping_token_file is not None:
        unwrapped = _unwrapped(client, login, login.wrapping_token_file)
        if isinstance(unwrapped, Failure):
            return unwrapped
        secret_id = unwrapped
    if secret_id is None:
        return Failure.LOGIN_UNREADABLE
    return {"role_id": login.role_id, "secret_id": secret_id}


def _unwrapped(client: VaultClient, login: AppRoleLogin, token_file: Path) -> str | Failure:
    """The secret id in a wrapping token, kept for the next start; steps 1 to 3."""
    if not in_memory(login.secret_id_file.parent):
        return Failure.NOT_IN_MEMORY
    token = _credential(token_file)
    if token is None:
        return Failure.LOGIN_UNREADABLE
    path = client.with_token("").write(
        "sys/wrapping/lookup",
        {"token": token},
        lambda reply: msgspec.convert(reply, LookupReply).data.creation_path,
    )
    if isinstance(path, Failure):
        return _spent(path)
    if not re.fullmatch(rf"auth/{re.escape(login.mount)}/role/[A-Za-z0-9_.-]+/secret-id", path):
        return Failure.WRAPPING_FOREIGN
    secret_id = client.with_token(token).write(
        "sys/wrapping/unwrap",
        {},
        lambda reply: msgspec.convert(reply, SecretIdReply).data.secret_id,
    )
    if isinstance(secret_id, Failure):
        return _spent(secret_id)
    return secret_id if _kept(login.secret_id_file, secret_id) else Failure.LOGIN_UNREADABLE


def _spent(failure: Failure) -> Failure:
    """Vault answers a token that it does not know any more with 400 or 403."""
    if failure in {Failure.INVALID, Failure.REFUSED, Failure.MISSING}:
        return Failure.WRAPPING_SPENT
    return failure


def _credential(path: Path) -> str | None:
    """The one line in a file; None when there is none to be had."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CREDENTIAL_BYTES).decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return text or None


def _kept(path: Path, secret_id: str) -> bool:
    """Whether the secret id lies in its file now: 0600 from its first byte, put there whole."""
    beside = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(secret_id.encode("ascii"))
        beside.replace(path)
    except OSError:
        return False
    return True


def in_memory(directory: Path) -> bool:
    """Whether a directory lies in a file system that keeps nothing on a disk of its own."""
    try:
        device = directory.stat().st_dev
        mounts = _MOUNTS.read_text()
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            return rest.split(" ", 1)[0] in _IN_MEMORY
    return False
