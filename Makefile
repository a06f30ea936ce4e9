# Every command of a developer. `make help` lists them; `make run` and `make test` are enough for a first look.
#
# Stamps inside what was made say what is up to date, so a target does only what changed; a second `make setup` does nothing.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

HTTP ?= 127.0.0.1:8080
GRPC ?= 127.0.0.1:8081
DATA_DIR ?= .runyard
SEEDS ?= 500
BUG_SEEDS ?= 1000
SEED ?=
KILLS ?= 20
MINUTES ?= 60
JOBS ?= 3
PYTEST_ARGS ?=

# Files of tests run side by side, in the order in which they are collected: most of them wait for processes that they start.
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder
BIN := .venv/bin
UV := $(BIN)/uv
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes: without compiled modules each takes seconds more, and compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

WEB := clients/web
WEB_SOURCES := $(shell test -d $(WEB) && find $(WEB) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -name '*.tsbuildinfo')
DISTRIBUTIONS := protos services clients/python
TYPED_BESIDE := deploy/demo.py protos/generate.py bench/report.py tests/conftest.py tests/simulation tests/robustness tests/e2e \
  $(addprefix tests/integration/,yard.py clickhouse_front.py ingress.py readback.py scripts.py conftest.py test_write_read.py)
PACKAGES_READY := .venv/.packages-ready
PYTHON_READY := .venv/.distributions-ready
PROTOC_READY := .venv-protos/.packages-ready
FRAMEWORKS_TRIED := .venv-integrations/.packages-tried
NODE_READY := $(WEB)/node_modules/.packages-ready
WEB_READY := $(WEB)/dist/index.html
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 $(if $(UPGRADE),--upgrade)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-22s%s\n", $$1, $$2}'
	@echo "  variables: HTTP=HOST:PORT GRPC=HOST:PORT DATA_DIR=DIR (run)  SEEDS=N SEED=N (sim)  KILLS=N (robust)  MINUTES=N (soak)  JOBS=N PYTEST_ARGS=... (tests)"

# ---- set up -----------------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(PYTHON_READY) $(WEB_READY) ## .venv with the three distributions and pinned tools; the web application built

$(PACKAGES_READY): requirements/dev.txt requirements/uv.txt deploy/setup.sh
	@deploy/setup.sh venv .venv requirements/dev.txt
	@touch $@

$(PYTHON_READY): $(PACKAGES_READY) $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	@echo "setup: installing $(DISTRIBUTIONS) as editable"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix -e ./,$(DISTRIBUTIONS))
	@touch $@

$(PROTOC_READY): requirements/protos.txt requirements/uv.txt deploy/setup.sh
	@deploy/setup.sh venv .venv-protos requirements/protos.txt 312
	@touch $@

# Without the frameworks (no network, no wheels for this Python) the tests that need them skip and say why.
$(FRAMEWORKS_TRIED): requirements/integrations.txt requirements/uv.txt deploy/setup.sh deploy/cuda_stubs.py $(addsuffix /pyproject.toml,protos clients/python) | $(PACKAGES_READY)
	@if deploy/setup.sh frameworks .venv-integrations requirements/integrations.txt; then \
	  $(UV) pip install --quiet --python .venv-integrations/bin/python --no-deps --no-build-isolation -e ./protos -e ./clients/python; \
	else echo "setup: the frameworks could not be installed; the tests of integrations will skip"; mkdir -p .venv-integrations; fi
	@touch $@

ifneq ($(wildcard $(WEB)/package-lock.json),)
$(NODE_READY): $(WEB)/package-lock.json | $(PACKAGES_READY)
	@echo "setup: installing the web application's packages (npm ci)"
	@node=$$(deploy/setup.sh node); cd $(WEB) && PATH="$$node:$$PATH" npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(WEB_READY): $(NODE_READY) $(WEB_SOURCES)
	@echo "setup: building the web application"
	@node=$$(deploy/setup.sh node); cd $(WEB) && PATH="$$node:$$PATH" npm run --silent build
	@touch $@
else
.PHONY: $(NODE_READY) $(WEB_READY)
$(NODE_READY) $(WEB_READY):
	@echo "setup: no web application in this checkout yet"
endif

.PHONY: lock
lock: $(PACKAGES_READY) ## write requirements/*.txt again from *.in and the pyprojects (UPGRADE=1: newest versions)
	$(COMPILE) requirements/dev.in -o requirements/dev.txt \
	  --no-emit-package runyard-protos --no-emit-package runyard-server --no-emit-package runyard
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) requirements/protos.in -o requirements/protos.txt
	$(COMPILE) requirements/node.in -o requirements/node.txt
	$(COMPILE) requirements/integrations.in -o requirements/integrations.txt --excludes requirements/integrations-excludes.txt \
	  --no-emit-package runyard-protos --no-emit-package runyard

# ---- run --------------------------------------------------------------------------------------------------------------

.PHONY: run
run: setup ## start everything on this machine, train an example, print its links, serve until Ctrl-C
	@exec $(BIN)/python deploy/demo.py --http=$(HTTP) --grpc=$(GRPC) --data-dir=$(DATA_DIR)

# ---- contracts --------------------------------------------------------------------------------------------------------

.PHONY: protos
protos: $(PYTHON_READY) $(PROTOC_READY) $(NODE_READY) ## regenerate the Python and TypeScript stubs
	@$(BIN)/python protos/generate.py

.PHONY: protos-check
protos-check: $(PYTHON_READY) $(PROTOC_READY) $(NODE_READY) ## fail if stubs differ from the protos; buf lint, format, breaking
	@$(BIN)/python protos/generate.py --check

# ---- checks -----------------------------------------------------------------------------------------------------------

.PHONY: fmt
fmt: $(PYTHON_READY) ## format, and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@cd protos && ../$(BIN)/buf format -w

.PHONY: lint
lint: $(PYTHON_READY) ## ruff, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

.PHONY: types
types: $(PYTHON_READY) ## mypy --strict: the distributions, and the tests' own machinery
	@$(BIN)/mypy
	@$(BIN)/mypy $(TYPED_BESIDE)

.PHONY: quick
quick: $(PYTHON_READY) ## unit, contract and differential tests on embedded stores
	@$(BIN)/pytest tests/unit tests/contract tests/differential $(PYTEST_ARGS)

.PHONY: check
check: lint types protos-check quick ## what to run before each commit

.PHONY: integration
integration: setup ## the services together, in one process and apart
	@$(BIN)/pytest $(PARALLEL) tests/integration $(PYTEST_ARGS)

.PHONY: integrations
integrations: setup $(FRAMEWORKS_TRIED) ## runyard.integration with the real Keras, torch, Lightning, Transformers, XGBoost, LightGBM, TensorBoard
	@$(BIN)/pytest $(PARALLEL) tests/integrations_real $(PYTEST_ARGS)

.PHONY: sim
sim: $(PYTHON_READY) ## simulation under drawn faults (SEEDS=500, or SEED=17 to replay one)
	@RUNYARD_SIM_SEEDS=$(SEEDS) RUNYARD_SIM_SEED=$(SEED) $(BIN)/pytest tests/simulation $(PYTEST_ARGS)

.PHONY: sim-bugs
sim-bugs: $(PYTHON_READY) ## put known bugs back, one at a time, and see that the simulation finds each (BUG_SEEDS=1000)
	@$(BIN)/python -m tests.simulation.known_bugs $(BUG_SEEDS)

.PHONY: robust
robust: setup ## kill -9 of real processes (KILLS=20)
	@RUNYARD_TEST_KILLS=$(KILLS) $(BIN)/pytest $(PARALLEL) tests/robustness $(PYTEST_ARGS)

.PHONY: e2e
e2e: setup browser ## a browser sees a run arrive
	@$(BIN)/pytest tests/e2e $(PYTEST_ARGS)

.PHONY: browser
browser: # Finds Chromium, or installs it where that is possible; without it the browser tests skip and say why.
	@if ! command -v chromium >/dev/null 2>&1 && ! command -v google-chrome >/dev/null 2>&1; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "setup: installing chromium for the browser tests (apt-get)"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	      || echo "setup: chromium could not be installed; the browser tests will skip"; \
	  else echo "setup: no chromium, and no root to install it; the browser tests will skip"; fi; fi

.PHONY: web
web: $(WEB_READY) ## tests of the web application
	@if [ -f $(WEB)/package-lock.json ]; then \
	  node=$$(deploy/setup.sh node); cd $(WEB) && PATH="$$node:$$PATH" npm run --silent test; fi

.PHONY: test
test: setup lint types protos-check browser web $(FRAMEWORKS_TRIED) ## everything: what .ci/run calls
	@RUNYARD_SIM_SEEDS=$(SEEDS) RUNYARD_TEST_KILLS=$(KILLS) $(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS)

.PHONY: soak
soak: setup ## drawn faults against real processes and simulated worlds (MINUTES=60 SEED=N)
	@$(BIN)/python -m tests.robustness.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: setup ## speed as ratios to a baseline of the same run: JSON in bench/out/, and one table
	@$(BIN)/python bench/report.py

.PHONY: clean
clean: ## remove what was built; keeps .venv, node_modules and data
	@rm -rf $(WEB)/dist bench/out tests/out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv*' -not -path '*/node_modules/*' -prune -exec rm -rf {} +
