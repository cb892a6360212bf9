# Every target does its own set-up: `make repro` on a bare machine with Python 3.11+, make and git is enough.
# uv is used where it is installed, pip otherwise.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro test lint bench lock

help: ## show the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /	/'

setup: .venv/ready ## create .venv with the locked requirements and say which devices there are
	@$(BIN)/python -m src.shared.devices

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "installing the locked packages into .venv: about 6 GB, some minutes"
	@if command -v uv >/dev/null; then \
		{ test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) .venv; } && \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		{ test -x $(BIN)/pip || $(PYTHON) -m venv .venv; } && \
		$(BIN)/pip install --quiet --require-hashes -r requirements.lock && \
		$(BIN)/pip install --quiet --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

repro: setup ## run what is not up to date of fetch, prepare, train, evaluate, report
	dvc repro
	@echo "the results: report.md"

test: setup ## run all tests
	pytest

lint: setup ## check style, format and types
	ruff check
	ruff format --check
	mypy

bench: setup ## measure speed and memory side by side with hand-written code
	python -m benchmarks.house_prices
	python -m benchmarks.images
	python -m benchmarks.poems
	python -m benchmarks.preparation
	python -m benchmarks.study
	python -m benchmarks.pipeline

lock: ## renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet -o requirements.lock
