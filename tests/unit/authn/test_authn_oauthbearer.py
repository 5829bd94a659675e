"""OAUTHBEARER: what a token must hold, and that everything else is refused."""

import base64
import datetime as dt
import json
import time

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from appliance.authn.login import Login
from appliance.authn.sasl_oauthbearer import (
    ALGORITHMS,
    BearerExchange,
    TokenRules,
    TokenVerifier,
)
from appliance.authn.token_keys import HeldKeys, from_file, from_https
from appliance.errors import AuthenticationFailed, ConfigurationError, ErrorCode

ISSUER, AUDIENCE = "https://issuer.example", "memorystreamer"
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def key_set(*keys):
    return json.dumps({"keys": list(keys)}).encode()


def public(key, key_id):
    algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": key_id}


def now_ms():
    return int(time.time() * 1000)


def claims(**changes):
    whole = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 600,
    } | changes  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def token(key=KEY, algorithm="ES256", key_id="one", **changes):
    headers = {} if key_id is None else {"kid": key_id}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def verifier(algorithms=("ES256", "RS256"), keys=None, **rules):
    held = HeldKeys(lambda: keys or key_set(public(KEY, "one"), public(RSA_KEY, "two")))
    return TokenVerifier(TokenRules(ISSUER, AUDIENCE, algorithms, **rules), held, now_ms)


def test_a_good_token_says_who_and_until_when():
    for each in (token(), token(RSA_KEY, "RS256", "two"), token(aud=["x", AUDIENCE])):
        proven = verifier().verify(each)
        assert str(proven.principal) == "User:alice"
        assert 500_000 < proven.expires_ms - now_ms() <= 600_000
    named = verifier(principal_claim="client").verify(token(client="bob"))
    assert named.principal.name == "bob"
    only = verifier(keys=key_set(public(KEY, "one"))).verify(token(key_id=None))
    assert only.principal.name == "alice"


def unsigned():
    return jwt.encode(claims(), None, algorithm="none", headers={"kid": "one"})


def by_shared_secret():
    """The old confusion: the public key's own text as the secret of an HMAC."""
    return jwt.encode(claims(), "k" * 32, algorithm="HS256", headers={"kid": "one"})


def of_depth(header_depth, claims_depth):
    """A token of the issuer's own, with JSON inside JSON; who has no key can make such a header."""
    body = b'{"a":' * claims_depth + b"1" + b"}" * claims_depth
    made = jwt.PyJWS().encode(body, KEY, algorithm="ES256", headers={"kid": "one"})
    if header_depth:
        header = base64.urlsafe_b64encode(b"[" * header_depth).rstrip(b"=").decode()
        made = header + made[made.index(".") :]
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: of_depth(8_000, 1),
        lambda: of_depth(0, 1_400),
        lambda: token(OTHER),
        lambda: token(key_id="three"),
        lambda: token(key_id=None),
        lambda: token(RSA_KEY, "RS256", "one"),
        lambda: token(RSA_KEY, "PS256", "two"),
        lambda: token(iss="https://issuer.example.evil"),
        lambda: token(iss="https://issuer"),
        lambda: token(iss=None),
        lambda: token(aud="other"),
        lambda: token(aud=None),
        lambda: token(exp=None),
        lambda: token(exp=int(time.time()) - 3600),
        lambda: token(nbf=int(time.time()) + 3600),
        lambda: token(sub=None),
        lambda: token(sub=""),
        lambda: token(sub="a b"),
        lambda: token(sub="x" * 300),
        unsigned,
        by_shared_secret,
        lambda: token()[:-4] + "AAAA",
        lambda: "a.b.c",
        lambda: "",
        lambda: "x" * 1_000_000,
    ],
)
def test_any_other_token_is_refused(make):
    each = make()
    with pytest.raises(AuthenticationFailed) as raised:
        verifier().verify(each)
    assert each == "" or each not in str(raised.value)


@pytest.mark.parametrize(
    "rules",
    [
        ("", AUDIENCE, ("ES256",)),
        (ISSUER, "", ("ES256",)),
        (ISSUER, AUDIENCE, ()),
        (ISSUER, AUDIENCE, ("none",)),
        (ISSUER, AUDIENCE, ("HS256",)),
        (ISSUER, AUDIENCE, ("ES256",), ""),
    ],
)
def test_without_issuer_audience_or_algorithms_there_is_no_such_mechanism(rules):
    with pytest.raises(ConfigurationError):
        TokenRules(*rules)


def test_no_shared_secret_is_among_the_algorithms():
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)


def secret_key():
    return json.loads(ECAlgorithm.to_jwk(KEY)) | {"kid": "one"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        key_set(),
        key_set({"kty": "EC"}),
        key_set("x"),
        key_set({"kty": "oct", "k": "c2VjcmV0", "kid": "one"}),
        key_set(secret_key()),
        key_set(public(KEY, "one"), public(OTHER, "one")),
        b" " * 300_000,
        b'{"keys":' + b"[" * 50_000,
    ],
)
def test_a_set_of_keys_that_is_none_is_refused_and_the_last_good_one_stays(text):
    with pytest.raises(ConfigurationError):
        HeldKeys(lambda: text)
    answers = [key_set(public(KEY, "one")), text]
    held = HeldKeys(lambda: answers.pop(0))
    with pytest.raises(ConfigurationError):
        held.refresh()
    assert held.find("one") is not None


def test_keys_come_from_a_file_or_over_https_only(tmp_path):
    path = tmp_path / "keys.json"
    with pytest.raises(ConfigurationError, match=r"keys\.json"):
        HeldKeys(from_file(path))
    path.write_bytes(key_set(public(KEY, "one")))
    assert HeldKeys(from_file(path)).find("one") is not None


def message(each, header="n,,", extensions=""):
    return f"{header}\x01auth=Bearer {each}\x01{extensions}\x01".encode()


def test_the_message_is_kafkas_with_and_without_extensions():
    for each in (
        message(token()),
        message(token(), "n,a=alice,"),
        message(token(), extensions="traceId=abc\x01other=x y\x01"),
    ):
        reply, proven = BearerExchange(verifier()).step(each)
        assert (reply, proven.principal.name) == (b"", "alice")


@pytest.mark.parametrize(
    "each",
    [
        b"",
        b"\xff",
        b"n,,\x01auth=Basic x\x01\x01",
        message("", "n,,"),
        message(token(), "n,a=admin,"),
        message(token(), "p=x,,"),
        message(token(OTHER)),
        message(token()) + b"x",
    ],
)
def test_a_refusal_is_acknowledged_and_then_the_login_has_failed(each):
    login = Login(
        {"OAUTHBEARER": lambda: BearerExchange(verifier())}, now_ms=now_ms, max_session_ms=0
    )
    login.handshake("OAUTHBEARER")
    step = login.authenticate(each)
    assert (step.error, step.reply) == (ErrorCode.NONE, b'{"status":"invalid_token"}')
    assert step.proven is None
    assert login.authenticate(b"\x01").error is ErrorCode.SASL_AUTHENTICATION_FAILED


def test_a_session_lasts_no_longer_than_its_token():
    login = Login(
        {"OAUTHBEARER": lambda: BearerExchange(verifier())}, now_ms=now_ms, max_session_ms=3_600_000
    )
    login.handshake("OAUTHBEARER")
    step = login.authenticate(message(token(exp=int(time.time()) + 60)))
    assert 50_000 < step.lifetime_ms <= 60_000


def test_keys_are_fetched_only_where_the_address_says_https(tmp_path, quick_ca):
    with pytest.raises(ConfigurationError, match="https"):
        from_https("http://127.0.0.1/keys", quick_ca)()
    with pytest.raises(ConfigurationError, match="no keys"):
        from_https("https://127.0.0.1:1/keys", quick_ca)()


@pytest.fixture
def quick_ca(tmp_path):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, start, start.replace(2090))
    path = tmp_path / "ca.pem"
    path.write_bytes(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path
