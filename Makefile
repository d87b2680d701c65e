# Everything that a fresh machine needs: `make demo` shows the whole way, `make test` checks it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A client that a test speaks to the server with; it wants other versions of libraries than we do.
TRITON := .venv-tritonclient

.PHONY: demo test lint types format docs clean

demo: $(INSTALLED)
	$(BIN)/upnext demo demo $(if $(ONCE),--once)

test: lint types $(INSTALLED) $(TRITON)/.installed
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)
	$(BIN)/python tests/house/test_cli_reference.py
	$(BIN)/python tests/house/test_configuration.py

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,console,ray,s3,test]'
	touch $@

$(TRITON)/.installed: Makefile
	test -x $(TRITON)/bin/python || $(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet 'tritonclient[http]==2.73.0'
	touch $@

clean:
	rm -rf $(VENV) $(TRITON) demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
