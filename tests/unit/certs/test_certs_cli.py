"""The command line of the certificate tooling, as an administrator uses it."""

from pathlib import Path

import pytest
from certs_tooling import cli


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *line: str) -> str:
    monkeypatch.setattr("sys.argv", ["memorystreamer-certs", *line])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return f"{ended.value.code or 0}|{captured.out}{captured.err}"


def test_issue_list_and_revoke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORYSTREAMER_CERTS_DIR", str(tmp_path / "ca"))
    out = str(tmp_path / "out")
    assert run(capsys, monkeypatch, "init").startswith("0|")
    node = ("issue", "node", "1", "--host", "localhost", "--host", "127.0.0.1", "--out", out)
    assert run(capsys, monkeypatch, *node).startswith("0|")
    assert run(capsys, monkeypatch, "issue", "client", "alice", "--out", out).startswith("0|")
    assert {p.name for p in Path(out).iterdir()} == {
        "node-1.pem",
        "node-1-key.pem",
        "alice.pem",
        "alice-key.pem",
    }
    entry = cli.Authority.open(tmp_path / "ca").list()[1]
    assert "revoked client alice" in run(capsys, monkeypatch, "revoke", entry.serial)
    listed = run(capsys, monkeypatch, "list")
    assert "alice" in listed
    assert "revoked" in listed


def test_errors_are_one_line_that_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run(capsys, monkeypatch, "list", "--dir", str(tmp_path))
    assert said.startswith("1|memorystreamer-certs: ")
    assert "memorystreamer-certs init" in said
    assert said.count("\n") == 1
