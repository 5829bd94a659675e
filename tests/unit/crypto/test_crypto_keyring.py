"""HKDF as RFC 5869 has it, and keys that differ wherever their place does."""

from uuid import UUID

import cryptography_vectors
import msgspec
import pytest

from appliance.crypto import keyring
from appliance.crypto.sealed import Place, Purpose
from appliance.errors import WrongKey
from appliance.ports import KeyPlace, SecretKey

KEY = SecretKey(bytes(range(32)))
PLACE = Place(Purpose.LOG, UUID(int=1), UUID(int=2), UUID(int=3))
KEY_PLACE = KeyPlace(UUID(int=1), UUID(int=2), UUID(int=3), 4, 1)


def rfc_5869():
    """The test cases of appendix A for SHA-256."""
    cases, case = [], {}
    name = "KDF/rfc-5869-HKDF-SHA256.txt"
    with cryptography_vectors.open_vector_file(name, "r") as file:
        for line in [*file, ""]:
            field, equals, value = line.partition("=")
            if equals:
                case[field.strip()] = value.strip()
            elif "OKM" in case:
                cases.append(case)
                case = {}
    return cases


@pytest.mark.parametrize("case", rfc_5869(), ids=lambda case: f"A.{case['COUNT']}")
def test_rfc_5869_appendix_a(case):
    """HKDF's output of a shorter length is a prefix of that of a longer one (section 2.3)."""
    derived = keyring._derive(
        bytes.fromhex(case["IKM"]), bytes.fromhex(case["salt"]), bytes.fromhex(case["info"])
    )
    assert derived == bytes.fromhex(case["OKM"])[: keyring.KEY_BYTES]


def test_all_cases_of_rfc_5869_for_sha_256_are_here():
    assert len(rfc_5869()) == 3


@pytest.mark.parametrize("field", ["purpose", "cluster", "partition", "file"])
def test_a_file_key_is_of_one_place_only(field):
    other = Purpose.INDEX if field == "purpose" else UUID(int=9)
    moved = msgspec.structs.replace(PLACE, **{field: other})
    one = keyring.file_key(KEY, PLACE.encoded())
    assert one.reveal() != keyring.file_key(KEY, moved.encoded()).reveal()
    assert one.reveal() == keyring.file_key(KEY, PLACE.encoded()).reveal()


def test_an_extents_key_is_of_one_salt_and_one_number_only():
    salts = (bytes(32), bytes(31) + b"\x01")
    derived = {
        keyring.extent_key(KEY, salt, PLACE.extent_info(number))
        for salt in salts
        for number in (0, 1)
    }
    assert len(derived) == 4


@pytest.mark.parametrize("field", ["cluster", "partition", "domain", "epoch", "format"])
def test_a_commitment_is_of_one_place_only(field):
    other = 5 if field in ("epoch", "format") else UUID(int=9)
    moved = msgspec.structs.replace(KEY_PLACE, **{field: other})
    made = keyring.commitment(KEY, KEY_PLACE)
    keyring.check_commitment(KEY, KEY_PLACE, made)
    with pytest.raises(WrongKey):
        keyring.check_commitment(KEY, moved, made)


def test_a_commitment_is_of_one_key_only():
    made = keyring.commitment(KEY, KEY_PLACE)
    with pytest.raises(WrongKey):
        keyring.check_commitment(SecretKey(bytes(32)), KEY_PLACE, made)


def test_no_derived_value_is_another_kinds():
    """Labels keep file keys, extent keys and commitments apart, whatever their place."""
    fields = keyring._COMMITTED.pack(1, 4, bytes(16), bytes(16), bytes(16))
    assert keyring.file_key(KEY, fields).reveal() != keyring.commitment(
        KEY, KeyPlace(UUID(int=0), UUID(int=0), UUID(int=0), 4, 1)
    )
