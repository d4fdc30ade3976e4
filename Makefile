# Development commands; `make help` lists them. ARGS="..." is passed to the command that a target runs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# One environment for service, workers and development tools. It is rebuilt when one of these files changes.
INSTALLED := $(VENV)/.installed-$(shell cat pyproject.toml setup.py constraints.txt | cksum | tr ' ' '-')
FASHION_MNIST := /usr/share/datasets/fashion-mnist

.PHONY: help env demo test integration slow check docs up bench chaos fuzz sbom

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(INSTALLED) ## Create the environment in .venv (other targets do so when needed)

demo: $(INSTALLED) ## Run a search on real images through the whole service: a front, a picture, a checkpoint
	@$(BIN)/paretofit demo $(ARGS)

test: $(INSTALLED) ## Run the fast tests, with real PostgreSQL, Redis, API and workers
	@$(BIN)/pytest -n 3 $(ARGS)

integration: $(INSTALLED) ## Run the long scenarios: documentation, browser, every method, every export, faults
	@$(BIN)/pytest -m 'integration and not slow' $(ARGS)

slow: $(INSTALLED) ## Run more networks and sizes of the cases in `make test`
	@$(BIN)/pytest -m slow $(ARGS)

check: $(INSTALLED) docs ## Check format, lint, types, imports, documentation and, if there is a network, vulnerabilities
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python .ci/import_root.py
	@$(BIN)/mypy
	@$(BIN)/python .ci/import_root.py lint-imports --config ../../pyproject.toml
	@$(BIN)/python .ci/audit.py

docs: $(INSTALLED) ## Build the documentation in build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

up: $(INSTALLED) ## Run the service in the foreground until Ctrl-C
	@$(BIN)/paretofit up $(ARGS)

bench: $(INSTALLED) ## Run all benchmarks, or one with NAME=
	@failed=0; \
	for name in $(or $(NAME),$(filter-out __init__ harness searches,$(basename $(notdir $(wildcard benchmarks/*.py))))); do \
	  $(BIN)/python -m "benchmarks.$$name" $(ARGS) || failed=1; \
	done; \
	exit "$$failed"

chaos: $(INSTALLED) ## Kill, stop and restart processes under load for SECONDS=600 with SEED=1, then check the invariants
	@$(BIN)/python -m tests.chaos --seconds "$(or $(SECONDS),600)" --seed "$(or $(SEED),1)" $(ARGS)

fuzz: $(INSTALLED) ## Search for input that breaks the service, FUZZ=20 times as long as the tests
	@FUZZ="$(or $(FUZZ),20)" $(BIN)/pytest -n0 -m 'not slow' -o timeout=0 tests/test_parsers.py tests/api/test_openapi.py $(ARGS)

sbom: $(INSTALLED) ## Write the installed packages to sbom.json (CycloneDX)
	@$(BIN)/python .ci/sbom.py sbom.json

$(INSTALLED):
	@python=""; \
	for found in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if "$$found" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$found"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Paretofit needs Python 3.11 or newer with venv: 'apt-get install python3-venv', or 'make PYTHON=/path/to/python'" >&2; exit 1; \
	fi; \
	wanted="$$([ -d $(FASHION_MNIST) ] || echo dataset-fashion-mnist) $$(command -v chromium >/dev/null || echo chromium)"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  install="timeout 150 apt-get -qq -y -o DPkg::Lock::Timeout=10 install --no-install-recommends"; \
	  for package in $$wanted; do \
	    { $$install $$package || { timeout 60 apt-get -qq update && $$install $$package; }; } </dev/null >/dev/null 2>&1 || true; \
	  done; \
	fi; \
	echo "installing into $(VENV) (once; a minute or two) ..." >&2; \
	"$$python" -m venv $(VENV) >&2; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile \
	  -c constraints.txt -e '.[server,worker,export,tracing,pandas,docs,dev]' >&2; \
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true; \
	$(BIN)/python .ci/import_root.py; \
	rm -f $(VENV)/.installed-*; \
	touch $@
