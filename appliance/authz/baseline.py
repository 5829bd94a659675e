"""Where the policy files of this release are: in the wheel, or beside the package in a checkout.

Rules: names are fixed here and never come from a request or a setting.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from appliance.errors import ConfigurationError

_IN_WHEEL: Final = "_policies"
_IN_CHECKOUT: Final = "policies"


def baseline_text() -> str:
    """The policy that a new cluster starts with unless its configuration names another."""
    return _read("baseline.csv")


def model_text() -> str:
    """The Casbin model."""
    return _read("model.conf")


def _read(name: str) -> str:
    places: tuple[Traversable, ...] = (
        files("appliance").joinpath(_IN_WHEEL, name),
        Path(__file__).resolve().parents[2] / _IN_CHECKOUT / name,
    )
    for place in places:
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise ConfigurationError(f"policies/{name} is missing: install the package again")
