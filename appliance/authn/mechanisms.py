"""The mechanisms that a listener offers, made from its settings and what the cluster keeps."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Final

from appliance.authn.login import Exchange
from appliance.authn.sasl_scram import DIGESTS, ScramCredential, ScramExchange

_NONCE_BYTES: Final = 24
_PEPPER_BYTES: Final = 32

FindCredential = Callable[[str, str], ScramCredential | None]
"""A credential by user and mechanism, or None."""


def mechanisms(
    names: tuple[str, ...],
    find: FindCredential,
    random_bytes: Callable[[int], bytes],
    bearer: Callable[[], Exchange] | None,
) -> Mapping[str, Callable[[], Exchange]]:
    """How each of `names` begins; `bearer` begins whatever is not SCRAM."""
    pepper = random_bytes(_PEPPER_BYTES)

    def nonce() -> str:
        return b64encode(random_bytes(_NONCE_BYTES)).decode()

    def scram(name: str) -> Callable[[], Exchange]:
        return lambda: ScramExchange(name, find, nonce, pepper)

    begins = {name: scram(name) for name in names if name in DIGESTS}
    if bearer is not None:
        begins |= {name: bearer for name in names if name not in DIGESTS}
    return begins
