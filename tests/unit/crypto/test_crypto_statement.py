"""A signed statement is believed from the authority's certificates only, and as it was signed."""

import json

import pytest
from certs_tooling.authority import Authority
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa

from appliance.crypto import statement
from appliance.errors import AuthenticationFailed, ConfigurationError

TEXT = '{"topic": "orders", "note": "gelöscht"}'


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    issued = authority.issue_node(1, ["127.0.0.1"])
    issued.save(certificate=folder / "node.pem", key=folder / "node.key")
    return (folder / "node.pem").read_bytes(), (folder / "node.key").read_bytes()


@pytest.fixture(scope="module")
def document(pair):
    return statement.sign(TEXT, certificate_pem=pair[0], key_pem=pair[1])


def test_what_was_signed_is_what_is_read(document, authority):
    assert statement.verify(document, authority_pem=authority.certificate_file.read_bytes()) == TEXT


@pytest.mark.parametrize("field", ["statement", "signature", "certificate"])
def test_a_change_anywhere_is_refused(document, authority, field):
    ca = authority.certificate_file.read_bytes()
    held = json.loads(document)
    places = range(0, len(held[field]), max(1, len(held[field]) // 40))
    for place in places:
        text = held[field]
        swapped = "B" if text[place] != "B" else "C"
        changed = {**held, field: text[:place] + swapped + text[place + 1 :]}
        try:
            said = statement.verify(json.dumps(changed), authority_pem=ca)
        except AuthenticationFailed:
            continue
        assert (field, said) == ("certificate", TEXT), "only PEM's own slack may change"


def test_another_authoritys_certificate_is_refused(document, tmp_path):
    other = Authority.create(tmp_path / "other")
    with pytest.raises(AuthenticationFailed, match="authority"):
        statement.verify(document, authority_pem=other.certificate_file.read_bytes())


@pytest.mark.parametrize("text", ["", "{}", "nonsense", "[1]", "x" * 70_000])
def test_what_is_no_statement_is_refused(text, authority):
    with pytest.raises(AuthenticationFailed):
        statement.verify(text, authority_pem=authority.certificate_file.read_bytes())


def test_keys_that_cannot_sign_are_named(pair):
    key = dsa.generate_private_key(1024)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for key_pem in (pem, b"no key"):
        with pytest.raises(ConfigurationError):
            statement.sign(TEXT, certificate_pem=pair[0], key_pem=key_pem)
