# One command for each habit. Everything works on a fresh clone with Python 3.11+ and the package registries.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.installed
STAMP := $(VENV)/.installed-test
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Every start of the command and of a worker would compile all of it anew where the environment says so.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint bench bench-net bench-privacy bench-agentdojo bench-tasks escape docs clean install

install: $(STAMP)

$(BASE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(STAMP): $(BASE)
	$(PIP) --editable '.[test]'
	@touch $@

demo: $(BASE)
	$(BIN)/agentos demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $$(( $$(nproc) * 3 / 2 )) --dist worksteal  # many tests wait for processes

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m bench

bench-net: $(STAMP)
	$(BIN)/python -m bench.net

bench-privacy: $(STAMP)
	$(BIN)/python -m bench.privacy

bench-agentdojo: $(STAMP)
	$(BIN)/python -m bench.agentdojo

bench-tasks: $(STAMP)
	$(BIN)/python -m bench.tasks

escape: $(STAMP)
	$(BIN)/python -m tests.e2e.escape

docs: $(STAMP)
	$(BIN)/agentos policy schema > agent_os/policy/policy.schema.json

clean:
	rm -rf $(VENV) build dist demo-output
