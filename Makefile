# Two commands do everything: `make run` starts the appliance, `make test` checks it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test install lint unit system simulate mutants hostile bench bench-cluster test-clients test-reference fuzz torture lock clean help

help:            ## what each target does
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

run: install     ## start a secured appliance here (ARGS='--dir DIR --kafka-port N')
	@exec $(BIN)/memorystreamer quickstart $(ARGS)

test: lint unit system  ## lint, types, import contracts, security scan, all tests

install: $(VENV)/installed  ## a venv in .venv with hash-locked packages

$(VENV)/installed: pyproject.toml deploy/locks/development.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing hash-locked packages into $(VENV): a minute or two, once"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r deploy/locks/development.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

lint: install    ## ruff, mypy, import contracts, bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --severity-level medium --recursive --configfile pyproject.toml appliance certs-tooling

unit: install    ## tests without processes of their own
	$(BIN)/pytest -q --numprocesses auto --maxprocesses 4 --dist worksteal tests/unit tests/simulation

system: install  ## tests that start the appliance and talk to it with real clients
	$(BIN)/pytest -q tests/system

simulate: install  ## the cluster under faults, seed by seed (ARGS='--tier core --seeds 500')
	$(BIN)/python tests/simulation/simulate.py $(ARGS)

mutants: install  ## deliberate bugs, and the checker that catches each (ARGS='NAME ...')
	$(BIN)/python tests/simulation/mutants.py $(ARGS)

test-clients: install  ## Kafka clients in five languages against an appliance (minutes; writes docs/clients.md)
	$(BIN)/python tests/clients/run.py $(ARGS)

test-reference: install  ## the same requests to a real Apache Kafka and to an appliance (minutes; needs Java and Maven; writes docs/reference.md)
	@$(BIN)/python tests/reference/run.py $(ARGS); code=$$?; test $$code -eq 77 || exit $$code

hostile: install  ## a hostile client against an appliance, and an honest one beside it (ARGS='silent bombs --rounds 3')
	$(BIN)/python tests/hostile/run.py $(ARGS)

bench: install   ## this machine's limits, the appliance, and their ratios
	$(BIN)/python bench/run.py $(ARGS)

bench-cluster: install  ## three nodes at rest and under load, against one node (minutes)
	$(BIN)/python bench/cluster.py $(ARGS)

fuzz: install    ## every parser's harness for a while (ARGS='--seconds 60')
	$(BIN)/python fuzz/run.py $(ARGS)

torture: install  ## crashes, failing disks, kill -9 and whole clusters in trouble (ARGS='cluster --seed 3 --count 20')
	$(BIN)/python tests/torture/run.py $(ARGS)

lock: install    ## resolve the locks again (needs pip-tools' successor `uv` on PATH)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o deploy/locks/production.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra quickstart --extra bench --extra fuzz --extra development pyproject.toml -o deploy/locks/development.lock

clean:           ## remove the venv and caches, never data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
