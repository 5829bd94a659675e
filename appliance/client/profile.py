"""Profiles: how our own commands find a cluster and prove who they are.

A profile is a TOML file that the quickstart leaves at `DIR/client/NAME.toml`:

    bootstrap = ["127.0.0.1:9193"]
    certificate = "producer.pem"
    key = "producer.key"
    ca = "ca.pem"
    key_exchange = "preferred"

Relative paths are taken from the folder that holds the profile, so a folder of profiles can be
moved as a whole. A profile holds no secret itself: it names the files that do.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import ConfigurationError

ENVIRONMENT_VARIABLE = "MEMORYSTREAMER_PROFILE"

MAX_PROFILE_BYTES = 64 * 1024
MAX_BOOTSTRAP_ADDRESSES = 64

KeyExchange = Literal["preferred", "required"]


class Address(msgspec.Struct, frozen=True):
    """A host, by name or number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, with brackets around the colons of an IPv6 host."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads `host:port` or `[v6]:port`; raises ConfigurationError naming the text."""
        host, colon, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigurationError(f"{text!r} is not an address: write host:port")
        return cls(host, int(port))


class Profile(msgspec.Struct, frozen=True):
    """A cluster's addresses on its native listeners, and the caller's credentials."""

    bootstrap: tuple[Address, ...]
    certificate: Path
    key: Path
    ca: Path
    key_exchange: KeyExchange = "preferred"


class _ProfileFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's form, before addresses and paths are resolved."""

    bootstrap: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_BOOTSTRAP_ADDRESSES)
    ]
    certificate: str
    key: str
    ca: str
    key_exchange: KeyExchange = "preferred"


def load(path: Path) -> Profile:
    """Reads a profile and checks that the files it names can be read.

    Raises ConfigurationError, whose message names the file, the setting and what to do.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_PROFILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read profile {path}: {error.strerror}") from None
    if len(text) > MAX_PROFILE_BYTES:
        raise ConfigurationError(f"profile {path} is larger than {MAX_PROFILE_BYTES} bytes")
    try:
        written = msgspec.convert(tomllib.loads(text.decode()), _ProfileFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"profile {path}: {error}") from None
    folder = path.absolute().parent
    profile = Profile(
        bootstrap=tuple(Address.parse(text) for text in written.bootstrap),
        certificate=folder / written.certificate,
        key=folder / written.key,
        ca=folder / written.ca,
        key_exchange=written.key_exchange,
    )
    for setting in ("certificate", "key", "ca"):
        named: Path = getattr(profile, setting)
        if not os.access(named, os.R_OK):
            raise ConfigurationError(f"profile {path}: {setting}: cannot read {named}")
    return profile


def find(given: Path | None, environment: Mapping[str, str]) -> Profile:
    """The profile that was given, or the one that the environment names.

    Raises ConfigurationError that says how to name one if neither does.
    """
    if given is not None:
        return load(given)
    named = environment.get(ENVIRONMENT_VARIABLE)
    if named:
        return load(Path(named))
    raise ConfigurationError(
        f"no profile: pass --profile FILE or set {ENVIRONMENT_VARIABLE}"
        " (quickstart leaves profiles at DIR/client/*.toml)"
    )


def render(profile: Profile) -> str:
    """The profile as TOML, with the paths as they are; `load` reads it back."""
    quoted = ", ".join(_quote(str(address)) for address in profile.bootstrap)
    return (
        f"bootstrap = [{quoted}]\n"
        f"certificate = {_quote(str(profile.certificate))}\n"
        f"key = {_quote(str(profile.key))}\n"
        f"ca = {_quote(str(profile.ca))}\n"
        f"key_exchange = {_quote(profile.key_exchange)}\n"
    )


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    return msgspec.json.encode(text).decode()
