"""Strings made safe to record and to show: one line, bounded, without secrets.

Rules: what a peer chose may hold line breaks that forge entries, controls that drive a terminal,
or marks that turn text around; each becomes an escape that cannot be mistaken for text, because the
backslash is escaped too. Secrets are not expected here at all; what has the shape of one is taken
out nevertheless. Every step is linear in a bounded length.
"""

import re
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import asdict, replace

S = TypeVar("S", bound=Struct)

MAX_SHOWN_CHARACTERS: Final = 256
"""Of one string, before escapes; longest pattern and longest topic name fit."""

MAX_SHOWN_NAMES: Final = 64
"""Of one list."""

REDACTED: Final = "[redacted]"

_SECRET = re.compile(
    r"-----BEGIN .*"  # PEM, to the end
    r"|\bvault:v[0-9]{1,9}:\S{8,}"  # a Transit ciphertext or wrapped key
    r"|\bhv[sbr]\.\S{8,}|\b[sbr]\.[A-Za-z0-9]{24,}"  # tokens of Vault and OpenBao
    r"|\beyJ[\w-]{8,}\.[\w-]*\.[\w-]*"  # a JSON web token
    r"|(?<![a-z])(?:password|passphrase|passwd|secret|token|secret_id)\s{0,8}[=:]\s{0,8}\S+",
    re.IGNORECASE | re.DOTALL,
)


def shown(text: str) -> str:
    """`text` on one line, at most MAX_SHOWN_CHARACTERS of it, escaped, without secrets."""
    kept = text[:MAX_SHOWN_CHARACTERS]
    kept = _SECRET.sub(REDACTED, kept)
    line = "".join(_escaped(character) for character in kept)
    left = len(text) - MAX_SHOWN_CHARACTERS
    return f"{line}…(+{left})" if left > 0 else line


def redacted(event: S) -> S:
    """The event with each of its strings made safe, so that no kind of event can forget one."""
    changes: dict[str, str | tuple[str, ...]] = {}
    for field, value in asdict(event).items():
        if isinstance(value, str):
            changes[field] = shown(value)
        elif isinstance(value, tuple):
            changes[field] = _shown_names(value)
    return replace(event, **changes)


def _shown_names(names: tuple[object, ...]) -> tuple[str, ...]:
    kept = tuple(shown(str(name)) for name in names[:MAX_SHOWN_NAMES])
    left = len(names) - MAX_SHOWN_NAMES
    return (*kept, f"…(+{left})") if left > 0 else kept


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
