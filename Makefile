# Every verb sets up .venv by itself on a fresh machine; nothing else is needed than Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCE ?=
WORKERS ?= 3

# A few minutes: what a machine without the system programs shows first.
FAST ?= tests/wire tests/processes tests/config tests/test_programs.py tests/test_wheel.py \
  tests/hub/server/test_git.py tests/hub/test_packages.py tests/hub/spaces/test_browser.py \
  tests/tiers/test_limits.py tests/panels/playground

.PHONY: setup demo test fast retest check fix prove bench docs clean

setup: $(STAMP)

# torch is pinned in constraints.txt; pip alone finds a locally provided CPU build.
$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/triptych demo $(SOURCE)

test: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not prove' -q

fast: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not prove' -q $(FAST)

# Asks the tests that failed last once more, alone; more than five are a fault, not bad luck.
retest: $(STAMP)
	@failed=.pytest_cache/v/cache/lastfailed; test -f $$failed && test $$(grep -c : $$failed) -le 5
	@$(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m 'not prove' -q

prove: $(STAMP)
	@$(BIN)/python -m pytest -m prove -q --timeout 3600

check: $(STAMP)
	@$(BIN)/ruff format --check --quiet . || { echo 'format: run `make fix`'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python tests/scans.py
	@$(BIN)/python -m pytest tests/test_house.py -q

fix: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(STAMP)
	@$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
