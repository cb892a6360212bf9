# Every target does its own set-up: `make repro` on a bare machine with Python 3.11+, make and git is enough.
# uv is used where it is installed, pip otherwise.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
UV := $(shell command -v uv 2>/dev/null)
# on a terminal, with progress bars
INSTALL := $(if $(UV),uv pip install --python $(BIN)/python,$(BIN)/pip install) $(shell test -t 2 || echo --quiet)

# The build of torch. cuda: the wheels of PyPI, which contain CUDA on Linux. cpu: the same version from TORCH_INDEX.
# .venv/packages names the build that is installed, which later commands keep.
BUILD := $(shell cat .venv/packages 2>/dev/null || { test -e .venv/ready && echo cuda; })
TORCH ?= $(or $(BUILD),cuda)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ifeq ($(filter cpu cuda,$(TORCH)),)
$(error TORCH is cpu or cuda, not '$(TORCH)')
endif
ifneq ($(TORCH),$(or $(BUILD),$(TORCH)))
$(error .venv has the $(BUILD) build of torch; for the other one: rm -r .venv && make setup TORCH=$(TORCH))
endif

.PHONY: help setup repro test test-quick lint bench docs serve lock

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /	/'

# DVC runs the experiments of a queue in other folders, so it needs the absolute path of its site cache
setup: .venv/ready $(EXTRAS:%=.venv/%-ready) ## create .venv and say what was found; TORCH=cpu leaves CUDA out; EXTRAS= tables (boosted trees), timm (networks of images), transformers (language models), cluster (Ray), s3 (object storage)
	@grep -qsF "$(CURDIR)/.dvc/tmp/site" .dvc/config.local || \
		dvc config --quiet --local core.site_cache_dir "$(CURDIR)/.dvc/tmp/site"
	@# outside a git repository, such as in an unpacked archive, there is nothing to merge
	@git config merge.dvc-lock.driver '$(BIN)/python -m pipelines.merge_lock %O %A %B' 2>/dev/null || true
	@$(BIN)/python -m src.training.devices

# a part of the lock: blocks of a requirement with its hashes
LOCKED = awk '/^[^ ]/ {wanted = $(1)} wanted' requirements.lock
# the pair of the CPU index is pinned by version: its hashes, which differ from PyPI's, are in that index only;
# macOS has no other build
PAIR = $$(awk '/^(torch|torchvision)==/ {print $$1 "$(if $(filter Darwin,$(shell uname)),,+cpu)"}' requirements.lock)
OF_CUDA := /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/
NEEDED := $(if $(filter cpu,$(TORCH)),2.1 GB without CUDA,6.8 GB of which TORCH=cpu would save 4.7)

# packages such as antlr4-python3-runtime exist as source only; the locked setuptools builds them, not the newest one
.venv/packages: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "1/3 the environment .venv, which will take about $(NEEDED)"
	@test -x $(BIN)/$(if $(UV),python,pip) || \
		$(if $(UV),uv venv --quiet --allow-existing --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
	@$(call LOCKED,/^setuptools==/) > .venv/build.txt
	@$(call LOCKED,$(if $(filter cpu,$(TORCH)),!$(OF_CUDA),1)) > .venv/locked.txt
ifeq ($(TORCH),cpu)
	@echo "2/3" $(PAIR) "from $(TORCH_INDEX)"
	@$(INSTALL) --force-reinstall --no-deps $(if $(UV),--default-index,--index-url) $(TORCH_INDEX) $(PAIR) || { \
		echo "error: no CPU build of torch from $(TORCH_INDEX), see above; TORCH_INDEX=URL names a mirror;" \
			"without TORCH=cpu, make setup installs the build with CUDA from PyPI" >&2; exit 2; }
endif
	@echo "2/3 the packages of requirements.lock, some minutes"
	@$(INSTALL) --require-hashes --no-deps -r .venv/build.txt
	@$(INSTALL) --require-hashes --no-deps --no-build-isolation -r .venv/locked.txt
	@echo $(TORCH) > $@

.venv/ready: .venv/packages pyproject.toml
	@echo "3/3 the project itself"
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@echo "installed: $$(du -sh .venv | cut -f 1) in .venv"
	@touch $@

# an extra, such as .venv/serve-ready; without its own requirements: see `lock`
.venv/%-ready: .venv/packages requirements-%.lock
	@$(INSTALL) --no-deps --require-hashes -r requirements-$*.lock
	@touch $@

repro: setup ## run what is not up to date of fetch, prepare, train, evaluate, report
	dvc repro
	@echo "the results: file://$(CURDIR)/report.html"

# in several processes, each of which takes whole files and up to 2.5 GB
TESTS := pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test: setup ## run all tests
	$(TESTS)

test-quick: setup ## run the tests that need no second clone and no further processes
	$(TESTS) -m "not slow"

lint: setup ## check style, format and types
	ruff check
	ruff format --check
	mypy

bench: setup .venv/serve-ready ## measure speed and memory side by side with hand-written code
	python -m benchmarks.house_prices
	python -m benchmarks.images
	python -m benchmarks.pictures
	python -m benchmarks.poems
	python -m benchmarks.preparation
	python -m benchmarks.corpus
	python -m benchmarks.shards
	python -m benchmarks.large_table
	python -m benchmarks.predict
	python -m benchmarks.study
	python -m benchmarks.exactness
	python -m benchmarks.overhead
	python -m benchmarks.pipeline
	python -m benchmarks.imports
	python -m benchmarks.api

docs: setup ## build the documentation as a site: site/index.html
	@# the search cuts Chinese text with jieba, whose cache belongs into a folder of ours
	TMPDIR=$(CURDIR)/.venv NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "the documentation: site/index.html"

serve: setup .venv/serve-ready ## open a page on this machine that tries every model out
	python -m pipelines.serve

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet

# torch, of which .venv may have the build for CPUs, and setuptools, which builds packages, stay as they are;
# gradio allows neither dvc's tomlkit, which only its command for new components reads, nor Pillow 13
lock: ## renew the lock files from pyproject.toml (needs uv)
	$(LOCK) pyproject.toml --extra dev -o requirements.lock
	printf 'tomlkit>=0.15\npillow>=12\n' > .venv/override.txt
	printf 'torch>=2; sys_platform == "none"\ntorchvision>=0.20; sys_platform == "none"\n' > .venv/no_torch.txt
	printf 'catboost>=1.2\nlightgbm>=4.6\ntabicl>=2.2\nxgboost-cpu>=3.2; sys_platform != "darwin"\nxgboost>=3.2; sys_platform == "darwin"\n' | \
		$(LOCK) - --constraint requirements.lock --override .venv/no_torch.txt \
		--no-emit-package torch --no-emit-package setuptools -o requirements-tables.lock
	echo 'transformers>=5.24' | $(LOCK) - --constraint requirements.lock -o requirements-transformers.lock
	echo 'timm>=1.0.31' | $(LOCK) - --constraint requirements.lock --override .venv/no_torch.txt \
		--no-emit-package torch --no-emit-package torchvision -o requirements-timm.lock
	echo 'ray[client]>=2.60' | $(LOCK) - --constraint requirements.lock -o requirements-cluster.lock
	echo 'dvc-s3>=3.3' | $(LOCK) - --constraint requirements.lock -o requirements-s3.lock
	echo 'gradio>=6.30' | $(LOCK) - --constraint requirements.lock --override .venv/override.txt -o requirements-serve.lock
