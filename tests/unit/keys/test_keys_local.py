"""The local keystore: its passphrase, its file, and the places that its wraps open at."""

import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from appliance.errors import ConfigurationError, KeyGone, KeysRefused, WrongKey
from appliance.keys import local
from appliance.keys.local import LocalKeystore
from appliance.ports import WrappedKey

from .conftest import domain, place

PASSPHRASE = b"canary: correct horse"


class MemoryFile:
    """A keystore's file in memory."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def create(self, content: bytes) -> None:
        if self.content is not None:
            raise ConfigurationError("exists already")
        self.content = content

    def read(self) -> bytes:
        if self.content is None:
            raise ConfigurationError("not there")
        return self.content

    def replace(self, content: bytes) -> None:
        self.content = content

    def __str__(self) -> str:
        return "memory"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with the least that it takes, but in tests of the file as it is."""
    real = local.hash_secret_raw

    def cheap(secret: bytes, salt: bytes, **costs: object) -> bytes:
        least = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
        return real(secret, salt, **{**costs, **least})

    if "tmp_path" not in request.fixturenames:
        monkeypatch.setattr(local, "hash_secret_raw", cheap)


@pytest.fixture
def file() -> MemoryFile:
    return MemoryFile()


@pytest.fixture
def keystore(file: MemoryFile) -> LocalKeystore:
    made = LocalKeystore.create(file, PASSPHRASE)
    trio.run(made.create_domain, domain(1))
    return made


def test_keys_survive_a_restart(file: MemoryFile, keystore: LocalKeystore) -> None:
    made = trio.run(keystore.new_data_key, place(1))
    again = LocalKeystore.open(file, PASSPHRASE)
    opened = trio.run(again.unwrap, place(1), made.wrapped)
    assert opened.reveal() == made.secret.reveal()
    assert trio.run(again.health).serving


def test_a_wrong_passphrase_is_named(file: MemoryFile, keystore: LocalKeystore) -> None:
    with pytest.raises(ConfigurationError, match="wrong passphrase"):
        LocalKeystore.open(file, PASSPHRASE + b" ")


def test_an_empty_passphrase_is_refused(file: MemoryFile) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        LocalKeystore.create(file, b"")


@pytest.mark.parametrize(
    "elsewhere",
    [place(1, partition=2), place(1, epoch=1), msgspec.structs.replace(place(1), format=2)],
)
def test_a_wrap_opens_at_its_place_only(keystore: LocalKeystore, elsewhere: object) -> None:
    made = trio.run(keystore.new_data_key, place(1))
    with pytest.raises(WrongKey):
        trio.run(keystore.unwrap, elsewhere, made.wrapped)


def test_domains_have_keys_of_their_own(keystore: LocalKeystore) -> None:
    trio.run(keystore.create_domain, domain(2))
    made = trio.run(keystore.new_data_key, place(1))
    with pytest.raises(WrongKey):
        trio.run(keystore.unwrap, place(2), made.wrapped)


@pytest.mark.parametrize("position", [0, 15, 16, 27, 28, 59, 60, 75])
def test_a_changed_wrap_is_refused(keystore: LocalKeystore, position: int) -> None:
    made = trio.run(keystore.new_data_key, place(1))
    spoiled = bytearray(made.wrapped.ciphertext)
    spoiled[position] ^= 1
    with pytest.raises(WrongKey):
        trio.run(keystore.unwrap, place(1), WrappedKey("local", bytes(spoiled)))


@pytest.mark.parametrize("cut", [0, 1, 75, 77])
def test_a_wrap_of_another_length_is_refused(keystore: LocalKeystore, cut: int) -> None:
    made = trio.run(keystore.new_data_key, place(1))
    ciphertext = (made.wrapped.ciphertext + b"\0")[:cut]
    with pytest.raises(WrongKey):
        trio.run(keystore.unwrap, place(1), WrappedKey("local", ciphertext))


def test_another_providers_wrap_is_refused(keystore: LocalKeystore) -> None:
    made = trio.run(keystore.new_data_key, place(1))
    with pytest.raises(WrongKey, match="another kind"):
        trio.run(keystore.unwrap, place(1), WrappedKey("vault", made.wrapped.ciphertext))


def test_a_domain_without_key_is_gone(keystore: LocalKeystore) -> None:
    with pytest.raises(KeyGone):
        trio.run(keystore.new_data_key, place(9))


def test_making_a_domain_twice_keeps_its_key(file: MemoryFile, keystore: LocalKeystore) -> None:
    before = file.content
    trio.run(keystore.create_domain, domain(1))
    assert file.content == before


def test_domains_that_change_places_in_the_file_are_refused(
    file: MemoryFile, keystore: LocalKeystore
) -> None:
    trio.run(keystore.create_domain, domain(2))
    contents = msgspec.json.decode(file.read(), type=local.Contents)
    one, two = contents.domains[domain(1)], contents.domains[domain(2)]
    swapped = msgspec.structs.replace(contents, domains={domain(1): two, domain(2): one})
    file.replace(msgspec.json.encode(swapped))
    with pytest.raises(KeysRefused, match="damaged"):
        trio.run(LocalKeystore.open(file, PASSPHRASE).new_data_key, place(1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: b"\xff",
        lambda text: text[:-5],
        lambda text: text.replace(b'"version": 1', b'"version": 2'),
        lambda text: text.replace(b'"memory_kib": 65536', b'"memory_kib": 1099511627776'),
        lambda text: text.replace(b'"passes": 3', b'"passes": 1000000'),
        lambda text: text.replace(b'"lanes": 4', b'"lanes": 0'),
    ],
)
def test_a_file_that_is_no_keystore_is_named(
    file: MemoryFile, keystore: LocalKeystore, spoil: Callable[[bytes], bytes]
) -> None:
    spoiled = spoil(file.read())
    assert spoiled != file.read()
    file.replace(spoiled)
    with pytest.raises(ConfigurationError, match="damaged") as raised:
        LocalKeystore.open(file, PASSPHRASE)
    assert raised.value.__cause__ is None


def test_nothing_secret_is_in_the_file_or_a_repr(file: MemoryFile, keystore: LocalKeystore) -> None:
    made = trio.run(keystore.new_data_key, place(1))
    for secret in (PASSPHRASE, bytes(keystore._key.reveal()), bytes(made.secret.reveal())):
        assert secret not in file.read()
        assert secret.hex() not in repr(keystore.__dict__)
        assert repr(secret) not in repr(keystore.__dict__)


def test_the_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keystore"
    LocalKeystore.create(path, PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="exists already"):
        LocalKeystore.create(path, b"another")
    keystore = LocalKeystore.open(path, PASSPHRASE)
    trio.run(keystore.create_domain, domain(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keystore"]
    trio.run(LocalKeystore.open(path, PASSPHRASE).new_data_key, place(1))


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keystore"
    LocalKeystore.create(path, PASSPHRASE)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        LocalKeystore.open(path, PASSPHRASE)


def test_a_missing_file_or_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read: No such file"):
        LocalKeystore.open(tmp_path / "keystore", PASSPHRASE)
    with pytest.raises(ConfigurationError, match=r"cannot be written: No such file"):
        LocalKeystore.create(tmp_path / "missing" / "keystore", PASSPHRASE)


def test_two_domains_made_at_once_are_both_kept(file: MemoryFile, keystore: LocalKeystore) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(2, 6):
                nursery.start_soon(keystore.create_domain, domain(number))

    trio.run(main)
    again = LocalKeystore.open(file, PASSPHRASE)
    for number in range(1, 6):
        trio.run(again.new_data_key, place(number))
