# Every target does its own set-up: `make repro` on a bare machine with Python 3.11+, make and git is enough.
# uv is used where it is installed, pip otherwise.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro test test-quick lint bench docs serve lock

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /	/'

# DVC runs the experiments of a queue in other folders, so it needs the absolute path of its site cache
setup: .venv/ready ## create .venv with the locked requirements and say which devices there are
	@grep -qsF "$(CURDIR)/.dvc/tmp/site" .dvc/config.local || \
		dvc config --quiet --local core.site_cache_dir "$(CURDIR)/.dvc/tmp/site"
	@$(BIN)/python -m src.training.devices

# jieba and antlr4-python3-runtime exist as source only; the locked setuptools builds them, not the newest one
BUILD_TOOLS := awk '/^[^ ]/ {wanted = /^setuptools==/} wanted' requirements.lock
INSTALL := install --quiet --require-hashes --no-build-isolation -r

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "installing the locked packages into .venv: about 6 GB, some minutes"
	@if command -v uv >/dev/null; then \
		{ test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) .venv; } && \
		$(BUILD_TOOLS) > .venv/build.txt && \
		uv pip $(INSTALL) .venv/build.txt --python $(BIN)/python && \
		uv pip $(INSTALL) requirements.lock --python $(BIN)/python && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		{ test -x $(BIN)/pip || $(PYTHON) -m venv .venv; } && \
		$(BUILD_TOOLS) > .venv/build.txt && \
		$(BIN)/pip $(INSTALL) .venv/build.txt && \
		$(BIN)/pip $(INSTALL) requirements.lock && \
		$(BIN)/pip install --quiet --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

# without their own requirements: see `lock`
.venv/serve-ready: .venv/ready requirements-serve.lock
	@if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-serve.lock; \
	else \
		$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements-serve.lock; \
	fi
	@touch $@

repro: setup ## run what is not up to date of fetch, prepare, train, evaluate, report
	dvc repro
	@echo "the results: file://$(CURDIR)/report.html"

test: setup ## run all tests
	pytest

test-quick: setup ## run the tests that need no second clone and no further processes
	pytest -m "not slow"

lint: setup ## check style, format and types
	ruff check
	ruff format --check
	mypy

bench: setup ## measure speed and memory side by side with hand-written code
	python -m benchmarks.house_prices
	python -m benchmarks.images
	python -m benchmarks.poems
	python -m benchmarks.preparation
	python -m benchmarks.predict
	python -m benchmarks.study
	python -m benchmarks.exactness
	python -m benchmarks.overhead
	python -m benchmarks.pipeline
	python -m benchmarks.imports

docs: setup ## build the documentation as a site: site/index.html
	@# the search cuts Chinese text with jieba, whose cache belongs into a folder of ours
	TMPDIR=$(CURDIR)/.venv NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "the documentation: site/index.html"

serve: .venv/serve-ready ## open a page on this machine that tries every model out
	python -m pipelines.serve

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet

# gradio allows neither dvc's tomlkit, which only its command for new components reads, nor Pillow 13
lock: ## renew the lock files from pyproject.toml (needs uv)
	$(LOCK) pyproject.toml --extra dev -o requirements.lock
	printf 'tomlkit>=0.15\npillow>=12\n' > .venv/override.txt
	echo 'gradio>=6.30' | $(LOCK) - --constraint requirements.lock --override .venv/override.txt -o requirements-serve.lock
