# `make help` lists the targets. Everything is installed into .venv. Only `make slurm`, which starts a SLURM, changes anything outside.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# what users need, and what developers need in addition
USER_READY := $(VENV)/.ready-user
DEV_READY  := $(VENV)/.ready-dev
PYTEST     := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test nightly slurm user browser lint lint-code lint-format lint-types lint-layers format docs bench clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1 \t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(USER_READY) ## synthetic NSD -> store -> GNet and fwRF -> a page of figures, in ./demo
	$(BIN)/nsdflow demo --out demo

test: $(DEV_READY) ## all tests but those marked slow, slurm, gpu or browser, in one process more than there are cores, at most 4; PYTEST_ARGS="-k store" for some
	$(PYTEST) --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

nightly: $(DEV_READY) ## the slow tests that `make test` leaves out
	$(PYTEST) -m "slow" $(PYTEST_ARGS)

slurm: $(DEV_READY) ## the tests on real batch jobs, on a SLURM that it starts (root on Debian)
	sh tests/slurm/with_slurm.sh $(PYTEST) -m slurm tests/slurm $(PYTEST_ARGS)

user: .venv-user/.ready ## every command in an environment with only a user's dependencies
	tests/user/every_command.sh .venv-user/bin

browser: $(DEV_READY) ## the tests that open pages in headless Chromium (Debian's chromium and chromium-driver)
	$(PYTEST) -m browser $(PYTEST_ARGS)

lint: lint-code lint-format lint-types lint-layers ## ruff (lint and format), mypy strict, the contract between the layers

lint-code: $(DEV_READY)
	$(BIN)/ruff check .

lint-format: $(DEV_READY)
	$(BIN)/ruff format --check .

lint-types: $(DEV_READY)
	$(BIN)/mypy

lint-layers: $(DEV_READY)
	$(BIN)/lint-imports

format: $(DEV_READY) ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_READY) ## the documentation, into docs/_build/html; a warning is an error
	@rm -rf docs/api/generated docs/api/index.md docs/gallery
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(DEV_READY) ## every benchmark at the size for two cores; the last line of each is one JSON object
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## remove the environment and everything built
	rm -rf $(VENV) .venv-user docs/_build docs/api/generated docs/api/index.md .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --- set-up ---------------------------------------------------------------------------------------------------------

# the pip of Debian and of Python is older than 25.1, and lacks --group
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nsdflow needs Python 3.11 or newer; name it: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "Python's venv is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip

$(USER_READY): pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[hpc,s3]'
	@touch $@

.venv-user/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-user
	.venv-user/bin/python -m pip install --quiet --constraint constraints.txt '.[hpc,s3]'
	@touch $@

$(DEV_READY): pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@ $(USER_READY)
