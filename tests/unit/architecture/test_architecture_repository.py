"""The repository as rules: its folders, its image, its unit, and what its documents promise."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from appliance.cli.main import NOUNS, application
from appliance.cli.quickstart.openbao_setup import CUSTODIAN_POLICY, NODE_POLICY
from appliance.config import NodeConfig, parse

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "policies/*.md", "threat-model/*.md", "fuzz/*.md")
    for path in ROOT.glob(pattern)
)
FOLDERS = {
    "appliance",
    "bench",
    "certs-tooling",
    "deploy",
    "docs",
    "fuzz",
    "policies",
    "tests",
    "threat-model",
}
FILES = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
}


def project() -> dict[str, list[str]]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"dependencies": table["dependencies"], **table["optional-dependencies"]}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[><=;\[ ]", line)[0].lower() for line in requirements}


def locked(name: str) -> set[str]:
    text = (ROOT / "deploy" / "locks" / f"{name}.lock").read_text()
    return set(re.findall(r"(?m)^([a-z0-9._-]+)==", text))


def test_the_top_level_is_the_fixed_one() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    top = {line.split("/")[0] for line in tracked if line and not line.startswith(".")}
    if top:
        assert top == FOLDERS | FILES
    assert {name for name in FOLDERS if not any((ROOT / name).iterdir())} == set()


def test_the_production_lock_holds_every_dependency_and_no_tool() -> None:
    production = locked("production")
    assert names(project()["dependencies"]) <= production
    assert names(project()["quickstart"]) & production == set()
    assert {"pytest", "mypy", "ruff", "confluent-kafka", "atheris"} & production == set()
    hashed = (ROOT / "deploy/locks/production.lock").read_text().count("--hash=sha256:")
    assert hashed >= len(production)


def stages() -> list[list[str]]:
    """The Dockerfile's instructions, one list a stage; comments and continuations resolved."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM "):
            found.append([])
        if found:
            found[-1].append(line)
    return found


def test_the_image_s_last_stage_has_no_shell_no_root_and_runs_nothing() -> None:
    build, last = stages()
    assert any("--require-hashes" in line and "production.lock" in line for line in build)
    assert "distroless" in (ROOT / "Dockerfile").read_text()
    assert not any(line.startswith("RUN") for line in last)
    (user,) = [line for line in last if line.startswith("USER ")]
    assert user.split()[1].split(":")[0] not in {"0", "root"}
    for form in ("ENTRYPOINT", "CMD"):
        (line,) = [line for line in last if line.startswith(form)]
        assert line.split(maxsplit=1)[1].startswith("["), "the shell form needs a shell"


def test_the_image_carries_neither_the_trial_key_server_nor_the_tests() -> None:
    copied = " ".join(line for stage in stages() for line in stage if line.startswith("COPY"))
    assert "development.lock" not in copied
    assert "tests" not in copied
    for source in re.findall(r"COPY ([a-z][^ ]*)", copied):
        assert (ROOT / source).exists()


def example() -> NodeConfig:
    return parse((ROOT / "deploy/node.toml").read_text(), base=Path("/etc/memorystreamer"))


def test_the_example_configuration_is_accepted_and_is_the_strict_one() -> None:
    config = example()
    assert not config.topics.auto_create
    assert config.keys.vault is not None
    assert config.keys.vault.key_exchange == "required"
    assert config.tls.crl is not None


def test_the_unit_and_the_example_agree() -> None:
    unit = (ROOT / "deploy/memorystreamer.service").read_text()
    vault = example().keys.vault
    assert vault is not None
    assert vault.approle is not None
    credential, place = re.findall(r"(?m)^LoadCredential=([^:]+):(.+)$", unit)[0]
    assert (
        vault.approle.secret_id_file == Path("/run/credentials/memorystreamer.service") / credential
    )
    assert place.startswith("/etc/memorystreamer/")
    for line in ("LimitCORE=0", "NoNewPrivileges=yes", "ProtectSystem=strict", "UMask=0077"):
        assert line in unit.splitlines()


@pytest.mark.parametrize(
    ("file", "policy"),
    [("vault-policy.hcl", NODE_POLICY), ("vault-custodian-policy.hcl", CUSTODIAN_POLICY)],
)
def test_a_vault_policy_to_deploy_is_the_one_that_the_quickstart_proves(
    file: str, policy: str
) -> None:
    text = (ROOT / "deploy" / file).read_text()
    bare = [line for line in text.splitlines() if not line.startswith("#")]
    assert bare == policy.strip().splitlines()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_commands_and_options_that_exist(document: Path) -> None:
    command = get_command(application([]))
    makefile = (ROOT / "Makefile").read_text()
    text = document.read_text()
    for line in re.findall(r"(?m)(?:^    |^\$ |`)(memorystreamer [^`\n|]*)", text):
        words = line.split("#")[0].split()[1:]
        if not words or not re.fullmatch(r"[a-z]+", words[0]):
            continue
        assert words[0] in NOUNS, line
        check(command, words, line)
    for target in re.findall(r"`make ([a-z]+)", text):
        assert re.search(rf"(?m)^{target}:", makefile), target


def check(command: object, words: list[str], line: str) -> None:
    """Follows the words through the groups, then looks each option up."""
    while words and isinstance(commands := getattr(command, "commands", None), dict):
        if words[0] not in commands:
            assert words[0].startswith(("-", "…", "...")), line
            return
        command, words = commands[words[0]], words[1:]
    known = {option for found in getattr(command, "params", []) for option in found.opts}
    for word in words:
        option = word.split("=")[0].strip("[],")
        if option.startswith("--"):
            assert option in known | {"--help"}, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_link_to_files_that_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_readme_gives_a_reason_for_every_dependency() -> None:
    rows = re.findall(
        r"(?m)^\| \[?`?([A-Za-z0-9_.-]+)`?\]?[^|]*\| [^|]+ \|$", (ROOT / "README.md").read_text()
    )
    listed = {row.lower() for row in rows}
    assert names(project()["dependencies"]) <= listed


def test_decision_records_have_a_number_each_and_the_same_parts() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert len(numbers) == len(set(numbers))
    for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"):
        text = path.read_text()
        for heading in ("## Context", "## Decision", "## Rejected", "## Consequences"):
            assert heading in text, (path.name, heading)
