# Two commands: `make demo` shows the provider at work, `make test` runs every check.
# Both make their own environment in .venv, and need Python 3.11+ and nothing else.

PYTHON ?= python3
VENV := .venv
CONSTRAINTS := constraints/airflow-3.3.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Python keeps what it has compiled, however the machine is set: many processes of the tests import Airflow, which takes
# twice the time where each compiles it anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-rest test-slow test-oldest-rest test-clouds test-all test-oldest
.PHONY: coverage lint types compiled docs bench bench-group bench-smoke explore mutants soak soak-short
.PHONY: cluster cluster-group screenshots pictures clean

demo: $(READY)
	$(BIN)/python -m demo $(if $(KILL),--kill) $(if $(filter bucket,$(LEDGER)),--bucket)

# The tests wait more than they compute, so there are three workers to a core.
WORKERS := $(shell $(PYTHON) -c 'import os; print(3 * (os.cpu_count() or 1))')
SIDE_BY_SIDE := --numprocesses=$(WORKERS) --no-loadscope-reorder --quiet
PYTEST := $(BIN)/python -m pytest $(SIDE_BY_SIDE)

# The answer before a commit, in nine to thirteen minutes: everything but `slow` on the newest Airflow, and on the oldest what leans on Airflow.
test: $(READY)
	$(MAKE) --jobs=2 lint types compiled
	$(PYTEST) -m "not slow"
	$(BIN)/nox --session oldest -- $(SIDE_BY_SIDE) --oldest

# While mypy has one core, the other makes the environment of the oldest Airflow, and compiles what the workers would
# compile all at once. What fails here fails again where its tests run, and says why there.
compiled: $(READY)
	$(BIN)/python -m pytest --collect-only -qq >/dev/null || true
	$(BIN)/nox --session oldest -- --collect-only -qq --oldest >/dev/null || true

# What `make test` leaves out: with it, every test on both ends of what is supported, the soak on all ledgers, every guard
# of the protocol taken out, and every benchmark once. With UNTIL, a Unix timestamp, no test is begun after that moment.
UNTIL := inf
test-rest: test-slow test-oldest-rest test-clouds soak-short mutants bench-smoke

test-slow: $(READY)
	$(PYTEST) -m slow --until=$(UNTIL)

test-oldest-rest: $(READY)
	$(BIN)/nox --session oldest -- $(SIDE_BY_SIDE) --not-oldest --until=$(UNTIL)

# A ledger in a bucket of Azure and of Google, in an environment of its own; needs npm, which fetches Azurite.
test-clouds: $(READY)
	$(BIN)/nox --session clouds

soak-short: $(READY)
	$(BIN)/python -m soak --seconds 60 --ledger sqlite --ledger postgresql --ledger mysql --ledger bucket

# Takes out the guards of the protocol one by one, and fails if nothing notices. ONLY='lease-*' takes some; RECORD=1 writes
# the results and the table of docs/guarantees.md.
mutants: $(READY)
	$(BIN)/python -m mutants --until=$(UNTIL) $(if $(ONLY),--only '$(ONLY)') $(if $(RECORD),--record)

# That the benchmarks still run; their figures say nothing at these sizes.
bench-smoke: $(READY) bench-group
	$(BIN)/python benchmarks/batch.py --sends 60 --rounds 1 --paced-sends 20 --mapped-sends 2 --ledger sqlite --ledger postgresql
	$(BIN)/python benchmarks/wait.py --sends 60 --few 20
	$(BIN)/python benchmarks/campaigns.py --old 1000 --sends 20
	$(BIN)/python benchmarks/validate.py --rows 20000
	$(BIN)/python benchmarks/memory.py --rows 20000
	$(BIN)/python benchmarks/parse.py --runs 2
	$(BIN)/python benchmarks/pace.py --seconds 3 --case '1 x 4'
	$(BIN)/python benchmarks/ui.py --campaigns 20 --sends 5000 --rounds 1 --starts 1
	$(BIN)/python benchmarks/bucket.py --sends 100 --rounds 1 --paced-sends 30 --stored 2000 --open 300

test-all: test test-rest cluster

# Which lines the tests run, on the newest Airflow.
coverage: $(READY)
	$(PYTEST) --cov --cov-report=term

# The oldest Airflow that is supported, in an environment of its own below .nox.
test-oldest: $(READY)
	$(BIN)/nox --session oldest -- $(SIDE_BY_SIDE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) uv
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --constraints $(CONSTRAINTS) --editable '.[postgres,mysql]' --group dev
	touch $@

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -E -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: $(READY) bench-group
	$(BIN)/python benchmarks/batch.py --ledger sqlite --ledger postgresql
	$(BIN)/python benchmarks/wait.py
	$(BIN)/python benchmarks/campaigns.py
	$(BIN)/python benchmarks/validate.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/parse.py
	$(BIN)/python benchmarks/pace.py --ledger sqlite --ledger postgresql --ledger bucket
	$(BIN)/python benchmarks/ui.py
	$(BIN)/python benchmarks/bucket.py

bench-group: $(READY)
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --constraints $(CONSTRAINTS) --group bench

# Every schedule of the small cases, then SECONDS of the processor's time of random ones.
explore: $(READY)
	$(BIN)/python -m explorer

soak: $(READY)
	$(BIN)/python -m soak --seconds 120 --ledger sqlite --ledger postgresql

# A whole Airflow on CeleryExecutor, whose machines and servers are killed, frozen and restarted; Redis is Debian's.
cluster: $(READY) cluster-group
	$(BIN)/python -m cluster

cluster-group: $(READY)
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --constraints $(CONSTRAINTS) --group cluster

# The pictures in the docs, taken on the walks that the tests take: look at them before you commit them.
screenshots: $(READY)
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/system/test_system_ui.py tests/system/test_system_plugin.py tests/system/test_system_howto.py

# The pages themselves, light, dark and on a phone, in a folder of your own.
pictures: $(READY)
	mkdir -p docs/_build/pictures
	DOCS_PICTURES=docs/_build/pictures $(BIN)/python -m pytest tests/docs/test_docs_in_browser.py

clean:
	rm -rf $(VENV) docs/_build .demo .nox .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
