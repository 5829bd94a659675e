"""The architecture as rules over the source: who may import what, how large a file may be."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = (ROOT / "appliance", ROOT / "certs-tooling" / "certs_tooling")
ENTRY_POINTS = ("appliance.cli.main", "certs_tooling.cli")
MAX_LINES = 600
MEDIAN_LINES = 220

SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def module(path: Path) -> str:
    base = ROOT if path.is_relative_to(PACKAGES[0]) else ROOT / "certs-tooling"
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module(path): ast.parse(path.read_text()) for path in SOURCES}


def imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(name: str) -> set[str]:
    """Modules that import `name` or something in it."""
    return {
        source
        for source, tree in TREES.items()
        if any(found == name or found.startswith(f"{name}.") for found in imported_names(tree))
    }


def test_every_module_is_reached_from_an_entry_point() -> None:
    graph = grimp.build_graph("appliance", "certs_tooling", cache_dir=None)
    reached = set(ENTRY_POINTS)
    pending = list(ENTRY_POINTS)
    while pending:
        name = pending.pop()
        parents = {name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)}
        for found in (graph.find_modules_directly_imported_by(name) | parents) - reached:
            reached.add(found)
            pending.append(found)
    assert graph.modules - reached == set()


def test_no_file_is_longer_than_the_ratchet() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert {path.name: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= MEDIAN_LINES


def test_every_module_opens_with_its_purpose() -> None:
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("cryptography.hazmat.primitives.ciphers", {"appliance.crypto.aead"}),
        ("casbin", {"appliance.authz.enforcer"}),
        ("hvac", {"appliance.keys.vault_calls"}),
        ("argon2", {"appliance.keys.local"}),
        ("google_crc32c", {"appliance.wire.kafka.checksum"}),
        ("cramjam", {"appliance.wire.kafka.compression"}),
        ("pickle", set()),
        ("marshal", set()),
        ("shelve", set()),
        ("yaml", set()),
        ("importlib.import_module", set()),
        ("mmap", set()),
        ("asyncio", set()),
        ("ssl", {"appliance.keys.vault_tls", "appliance.authn.token_keys"}),
        ("jwt", {"appliance.authn.sasl_oauthbearer", "appliance.authn.token_keys"}),
    ],
)
def test_single_importers(name: str, allowed: set[str]) -> None:
    assert importers(name) <= allowed


def test_nothing_turns_text_into_code() -> None:
    """No eval, exec, compile or import by name (CVE-2023-25194 is what that leads to)."""
    forbidden = {"eval", "exec", "__import__", "import_module"}
    found = {
        (source, node.func.id)
        for source, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in forbidden
    }
    assert found == set()


def test_only_the_listener_listens() -> None:
    """One module opens listening sockets, so one module decides that they speak TLS.

    The socket for the node's health is no port: it is a file, for the node's user alone.
    """
    listening = {"listen", "open_tcp_listeners", "serve_tcp", "open_unix_listeners"}
    found = {
        source
        for source, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in listening
    }
    assert found <= {
        "appliance.server.listener",
        "appliance.server.health",
        "appliance.cli.quickstart.preflight",
    }


def test_only_the_root_catches_everything() -> None:
    """A broad except hides what broke; the composition root reports it and ends the process."""
    broad = {"Exception", "BaseException"}
    found = {
        source
        for source, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in broad))
        and not any(isinstance(step, ast.Raise) and step.exc is None for step in node.body)
    }
    assert found <= {"appliance.assembly.node"}


def test_promises_survive_optimisation() -> None:
    found = [n for n, t in TREES.items() if any(isinstance(x, ast.Assert) for x in ast.walk(t))]
    assert found == []


def test_siblings_and_layers_are_the_documented_ones() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in contracts["contracts"] if c["type"] == "layers")["layers"]
    listed = {
        name.strip() for layer in layers for part in layer.split("|") for name in part.split(":")
    }
    present = {name.split(".")[1] for name in TREES if name.count(".") >= 1 and name[0] == "a"}
    assert present == listed
