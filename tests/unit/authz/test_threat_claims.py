"""Each claim of the threat model names modules and tests that exist; no class is passed over."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODEL = tomllib.loads((ROOT / "threat-model" / "claims.toml").read_text(encoding="utf-8"))
CLASSES = {row["name"]: row for row in MODEL["class"]}
CLAIMS = MODEL["claim"]


def test_claims_have_ids_of_their_own_and_say_all_they_must() -> None:
    ids = [claim["id"] for claim in CLAIMS]
    assert len(ids) == len(set(ids))
    for claim in CLAIMS:
        assert set(claim) == {"id", "class", "statement", "modules", "tests", "limits"}, claim["id"]
        assert claim["modules"], claim["id"]
        assert claim["tests"], claim["id"]


def test_every_class_has_a_claim_or_says_why_not() -> None:
    claimed = {claim["class"] for claim in CLAIMS}
    assert claimed <= set(CLASSES)
    for name, row in CLASSES.items():
        assert ("gap" in row) != (name in claimed), name
        assert row["published"], name


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["id"])
def test_what_a_claim_names_exists(claim: dict[str, list[str]]) -> None:
    for module in claim["modules"]:
        assert (ROOT / module).is_file() or (ROOT / module / "__init__.py").is_file(), module
    for node in claim["tests"]:
        path, _, function = node.partition("::")
        assert (ROOT / path).is_file(), node
        assert function in _tests_of(ROOT / path), node


def _tests_of(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}
