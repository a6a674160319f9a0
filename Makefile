# make demo   sets up a virtual environment and drives the main job once
# make test   sets up and runs the tests
# make check  lint, types and the import arrows
# make soak   the runs that take longer than a test may (an hour at most)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check soak clean

demo: $(VENV)/.installed
	$(BIN)/headway demo $(DEMO_ARGS)

# Arithmetic uses every core; what talks to processes or looks at a clock runs after it, alone.
ARITHMETIC := $(addprefix tests/,shield chiplet policy carla_bridge/worlds carla_bridge/calibrate runtime/pack \
	runtime/pack_exits runtime/pack_width runtime/test_cli_verify.py runtime/test_cli_falsify.py \
	runtime/test_cli_mistakes.py plan/test_exact.py plan/test_planner.py plan/test_settings.py)
test: $(VENV)/.test-installed
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 $(ARITHMETIC)
	$(BIN)/python -m pytest $(addprefix --ignore=,$(ARITHMETIC))
endif

check: $(VENV)/.lint-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

soak: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m slow --timeout 3600 $(PYTEST_ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Headway needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "$(PYTHON) has no ensurepip. Try: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(PIP) --editable '.[test,verify,view]'
	touch $@

$(VENV)/.lint-installed: $(VENV)/.test-installed
	$(PIP) --editable '.[lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist
