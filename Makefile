# Everything a fresh machine needs: `make demo` and `make test` do all their own set-up.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# Another index for torch alone, for those who want its CPU build: make setup TORCH_INDEX=https://...
TORCH_INDEX ?=
# Tests at a time.
JOBS ?= 2
# The first of these that runs and is new enough.
PYTHONS := python3.11 python3.12 python3.13 python3
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Small models on few cores: a second thread costs more than it gives.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help setup test test-slow test-all lint format demo examples bench bench-smoke docs wheel clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Prepare .venv with the pinned versions; does nothing where it is ready

# torch comes first and alone, so that no other package can choose its build.
# Modules are compiled when first imported: most of them never are, and compiling all takes a minute.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer was found: install one, or name it: make setup PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt hatchling editables
	@$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

test: $(READY)  ## The test suite without the slow tests (tests/slow.py)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "not slow and not long and not benchmark"

test-slow: $(READY)  ## The slow tests
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "slow and not long and not benchmark"

test-all: $(READY)  ## Every test, and every benchmark in small
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

lint: $(READY)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)  ## Rewrite the sources in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: $(READY)  ## Make data, train, evaluate, explain: about a minute
	@$(BIN)/sensorium demo

examples: $(READY)  ## Run every example
	@for e in examples/*.py; do echo "── $$e"; $(BIN)/python "$$e"; done

bench: $(READY)  ## Measure speed and memory
	$(BIN)/python -m benchmarks

bench-smoke: $(READY)  ## The same, small: does it still run?
	$(BIN)/python -m benchmarks --smoke

docs: $(READY)  ## Write docs/reference from the code
	$(BIN)/python docs/generate.py

wheel: $(READY)  ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .
	@ls dist/*.whl

clean:  ## Remove everything that was made here, .venv too
	rm -rf $(VENV) dist build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
