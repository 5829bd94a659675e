"""The mechanisms that a listener offers, made from its settings and what the cluster keeps."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Final

from appliance.authn.login import Exchange
from appliance.authn.sasl_scram import DIGESTS, Credentials, ScramExchange

_NONCE_BYTES: Final = 24


def mechanisms(
    names: tuple[str, ...],
    credentials: Credentials,
    random_bytes: Callable[[int], bytes],
    bearer: Callable[[], Exchange] | None,
) -> Mapping[str, Callable[[], Exchange]]:
    """How each of `names` begins; `bearer` begins whatever is not SCRAM."""

    def nonce() -> str:
        return b64encode(random_bytes(_NONCE_BYTES)).decode()

    def scram(name: str) -> Callable[[], Exchange]:
        return lambda: ScramExchange(name, credentials, nonce)

    begins = {name: scram(name) for name in names if name in DIGESTS}
    if bearer is not None:
        begins |= {name: bearer for name in names if name not in DIGESTS}
    return begins
