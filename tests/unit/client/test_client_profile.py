"""Profiles resolve against their folder, refuse what they cannot use, and say what to do."""

from pathlib import Path

import pytest

from appliance.client.profile import Address, Profile, find, load, render
from appliance.errors import ConfigurationError


def write(folder: Path, text: str) -> Path:
    for name in ("me.pem", "me.key", "ca.pem"):
        (folder / name).write_text("pem")
    path = folder / "me.toml"
    path.write_text(text)
    return path


GOOD = 'bootstrap = ["127.0.0.1:9193"]\ncertificate = "me.pem"\nkey = "me.key"\nca = "ca.pem"\n'


def test_relative_paths_start_at_the_profile(tmp_path: Path) -> None:
    profile = load(write(tmp_path, GOOD))
    assert profile.certificate == tmp_path / "me.pem"
    assert profile.bootstrap == (Address("127.0.0.1", 9193),)
    assert profile.key_exchange == "preferred"


def test_rendered_profile_loads_equal(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    odd = Profile(
        bootstrap=(Address("::1", 1), Address("a.b", 65535)),
        certificate=tmp_path / "me.pem",
        key=tmp_path / "me.key",
        ca=tmp_path / "ca.pem",
        key_exchange="required",
    )
    path.write_text(render(odd))
    assert load(path) == odd


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (GOOD.replace("127.0.0.1:9193", "nowhere"), "nowhere"),
        (GOOD.replace("127.0.0.1:9193", "host:70000"), "70000"),
        (GOOD.replace("me.key", "absent.key"), "absent.key"),
        (GOOD.replace('bootstrap = ["127.0.0.1:9193"]', "bootstrap = []"), "bootstrap"),
        (GOOD + 'surprise = "x"\n', "surprise"),
        ("bootstrap = [", "me.toml"),
        (GOOD + 'key_exchange = "off"\n', "key_exchange"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load(write(tmp_path, text))


def test_a_huge_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="larger"):
        load(write(tmp_path, GOOD + "#" * 100_000))


def test_given_wins_over_environment(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    environment = {"MEMORYSTREAMER_PROFILE": "/absent/profile.toml"}
    assert find(path, environment).ca == tmp_path / "ca.pem"
    with pytest.raises(ConfigurationError, match=r"/absent/profile\.toml"):
        find(None, environment)
    with pytest.raises(ConfigurationError, match="--profile"):
        find(None, {})
