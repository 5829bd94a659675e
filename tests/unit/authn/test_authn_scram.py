"""SCRAM: the vectors of the RFCs, and everything that must not work."""

import base64
import hashlib
import hmac
import itertools
from collections import Counter

import pytest
from aiokafka.conn import ScramAuthenticator

from appliance.authn import sasl_scram
from appliance.authn.login import Login
from appliance.authn.sasl_scram import SHA_256, SHA_512, ScramExchange, credential
from appliance.errors import AuthenticationFailed, ErrorCode

SECRET = b"a secret of the cluster"


class Users:
    """What is kept of users' passwords, in a dictionary."""

    def __init__(self, held, secret=SECRET):
        self.held, self.secret = held, secret

    def find(self, user, mechanism):
        return self.held.get((user, mechanism))

    def shapes(self, mechanism):
        return Counter(
            (each.iterations, len(each.salt))
            for (_, number), each in self.held.items()
            if number == mechanism
        )

    def decoy_secret(self):
        return self.secret


def kept(mechanism=SHA_256, password=b"pencil", salt=b"salt of alice", iterations=4096):
    digest = sasl_scram.DIGESTS[mechanism]
    salted = hashlib.pbkdf2_hmac(digest, password, salt, iterations)
    return credential(mechanism, salted, salt=salt, iterations=iterations)


def exchange(mechanism=SHA_256, nonce="servernonce", users=None):
    users = {("alice", mechanism): kept(mechanism)} if users is None else users
    return ScramExchange(mechanism, Users(users), lambda: nonce)


def proof(first, server, password=b"pencil", mechanism=SHA_256, header="n,,"):
    """The client's last message, made step by step as RFC 5802 section 3 has it."""
    fields = dict(part.split("=", 1) for part in server.decode().split(","))
    digest = sasl_scram.DIGESTS[mechanism]
    salt, rounds = base64.b64decode(fields["s"]), int(fields["i"])
    salted = hashlib.pbkdf2_hmac(digest, password, salt, rounds)
    client_key = hmac.digest(salted, b"Client Key", digest)
    bare = f"c={base64.b64encode(header.encode()).decode()},r={fields['r']}"
    signed = f"{first.removeprefix(header)},{server.decode()},{bare}".encode()
    signature = hmac.digest(hashlib.new(digest, client_key).digest(), signed, digest)
    key = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return f"{bare},p={base64.b64encode(key).decode()}".encode()


VECTORS = [
    # RFC 5802, section 5; SHA-1 is not served, the arithmetic is the same.
    (
        "SCRAM-SHA-1", "sha1", "QSXCR+Q6sek8bf92", "fyko+d2lbbFgONRv9qkxdawL",
        "3rfcNHYJY1ZVvWVs7j", "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    # RFC 7677, section 3.
    (
        "SCRAM-SHA-256", "sha256", "W22ZaJ0SNY7soEsUEjb6gQ==", "rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mechanism", "digest", "salt", "client", "server", "client_proof", "verifier"), VECTORS
)
def test_the_vectors_of_the_rfcs(
    monkeypatch, mechanism, digest, salt, client, server, client_proof, verifier
):
    monkeypatch.setitem(sasl_scram.DIGESTS, mechanism, digest)
    users = {("user", mechanism): kept(mechanism, salt=base64.b64decode(salt))}
    login = exchange(mechanism, server, users)
    reply, nobody = login.step(f"n,,n=user,r={client}".encode())
    assert reply.decode() == f"r={client}{server},s={salt},i=4096"
    assert nobody is None
    reply, proven = login.step(f"c=biws,r={client}{server},p={client_proof}".encode())
    assert reply.decode() == f"v={verifier}"
    assert str(proven.principal) == "User:user"


@pytest.mark.parametrize("mechanism", [SHA_256, SHA_512])
def test_another_ones_client_logs_in(mechanism):
    client = ScramAuthenticator(
        loop=None, sasl_plain_username="alice", sasl_plain_password="pencil",
        sasl_mechanism=mechanism,
    )  # fmt: skip
    login = exchange(mechanism)
    reply, _ = login.step(client.first_message().encode())
    client.process_server_first_message(reply.decode())
    reply, proven = login.step(client.final_message().encode())
    client.process_server_final_message(reply.decode())
    assert proven.principal.name == "alice"


def test_a_nonce_may_repeat_the_clients_own_part_as_librdkafka_2_0_does():
    login = exchange()
    first = "n,,n=alice,r=abc"
    reply, _ = login.step(first.encode())
    fields = dict(part.split("=", 1) for part in reply.decode().split(","))
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", base64.b64decode(fields["s"]), 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    bare = "c=biws,r=abcabcservernonce"
    signed = f"n=alice,r=abc,{reply.decode()},{bare}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    whole = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    _, proven = login.step(f"{bare},p={base64.b64encode(whole).decode()}".encode())
    assert proven.principal.name == "alice"


def run(first, change=lambda final: final, password=b"pencil", header="n,,", **options):
    login = exchange(**options)
    reply, _ = login.step(first.encode())
    return login.step(change(proof(first, reply, password, header=header)))


def test_the_right_password_is_let_in():
    assert run("n,,n=alice,r=abc")[1].principal.name == "alice"
    assert run("y,a=alice,n=alice,r=abc", header="y,a=alice,")[1].principal.name == "alice"


@pytest.mark.parametrize(
    "change",
    [
        lambda final: final.replace(b"servernonce", b"othernonce!"),
        lambda final: final.replace(b"c=biws", b"c=eSws"),
        lambda final: final.replace(b"c=biws", b"c=?"),
        lambda final: final[:-5] + (b"AAA" + final[-2:]),
        lambda final: final[: final.index(b"p=") + 2],
        lambda final: final[: final.index(b"p=") + 2] + b"AAAA",
        lambda final: final + b",x=1",
        lambda final: b"m=1," + final,
        lambda _: b"",
        lambda _: b"\xff",
        lambda _: b"x" * 100_000,
    ],
)
def test_a_changed_last_message_is_refused(change):
    with pytest.raises(AuthenticationFailed):
        run("n,,n=alice,r=abc", change)


def test_an_exchange_cannot_be_played_again():
    numbers = itertools.count()
    users = {("alice", SHA_256): kept()}

    def fresh():
        return ScramExchange(SHA_256, Users(users), lambda: f"nonce{next(numbers)}")

    first = "n,,n=alice,r=abc"
    heard = fresh()
    final = proof(first, heard.step(first.encode())[0])
    assert heard.step(final)[1].principal.name == "alice"
    again = fresh()
    again.step(first.encode())
    with pytest.raises(AuthenticationFailed, match="nonce"):
        again.step(final)


@pytest.mark.parametrize(
    "first",
    [
        "n,a=admin,n=alice,r=abc",
        "p=tls-exporter,,n=alice,r=abc",
        "n,,m=ext,n=alice,r=abc",
        "n,,n=alice,r=abc,tokenauth=true",
        "n,,n=alice,r=",
        "n,,n=alice",
        "n,,n=al=ice,r=abc",
        "n,,n=alice,r=a\x00c",
        "",
    ],
)
def test_a_first_message_that_is_malformed_or_acts_for_another_is_refused(first):
    with pytest.raises(AuthenticationFailed):
        exchange().step(first.encode())


def test_who_does_not_exist_is_answered_like_who_does():
    answers = []
    for name in ("alice", "nobody", "nobody", "other", "n=2Cb"):
        login = exchange()
        first = f"n,,n={name},r=abc"
        reply, proven = login.step(first.encode())
        assert proven is None
        fields = dict(part.split("=", 1) for part in reply.decode().split(","))
        answers.append((fields["r"], fields["i"], fields["s"]))
        with pytest.raises(AuthenticationFailed) as raised:
            login.step(proof(first, reply, b"wrong"))
        assert str(raised.value) == sasl_scram.WRONG
    assert answers[1] == answers[2]
    assert answers[2][2] != answers[3][2]
    assert len({(nonce, rounds) for nonce, rounds, _ in answers}) == 1


def shown(name, users, secret=SECRET, mechanism=SHA_256):
    """(iterations, salt) that anyone is told who says that name."""
    login = ScramExchange(mechanism, Users(users, secret), lambda: "servernonce")
    reply, _ = login.step(f"n,,n={name},r=abc".encode())
    fields = dict(part.split("=", 1) for part in reply.decode().split(","))
    return int(fields["i"]), base64.b64decode(fields["s"])


def crowd(plan, mechanism=SHA_256):
    """Users of each (iterations, bytes of salt), as many as the plan says."""
    key = b"k" * 32
    return {
        (f"user-{iterations}-{size}-{number}", mechanism): sasl_scram.ScramCredential(
            iterations, number.to_bytes(2) * (size // 2), key, key
        )
        for (iterations, size), count in plan.items()
        for number in range(count)
    }


def test_who_does_not_exist_is_told_numbers_as_those_who_do_have_them():
    plan = {(4096, 24): 60, (8192, 24): 30, (16384, 32): 10}
    users = crowd(plan)
    told = Counter()
    for number in range(2_000):
        rounds, salt = shown(f"nobody-{number}", users)
        told[rounds, len(salt)] += 1
    assert told.keys() == plan.keys()
    for shape, count in plan.items():
        assert told[shape] == pytest.approx(count * 20, abs=100), told


def test_what_is_told_of_who_does_not_exist_is_the_same_on_every_node_and_changes_with_few_users():
    users = crowd({(4096, 24): 40, (8192, 24): 40})
    names = [f"nobody-{number}" for number in range(200)]
    before = {name: shown(name, users) for name in names}
    assert before == {name: shown(name, dict(reversed(users.items()))) for name in names}
    assert len({salt for _, salt in before.values()}) == len(names)
    more = users | crowd({(8192, 24): 42})
    moved = sum(shown(name, more) != before[name] for name in names)
    assert moved <= 6, "two users more let few names be told another number"
    assert all(shown(name, users, b"another cluster's") != before[name] for name in names)


def test_mechanisms_are_told_apart_by_their_own_users():
    users = crowd({(8192, 24): 3}, SHA_512)
    assert shown("nobody", users)[0] == sasl_scram.MIN_ITERATIONS
    assert shown("nobody", users, mechanism=SHA_512)[0] == 8192
    assert shown("nobody", {}) != shown("nobody", users, mechanism=SHA_512)


def test_what_is_kept_shows_nothing_of_itself():
    assert "salt" not in repr(kept())
    assert repr(kept()) == "ScramCredential(…)"


def login_of(now, max_session_ms=0):
    return Login({SHA_256: exchange}, now_ms=lambda: now[0], max_session_ms=max_session_ms)


def log_in(login, password=b"pencil"):
    assert login.handshake(SHA_256).failure is None
    first = "n,,n=alice,r=abc"
    step = login.authenticate(first.encode())
    return login.authenticate(proof(first, step.reply, password))


def test_a_session_ends_and_is_renewed_by_the_same_principal_only():
    now = [1000]
    login = login_of(now, max_session_ms=5000)
    step = log_in(login)
    assert (step.error, step.lifetime_ms) == (ErrorCode.NONE, 5000)
    now[0] += 4999
    assert not login.expired
    assert log_in(login).lifetime_ms == 5000
    now[0] += 4999
    assert not login.expired
    now[0] += 1
    assert login.expired


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([("handshake", "PLAIN")], ErrorCode.UNSUPPORTED_SASL_MECHANISM),
        ([("authenticate", b"")], ErrorCode.ILLEGAL_SASL_STATE),
        ([("handshake", SHA_256), ("handshake", SHA_256)], ErrorCode.ILLEGAL_SASL_STATE),
        ([("handshake", SHA_256), ("authenticate", b"x")], ErrorCode.SASL_AUTHENTICATION_FAILED),
    ],
)
def test_a_login_out_of_order_fails_and_says_no_more_than_that(steps, error):
    login = login_of([0])
    for name, argument in steps:
        step = getattr(login, name)(argument)
    assert step.error is error
    assert step.failure is not None
    assert step.message in {None, "the login failed"}


def test_a_wrong_password_is_told_like_any_other_fault():
    step = log_in(login_of([0]), b"wrong")
    assert (step.error, step.message) == (
        ErrorCode.SASL_AUTHENTICATION_FAILED,
        "the login failed",
    )
    assert step.proven is None
