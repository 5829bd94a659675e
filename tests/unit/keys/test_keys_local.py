"""A local keystore opens with its passphrase only, and each wrap at its own place only."""

from uuid import UUID

import msgspec
import pytest
import trio

from appliance.errors import ConfigurationError, KeysRefused
from appliance.keys import local
from appliance.keys.local import LocalKeystore
from appliance.ports import KeyPlace, WrappedKey
from appliance.types import ClusterId, KeyDomainId, PartitionId

PLACE = KeyPlace(
    ClusterId(UUID(int=1)), PartitionId(UUID(int=2)), KeyDomainId(UUID(int=3)), epoch=1, format=1
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(local, "MEMORY_KIB", 256)
    monkeypatch.setattr(local, "TIME_COST", 1)


def test_a_key_comes_back_after_the_keystore_was_opened_again(tmp_path):
    path = tmp_path / "keystore"
    fresh = trio.run(LocalKeystore.create(path, b"correct horse").new_data_key, PLACE)
    again = trio.run(LocalKeystore.open(path, b"correct horse").unwrap, PLACE, fresh.wrapped)
    assert again.reveal() == fresh.secret.reveal()
    assert path.stat().st_mode & 0o777 == 0o600
    assert bytes(fresh.secret.reveal()) not in fresh.wrapped.ciphertext


def test_a_wrong_passphrase_is_named(tmp_path):
    path = tmp_path / "keystore"
    LocalKeystore.create(path, b"correct horse")
    with pytest.raises(ConfigurationError, match="passphrase does not open"):
        LocalKeystore.open(path, b"wrong horse")


@pytest.mark.parametrize("field", ["cluster", "partition", "domain"])
def test_a_wrap_of_another_place_is_refused(tmp_path, field):
    keys = LocalKeystore.create(tmp_path / "keystore", b"x")
    fresh = trio.run(keys.new_data_key, PLACE)
    with pytest.raises(KeysRefused):
        trio.run(keys.unwrap, msgspec.structs.replace(PLACE, **{field: UUID(int=9)}), fresh.wrapped)


def test_every_changed_byte_of_a_wrap_is_refused(tmp_path):
    keys = LocalKeystore.create(tmp_path / "keystore", b"x")
    wrapped = trio.run(keys.new_data_key, PLACE).wrapped.ciphertext
    for at in range(len(wrapped)):
        changed = wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :]
        with pytest.raises(KeysRefused):
            trio.run(keys.unwrap, PLACE, WrappedKey(local.PROVIDER, changed))


def test_a_keystore_that_asks_for_too_much_is_refused_before_it_gets_it(tmp_path):
    path = tmp_path / "keystore"
    LocalKeystore.create(path, b"x")
    content = bytearray(path.read_bytes())
    content[5:9] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a keystore"):
        LocalKeystore.open(path, b"x")


def test_a_keystore_is_never_written_over(tmp_path):
    LocalKeystore.create(tmp_path / "keystore", b"x")
    with pytest.raises(ConfigurationError, match="exists already"):
        LocalKeystore.create(tmp_path / "keystore", b"x")
