"""What a call to Vault can come to, as far as anyone outside may know, and what to do about it.

Rules: a failure is a value without text of Vault's or of a library's; the advice is ours and names
a setting or a custodian's act.
"""

from enum import Enum
from typing import TypeGuard


class Failure(Enum):
    """Why there is no answer."""

    AWAY = "does not answer"
    SEALED = "is sealed"
    UNTRUSTED = "could not be connected to safely"
    REFUSED = "refuses this node"
    MISSING = "knows nothing of that name"
    INVALID = "does not accept the input"
    LOGIN_UNREADABLE = "cannot be logged in to: a credential's file is not readable"
    NOT_IN_MEMORY = "cannot be logged in to: the secret id would lie on a disk"
    WRAPPING_SPENT = "says that the wrapping token was used before"
    WRAPPING_FOREIGN = "says that the wrapping token wraps something else"


_PASSING = frozenset({Failure.AWAY, Failure.SEALED, Failure.UNTRUSTED})
_OF_LOGIN = frozenset(
    {
        Failure.REFUSED,
        Failure.LOGIN_UNREADABLE,
        Failure.NOT_IN_MEMORY,
        Failure.WRAPPING_SPENT,
        Failure.WRAPPING_FOREIGN,
    }
)
ALARMS = frozenset({Failure.WRAPPING_SPENT, Failure.WRAPPING_FOREIGN})
"""Failures that mean that somebody else may hold what was meant for this node."""


def passing(outcome: object) -> TypeGuard[Failure]:
    """Whether it is a failure that may be over at the next attempt."""
    return isinstance(outcome, Failure) and outcome in _PASSING


def refused(outcome: object) -> TypeGuard[Failure]:
    """Whether it is a failure that a custodian has to end."""
    return isinstance(outcome, Failure) and outcome in _OF_LOGIN


def advice(failure: Failure, address: str) -> str:
    """What an operator should do; MISSING and INVALID are the callers' to explain."""
    return _ADVICE.get(failure, _ADVICE[Failure.AWAY]).format(address=address)


_ADVICE = {
    Failure.AWAY: "Vault at {address} does not answer: start it, or check address and network",
    Failure.SEALED: "Vault at {address} is sealed: unseal it",
    Failure.UNTRUSTED: "Vault at {address} could not be connected to safely: check ca_file, the "
    "host name in its certificate, and that it offers TLS 1.3 with the configured key_exchange",
    Failure.REFUSED: "Vault at {address} refuses this node: have a custodian check its login "
    "(role, secret id, certificate or service account) and its policy",
    Failure.LOGIN_UNREADABLE: "secret_id_file, token_file or certificate cannot be read: restore "
    "it to log in to Vault at {address}",
    Failure.NOT_IN_MEMORY: "secret_id_file does not lie in a file system in memory (tmpfs): name "
    "one below /run, because a secret id that was wrapped must not come to lie on a disk",
    Failure.WRAPPING_SPENT: "ALARM: the token in wrapping_token_file has been used before or has "
    "expired; whoever used it may hold this node's secret id: have a custodian destroy that "
    "secret id, read Vault's audit log, and issue another",
    Failure.WRAPPING_FOREIGN: "ALARM: the token in wrapping_token_file does not wrap a secret id of"
    " this mount; somebody may have put it in place of the right one: have a custodian look",
}
