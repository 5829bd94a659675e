"""Over the syntax tree: one constructor of proofs, one importer of Casbin, no code from text."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "appliance"
MODULES = sorted(ROOT.rglob("*.py"))


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in MODULES:
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)
    }


def test_only_the_gate_constructs_a_proof() -> None:
    constructing = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_authorized(node.func)
    }
    assert constructing == {"authz/gate.py"}


def _is_authorized(function: ast.expr) -> bool:
    target = function.value if isinstance(function, ast.Subscript) else function
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", None)
    return name == "Authorized"


def test_nobody_goes_around_the_constructor() -> None:
    for name, tree in trees():
        if name == "authz/gate.py":
            continue
        names = names_in(tree)
        assert "_TOKEN" not in names, name
        if "Authorized" in names:
            assert not names & {"__new__", "_token", "_snapshot", "_asker", "_request"}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                assert not any("Authorized" in names_in(base) for base in node.bases), name


def test_only_the_enforcer_imports_casbin() -> None:
    importing = set()
    for name, tree in trees():
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            if any(module.split(".")[0] == "casbin" for module in modules):
                importing.add(name)
    assert importing == {"authz/enforcer.py"}


@pytest.mark.parametrize("package", ["authz", "audit"])
def test_no_text_becomes_code(package: str) -> None:
    for name, tree in trees():
        if name.startswith(f"{package}/"):
            called = {
                node.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not called & {"eval", "exec", "compile", "__import__", "import_module"}, name
            assert "pickle" not in names_in(tree), name
