# Each target sets up what it needs: the environment is made once and again when the dependencies change.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# tests that start servers, browsers, hosts or whole sweeps, and kill some of them
SYSTEM := tests/e2e tests/chaos tests/system tests/browser tests/tracking/test_postgres.py \
	$(patsubst %,tests/security/test_%.py,mlflow ray secrets fuzz)

.PHONY: quickstart test test-system slow lint audit venv clean

quickstart: venv
	$(BIN)/parrots run quickstart

venv: $(INSTALLED)

# constraints.txt holds the exact versions that pass the tests. TORCH: where to take torch from, such as
# "--index-url URL" of PyTorch's CPU build; by default it comes like everything else.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH),$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH) torch)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: venv
	$(BIN)/pytest tests --numprocesses 2 --dist loadfile $(addprefix --ignore=,$(SYSTEM) tests/slow)

test-system: venv
	$(BIN)/pytest $(SYSTEM) -m "not slow" -rs --durations 10 --numprocesses 2 --dist loadfile --no-loadscope-reorder

slow: venv
	PARROTS_FUZZ_SECONDS=300 $(BIN)/pytest tests/slow tests/security/test_fuzz.py -rs
	$(BIN)/pytest $(SYSTEM) -m slow -rs

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m bandit --quiet --recursive --configfile pyproject.toml parrots sweeps analysis benchmarks
	$(BIN)/pytest -q tests/test_layers.py

audit: venv
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
