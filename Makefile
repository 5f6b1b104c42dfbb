# make demo | test | check | bench | bench-models; each makes what it needs. `make` alone prints them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHOP ?= demo-shop
PORT ?= 8800
OUT ?= bench-models

help:  ## print these lines
	@grep -E '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

.venv: $(VENV)/.made  ## the virtual environment, with everything

$(VENV)/.made: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Shopkeeper needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev,sql,kafka,redis,s3,cluster,adbc,export,tune]'
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

bench: .venv  ## collect, clean, search; on a demo shop that has run: serving (tens of minutes; each script alone: benchmarks/)
	$(BIN)/python benchmarks/clean_checks.py
	$(BIN)/python benchmarks/collect_clean.py --rows 10000000
	$(BIN)/python benchmarks/search_speed.py --items 100000
	$(BIN)/python benchmarks/sizing.py
	@if test -e $(SHOP)/store/releases/current.json; then \
	  $(BIN)/python benchmarks/serving_events.py $(SHOP) && \
	  $(BIN)/python benchmarks/serving_http.py $(SHOP); \
	else echo "no shop has run in $(SHOP), so serving is left out; first: make demo SERVE=0"; fi

bench-models: .venv  ## every model family, run by run: make bench-models DATA=folder (days; ONLY=amazon_beauty/rnn for less)
	$(BIN)/python benchmarks/models.py --data $(DATA) --out $(OUT) $(if $(ONLY),--only $(ONLY))

.PHONY: help .venv demo test check bench bench-models
