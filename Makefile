# `make` alone prints the targets. Needs Python 3.11+ and make; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Many tests wait for a worker, so one process more than there are processors is fastest.
PROCESSES := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST_ARGS ?= -n $(PROCESSES) --dist worksteal
# All random examples and all rounds; `make test` runs fewer.
FULL := --hypothesis-profile full
CHAOS_ARGS ?= --rounds 10 --seed 1
REDIS_TESTS := tests/integration/test_transport.py tests/integration/test_dispatch.py tests/acceptance/test_flat_batches.py tests/acceptance/test_faults.py \
	tests/integration/test_sentinel.py tests/test_servers.py

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of processes. Without bytecode files each would compile the package.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install check test coverage test-postgres test-mariadb test-redis hunt demo sandbox bench bench-peers bench-scale chaos chaos-sqlite chaos-postgres chaos-mariadb lint format types layers migrations docs package clean

help: ## Show these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with the package and all its tools

check: lint types layers migrations docs coverage test-postgres test-mariadb test-redis chaos demo package ## Run all checks, as CI does

test: $(STAMP) ## Run the tests, with SQLite, Valkey and real workers (PYTEST_ARGS="-k name")
	$(BIN)/python -m pytest $(PYTEST_ARGS)

coverage: export COVERAGE_FILE := $(CURDIR)/build/coverage/data
coverage: $(STAMP) ## Run the tests with all random examples, and measure branch coverage
	rm -rf build/coverage
	mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest $(FULL) $(PYTEST_ARGS)
	$(BIN)/python -m coverage combine --quiet
	rm -f build/coverage/data.*  # of processes that were killed while they wrote
	$(BIN)/python -m coverage report

test-postgres: $(VENV)/.postgres ## Run them on PostgreSQL, an installed one or that of a wheel, and some with prepared statements
	$(BIN)/python sandbox/with_database.py postgres -- $(BIN)/python -m pytest $(FULL) $(PYTEST_ARGS)
	$(BIN)/python sandbox/with_database.py postgres --options "server_side_binding=True&prepare_threshold=3" -- \
		$(BIN)/python -m pytest $(PYTEST_ARGS) tests/ledger tests/acceptance/test_flat_batches.py

test-mariadb: $(VENV)/.mariadb ## Run them on MariaDB, and the tests of locks also at REPEATABLE READ
	$(BIN)/python sandbox/with_database.py mariadb -- $(BIN)/python -m pytest $(FULL) $(PYTEST_ARGS)
	$(BIN)/python sandbox/with_database.py mariadb --options "isolation_level=repeatable read" -- \
		$(BIN)/python -m pytest $(FULL) $(PYTEST_ARGS) tests/ledger tests/acceptance

test-redis: $(VENV)/.redis ## Run the tests that use Redis, on Debian's Redis instead of Valkey
	REDIS_SERVER=$(CURDIR)/$(BIN)/redis-server $(BIN)/python -m pytest $(PYTEST_ARGS) $(REDIS_TESTS)

hunt: $(STAMP) ## Compare the ledger with its model on 2,000 new random trees; takes an hour (PYTEST_ARGS="-k die")
	$(BIN)/python -m pytest --hypothesis-profile long $(PYTEST_ARGS) tests/ledger/test_trees_machine.py tests/ledger/test_machine.py

demo: $(STAMP) ## Import 28,298 airports, country by country, with two workers, and show it
	@$(BIN)/python sandbox/demo.py

sandbox: $(STAMP) ## Run a web server and two workers until Ctrl-C
	@$(BIN)/python sandbox/serve.py

bench: $(VENV)/.postgres ## Compare batches with RQ alone; takes minutes (BENCH_ARGS="--rounds 1")
	$(BIN)/python -m benchmarks.batch $(BENCH_ARGS)

bench-peers: $(VENV)/.postgres ## Compare it with Celery, django-ox, Huey, Dramatiq and RQ alone (BENCH_ARGS="--quick")
	$(BIN)/python -m benchmarks.peers $(BENCH_ARGS)

bench-scale: $(VENV)/.postgres ## Measure all that shall be fast, with its aims (BENCH_ARGS="--quick --parent HEAD~10")
	$(BIN)/python -m benchmarks.scale $(BENCH_ARGS)

chaos: $(VENV)/.postgres $(VENV)/.mariadb ## Run random trees while faults are injected, and count wrong results (CHAOS_ARGS="--seed 7 --rounds 1")
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target chaos-sqlite chaos-postgres chaos-mariadb

chaos-sqlite: $(STAMP)
chaos-postgres: $(VENV)/.postgres
chaos-mariadb: $(VENV)/.mariadb
chaos-sqlite chaos-postgres chaos-mariadb: chaos-%:
	$(BIN)/python -m benchmarks.chaos --database $* $(CHAOS_ARGS)

lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## Fix style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## Check types: mypy, strict
	$(BIN)/mypy

layers: $(STAMP) ## Check the import contracts
	$(BIN)/lint-imports

migrations: $(STAMP) ## Check that the migrations match the models
	DATABASE_URL=sqlite://:memory: $(BIN)/python -m django makemigrations --check --dry-run --settings tests.settings

docs: $(STAMP) ## Build the documentation into docs/_build; a warning is an error
	$(BIN)/sphinx-build -q -n -W --keep-going docs docs/_build

package: $(STAMP) ## Build the wheel, install it into an empty environment and run a batch there
	rm -rf build dist
	$(BIN)/python -m build --quiet --outdir dist .
	$(PYTHON) -m venv --clear build/empty
	build/empty/bin/python -m pip install --quiet dist/*.whl
	build/empty/bin/python .ci/wheel_works.py

clean: ## Delete everything that make has made
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .tox

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev --editable .
	@touch $@

$(VENV)/.postgres: $(STAMP)
	$(BIN)/python -m pip install --quiet --group postgres
	@touch $@

$(VENV)/.mariadb: $(STAMP)
	.ci/install_mariadb $(BIN)/python
	$(BIN)/python -m pip install --quiet --group mariadb
	@touch $@

$(VENV)/.redis: $(STAMP)
	.ci/install_redis $(BIN)/redis-server
	@touch $@
