"""A custodian at the command line: rotates, re-wraps, retires, shreds, checks what was signed."""

import json
import stat

import pytest

pytestmark = pytest.mark.system

OWN_KEY = "memorystreamer.key.domain=topic"


def done(result):
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def key(appliance, *arguments, token=True, **options):
    more = ["--custodian", appliance.client("custodian", "toml")] if token else []
    if token:
        more += ["--token-file", str(appliance.directory / "openbao" / "custodian.token")]
    return appliance.command("key", *arguments, *more, **options)


def status(appliance):
    return {each["topic"]: each for each in json.loads(done(key(
        appliance, "status", "--json", token=False)))}  # fmt: skip


def test_keys_are_rotated_and_wrapped_anew_while_topics_stay_readable(quickstart):
    topic = "rotated"
    done(quickstart.command("topic", "create", topic, "--setting", OWN_KEY))
    done(quickstart.command("produce", topic, input=b"before\n"))
    before = status(quickstart)[topic]
    assert before["wraps"] == {str(before["newest_version"]): 1}
    assert "within 60 s" in done(key(quickstart, "rotate", "--topic", topic))
    newest = status(quickstart)[topic]["newest_version"]
    assert newest == before["newest_version"] + 1
    assert "data key(s) anew" in done(key(quickstart, "rewrap", "--raise-minimum"))
    after = status(quickstart)[topic]
    assert (set(after["wraps"]), after["oldest_version"]) == ({str(newest)}, newest)
    done(quickstart.command("produce", topic, input=b"after\n"))
    read = done(quickstart.command("consume", topic, "--exit-at-end"))
    assert read == "before\nafter\n"


def test_a_shredded_topic_is_empty_and_its_certificate_speaks_for_itself(quickstart, tmp_path):
    topic, certificate = "shredded", tmp_path / "certificate.json"
    done(quickstart.command("topic", "create", topic, "--setting", OWN_KEY))
    done(quickstart.command("produce", topic, input=b"secret\n"))
    asked = key(quickstart, "shred", "--topic", topic, "--certificate", str(certificate))
    assert asked.returncode == 2
    assert b"--yes" in asked.stderr
    done(key(quickstart, "shred", "--topic", topic, "--certificate", str(certificate), "--yes"))
    authority = quickstart.client("ca", "pem")
    said = done(quickstart.command("key", "verify-certificate", certificate, "--ca", authority))
    assert json.loads(said)["topic"] == topic
    again = tmp_path / "again.json"
    done(quickstart.command("key", "certificate", "--topic", topic, "--certificate", again))
    forged = json.loads(again.read_text())
    forged["statement"] = forged["statement"].replace(topic, "other")
    again.write_text(json.dumps(forged))
    refused = quickstart.command("key", "verify-certificate", again, "--ca", authority)
    assert refused.returncode == 1
    assert b"changed" in refused.stderr
    done(quickstart.command("produce", topic, input=b"new\n"))
    assert done(quickstart.command("consume", topic, "--exit-at-end")) == "new\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("rotate", "--topic", "no-such-topic"), 2, b"no key of its own"),
        (("shred", "--topic", "in-the-clusters-domain", "--yes"), 1, b"key domain"),
    ],
)
def test_what_cannot_be_done_says_so_and_does_nothing(quickstart, tmp_path, arguments, code, says):
    quickstart.command("topic", "create", "in-the-clusters-domain")
    result = key(quickstart, *arguments, cwd=tmp_path)
    assert result.returncode == code
    assert says in result.stderr
    assert result.stderr.count(b"\n") == 1
    assert not any(tmp_path.iterdir())


def test_keys_are_an_administrators_and_tokens_are_not_for_others_to_read(quickstart, tmp_path):
    token = tmp_path / "token"
    token.write_text("s.0000000000canary")
    token.chmod(0o644)
    file = ("--custodian", quickstart.client("custodian", "toml"), "--token-file", str(token))
    open_to_all = quickstart.command("key", "rotate", *file)
    assert open_to_all.returncode == 2
    assert b"chmod 600" in open_to_all.stderr
    token.chmod(0o600)
    wrong = quickstart.command("key", "rotate", *file)
    assert wrong.returncode == 1
    assert b"custodian's token" in wrong.stderr
    assert b"canary" not in wrong.stderr + open_to_all.stderr
    producer = quickstart.command("key", "status", principal="producer")
    assert producer.returncode == 1
    assert b"not allowed" in producer.stderr
    held = quickstart.directory / "openbao" / "custodian.token"
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
