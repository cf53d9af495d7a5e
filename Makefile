# What a first-time user and a maintainer run. Each target is complete on a machine that has
# Python 3.11 to 3.13, pip, make and git; what is already done is skipped.

PYTHON ?= python3
PYTEST_ARGS ?=
PORT ?= 3000
DASHBOARD_PORT ?= 8642

VENV := .venv
BIN := $(VENV)/bin
JOB := migrate_stock_items

export DAGSTER_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# One process more than there are cores: each waits for its server, or for time to pass, now and then.
SPREAD = --numprocesses $$(($$($(PYTHON) -c 'import os; print(os.cpu_count())') + 1)) --dist worksteal

# First in a recipe: stop at the first error, and let Dagster keep its history with the project.
DAGSTER = set -e; DAGSTER_HOME="$$($(BIN)/python -c \
	'from inventory_migration.project import dagster_home; print(dagster_home())')"; \
	export DAGSTER_HOME;

# Dagster and the dashboard link to each other, wherever somebody has said that they are served.
migrate ui dashboard: export INVENTORY_DASHBOARD_URL ?= http://127.0.0.1:$(DASHBOARD_PORT)
migrate ui dashboard: export INVENTORY_DAGSTER_URL ?= http://127.0.0.1:$(PORT)

.DEFAULT_GOAL := help
.PHONY: help setup migrate test slow chaos impact bench figures watching startup ui dashboard screenshots docs reference lint clean
.SILENT:

help: ## Say what there is
	sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: $(VENV)/.installed ## Make the environment alone, in .venv, with pinned versions

# The stamp comes last, so that an interrupted installation is done again. An environment that is
# there keeps its Python: made over with another one, its compiled modules would not load. Debian
# splits ensurepip off its Python; pip can then install into the environment from outside.
$(VENV)/.installed: pyproject.toml constraints.txt
	echo "Setting up $(VENV): once, a minute or a few"
	$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    $(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit( \
	        f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12")' && \
	    { $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
	        $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	        $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }; }; }
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The demo is for the embedded server alone, never for a database of the user's own.
migrate: setup ## Migrate an inventory (the demo's, in an embedded PostgreSQL), and sum it up
	$(DAGSTER) log="$$DAGSTER_HOME/$(JOB).log"; \
	if [ -z "$$INVENTORY_DATABASE_URL" ]; then \
	    $(BIN)/inventory-migration db start; \
	    $(BIN)/inventory-migration demo --if-empty; \
	fi; \
	echo "Running the job $(JOB); its log is $$log"; \
	$(BIN)/dagster job execute -m inventory_migration.definitions -j $(JOB) >"$$log" 2>&1 || \
	    { failed=$$?; tail -n 40 "$$log"; echo "The job failed: $$log"; exit $$failed; }; \
	$(BIN)/inventory-migration report stock_items --summary

test: setup ## Run the tests (PYTEST_ARGS="-k engine" for some)
	$(BIN)/python -m pytest $(SPREAD) -m "not slow and not chaos" $(PYTEST_ARGS)

slow: setup ## Run the tests that take longer: Dagster as it runs, whole migrations against a model
	$(BIN)/python -m pytest $(SPREAD) -m "slow and not chaos" $(PYTEST_ARGS)

# What a run does is read from the environment: SEED, which repeats it, DURATION in seconds of what
# is limited by time, EVERY=n for one failure in n, and DEEP=1 for every combination of what is
# otherwise drawn.
chaos: setup ## Do harm on purpose: failures at every statement, crashes (DURATION=... SEED=... DEEP=1)
	$(BIN)/python -m pytest $(SPREAD) -m chaos \
	    inventory_migration_tests/chaos $(PYTEST_ARGS)

impact: setup ## Measure what an application's transactions cost beside a migration: minutes
	$(BIN)/python -m benchmarks.impact

watching: setup ## Measure how well the end of a run is foretold, and what watching costs: minutes
	$(BIN)/python -m benchmarks.watching $(BENCH_ARGS)

bench: setup ## Measure how fast stock moves beside the naked statement (ROWS=...): minutes
	$(BIN)/python -m benchmarks.throughput $(if $(ROWS),--rows $(ROWS)) $(BENCH_ARGS)

figures: setup ## Measure all that docs/performance.md tells, and make it anew: an hour or two
	$(BIN)/python -m benchmarks.figures $(FIGURES_ARGS)

startup: setup ## Measure what commands and the smallest job cost before they do anything
	$(BIN)/python -m benchmarks.startup $(BENCH_ARGS)

ui: setup ## Serve Dagster on http://127.0.0.1:3000 (PORT=...), with what `make migrate` did
	$(DAGSTER) exec $(BIN)/dagster dev --host 127.0.0.1 --port $(PORT)

dashboard: setup ## Watch and steer migrations on http://127.0.0.1:8642 (DASHBOARD_PORT=...)
	exec $(BIN)/inventory-migration dashboard --port $(DASHBOARD_PORT)

screenshots: setup ## Take the dashboard's pictures, in build/screenshots: minutes, needs Chromium
	$(BIN)/python -m inventory_migration_tests.dashboard.screenshots

# Links within the site are checked, and any doubt is an error.
docs: setup reference ## Build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --quiet
	echo "The documentation: build/site/index.html"

reference: setup ## Make the pages of reference anew, from the code
	$(BIN)/python -m docs.reference

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## Remove the environment and caches; the embedded server's data stay, see `db reset`
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
