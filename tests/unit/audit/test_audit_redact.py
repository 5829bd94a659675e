"""Nothing that a peer chose can forge a line of the audit log, hide in it, or fill it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.events import Denial, Mutation
from appliance.audit.redact import (
    MAX_SHOWN_CHARACTERS,
    MAX_SHOWN_NAMES,
    REDACTED,
    redacted,
    shown,
)


@given(st.text(max_size=600))
def test_what_is_shown_is_one_printable_bounded_line(text: str) -> None:
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= 10 * MAX_SHOWN_CHARACTERS + 16


@given(st.text(max_size=60), st.text(max_size=60))
def test_escapes_are_unambiguous(one: str, other: str) -> None:
    if REDACTED not in shown(one) and REDACTED not in shown(other):
        assert (shown(one) == shown(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\nforged", "a\\x0d\\x0aforged"),
        ("nul\x00", "nul\\x00"),
        ("\x1b[2J", "\\x1b[2J"),
        ("turned\u202eback", "turned\\u202eback"),
        ("hidden\u200b", "hidden\\u200b"),
        ("line\u2028sep", "line\\u2028sep"),
        ("\udc80", "\\udc80"),
        ("\\x0a", "\\\\x0a"),
        ("grün", "grün"),
    ],
)
def test_controls_become_escapes(text: str, line: str) -> None:
    assert shown(text) == line


@pytest.mark.parametrize(
    "secret",
    [
        "hvs.CAESICanaryCanaryCanary",
        "s.CanaryCanaryCanaryCanary1",
        "vault:v1:CanaryCanaryCanary==",
        "-----BEGIN PRIVATE KEY-----\nCanary\n-----END PRIVATE KEY-----",
        "password=Canary",
        "Token: Canary",
        "eyJhbGciOiJub25lIn0.Canary.Canary",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(secret: str) -> None:
    assert "Canary" not in shown(f"before {secret}")
    assert REDACTED in shown(f"before {secret}")


def test_every_string_of_an_event_is_made_safe() -> None:
    event = Denial(
        listener="kafka\n",
        address="::1\n",
        principal="User:a\n",
        request="Fetch\n",
        code=29,
        rule="line 1\n",
        policy_version=1,
        resource_kind="TOPIC\n",
        resource="demo\n",
        client_id="c\n",
    )
    safe = redacted(event)
    assert "\n" not in repr(safe).replace("\\\\n", "")
    assert safe.resource == "demo\\x0a"
    assert safe.code == 29


def test_a_list_of_names_is_bounded_and_says_what_it_leaves_out() -> None:
    names = tuple(f"t{number}\n" for number in range(MAX_SHOWN_NAMES + 9))
    event = Mutation(
        listener="kafka",
        address="::1",
        principal="User:a",
        request="DeleteTopics",
        resources=names,
        policy_version=1,
    )
    kept = redacted(event).resources
    assert len(kept) == MAX_SHOWN_NAMES + 1
    assert kept[0] == "t0\\x0a"
    assert kept[-1] == "…(+9)"
