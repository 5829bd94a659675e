"""`memorystreamer key` and `storage` as typed: what they say, ask, refuse, and how they end."""

import json

import pytest
from typer.testing import CliRunner

from appliance.cli.main import application
from appliance.errors import ConfigurationError

KEY = {
    "status": ("--json",),
    "rotate": ("--topic", "--custodian", "--token-file"),
    "rewrap": ("--raise-minimum", "--custodian", "--token-file"),
    "rekey": ("--topic", "--resume", "--custodian", "--token-file"),
    "shred": ("--topic", "--yes", "--certificate", "--custodian", "--token-file"),
}
STORAGE = {"verify": ("--config", "--json"), "inspect": ("--config", "--json")}
MISUSED, FAILED = 2, 1


def said(*arguments, given=None):
    """(exit code, everything that was printed)."""
    result = CliRunner().invoke(application(arguments), arguments, input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def custodian(tmp_path):
    """A custodian's files that are in order, of a Vault that is not there."""
    file, token = tmp_path / "custodian.toml", tmp_path / "token"
    file.write_text(
        'address = "https://127.0.0.1:1"\nca = "ca.pem"\n'
        'cluster = "2f9d1f0e-7c55-4a0e-8a43-9f1f5c0b6d11"\n'
    )
    token.write_text("s.canary")
    token.chmod(0o600)
    return "--custodian", str(file), "--token-file", str(token)


@pytest.mark.parametrize(
    ("group", "command", "options"),
    [
        *(("key", command, options) for command, options in KEY.items()),
        *(("storage", command, options) for command, options in STORAGE.items()),
    ],
)
def test_help_says_what_each_command_does_and_takes(group, command, options):
    code, text = said(group, command, "--help")
    assert code == 0
    for option in options:
        assert option in text
    listed = said(group, "--help")[1]
    assert command in listed


@pytest.mark.parametrize("command", KEY)
def test_a_profile_that_is_not_there_is_named(tmp_path, custodian, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = () if command == "status" else custodian
    more += ("--topic", "secret", "--yes") if command == "shred" else ()
    missing = tmp_path / "nowhere.toml"
    code, text = said("key", command, *more, "--profile", str(missing))
    assert code == MISUSED
    assert "nowhere.toml" in text
    assert text.count("\n") == 1
    assert "canary" not in text


@pytest.mark.parametrize("command", ["rotate", "rekey", "shred"])
def test_what_a_custodian_does_needs_the_custodians_file(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ("--topic", "secret", "--yes") if command == "shred" else ()
    code, text = said("key", command, *more)
    assert (code, "--custodian" in text) == (MISUSED, True)


def test_shredding_is_not_begun_by_a_script_that_does_not_say_yes(tmp_path, custodian, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = said("key", "shred", "--topic", "secret", *custodian)
    assert code == MISUSED
    assert "--yes" in text


@pytest.mark.parametrize(("typed", "goes_on"), [("secret", True), ("other", False), ("", False)])
def test_the_topics_name_is_asked_for_again(tmp_path, custodian, monkeypatch, typed, goes_on):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("appliance.cli.shred._is_asked", lambda: True)
    missing = str(tmp_path / "nowhere.toml")
    code, text = said(
        "key", "shred", "--topic", "secret", *custodian, "--profile", missing, given=f"{typed}\n"
    )
    assert code != 0
    assert "Type the topic's name again" in text
    assert ("nowhere.toml" in text) is goes_on


def test_a_certificate_is_not_written_over_another(tmp_path, custodian, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shredded-secret.json").write_text("kept")
    code, text = said("key", "shred", "--topic", "secret", "--yes", *custodian)
    assert (code, "--certificate" in text) == (MISUSED, True)
    assert (tmp_path / "shredded-secret.json").read_text() == "kept"


def test_a_token_that_others_can_read_is_refused(tmp_path, custodian, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").chmod(0o640)
    code, text = said("key", "rekey", *custodian)
    assert (code, "chmod 600" in text) == (MISUSED, True)


@pytest.mark.parametrize("content", ["{}", "no json", json.dumps({"statement": "x"})])
def test_what_is_no_certificate_is_refused(tmp_path, content):
    file, ca = tmp_path / "certificate.json", tmp_path / "ca.pem"
    file.write_text(content)
    ca.write_text("no authority")
    code, text = said("key", "verify-certificate", str(file), "--ca", str(ca))
    assert code == FAILED
    assert text.count("\n") == 1


@pytest.mark.parametrize("command", STORAGE)
def test_a_directory_without_a_configuration_is_refused(tmp_path, command):
    arguments = ("storage", command, str(tmp_path))
    result = CliRunner().invoke(application(arguments), arguments)
    assert isinstance(result.exception, ConfigurationError)  # `main` makes a line and a 2 of it
    assert "--config" in str(result.exception)
