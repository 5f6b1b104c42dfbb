# make demo | test | check | bench | bench-models; each makes what it needs. `make` alone prints them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHOP ?= demo-shop
PORT ?= 8800

help:  ## print these lines
	@grep -E '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

.venv: $(VENV)/.made  ## the virtual environment, with everything

$(VENV)/.made: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Shopkeeper needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev,sql]'
	touch $@

demo: .venv  ## a demo shop through the whole loop, then serve it (SERVE=0 stops after the report)
	@test -e $(SHOP)/shop.toml || $(BIN)/shopkeeper demo $(SHOP)
	$(BIN)/shopkeeper run --shop $(SHOP)
	@if [ "$(SERVE)" != 0 ]; then $(BIN)/shopkeeper serve --shop $(SHOP) --port $(PORT); fi

test: .venv  ## all tests
	$(BIN)/pytest

check: .venv  ## style, types and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv  ## the platform's and the server's figures (tens of minutes)
	$(BIN)/python benchmarks/all.py

bench-models: .venv  ## the models' figures on public data: make bench-models DATA=folder (hours)
	$(BIN)/python benchmarks/models.py --data $(DATA)

.PHONY: help .venv demo test check bench bench-models
