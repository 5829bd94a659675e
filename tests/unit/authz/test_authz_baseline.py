"""The baseline policy says what its table of decisions says, and is found however installed."""

import tomllib
from pathlib import Path

import pytest

from appliance.authz import baseline as module
from appliance.authz.actions import ACTIONS_ON, Action, ResourceKind
from appliance.authz.baseline import baseline_text, model_text
from appliance.authz.enforcer import check
from appliance.errors import ConfigurationError
from appliance.limits import MAX_POLICY_BYTES

POLICIES = Path(__file__).parents[3] / "policies"
TABLE = tomllib.loads((POLICIES / "decisions.toml").read_text())["decision"]
ROWS = [
    (who, action, row["kind"], name, row["allowed"])
    for row in TABLE
    for who in row["who"]
    for action in row["actions"]
    for name in row["names"]
]


def test_the_table_of_expected_decisions_holds(bench, baseline_policy) -> None:
    rig = bench(baseline_policy)
    for who, action, kind, name, allowed in ROWS:
        decision = rig.decide(who, action, kind, name)
        assert decision.allowed is allowed, (who, action, kind, name, decision.rule)


def test_the_table_speaks_of_everyone_and_every_kind() -> None:
    assert {who for who, *_ in ROWS} >= {"admin", "producer", "consumer", "nobody"}
    assert {kind for _, _, kind, *_ in ROWS} == set(ResourceKind)
    assert {(kind, action) for _, action, kind, *_ in ROWS} <= {
        (kind.value, action.value) for kind, actions in ACTIONS_ON.items() for action in actions
    }
    assert {action for _, action, *_ in ROWS} == set(Action)


def test_the_files_are_those_of_the_repository() -> None:
    assert baseline_text() == (POLICIES / "baseline.csv").read_text()
    assert model_text() == (POLICIES / "model.conf").read_text()
    check(baseline_text())


def test_the_wheel_s_copy_comes_first(tmp_path, monkeypatch) -> None:
    (tmp_path / "_policies").mkdir()
    (tmp_path / "_policies" / "baseline.csv").write_text("# of the wheel")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    assert baseline_text() == "# of the wheel"
    assert model_text() == (POLICIES / "model.conf").read_text()


def test_a_missing_file_says_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    monkeypatch.setattr(module, "_IN_CHECKOUT", "nowhere")
    with pytest.raises(ConfigurationError, match="install"):
        baseline_text()


def test_the_examples_of_the_manual_are_policies() -> None:
    manual = (POLICIES / "README.md").read_text()
    example = "\n".join(
        row.strip() for row in manual.split("\n") if row.startswith(("    p,", "    g,"))
    )
    assert example.count("\n") >= 2
    check(example)
    assert len(manual) < MAX_POLICY_BYTES
