# One place for everything that people and machines run. `make` alone lists the targets.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO ?= demo
CAMVID ?= ../shared/data/camvid
# What was installed, from where: the stamp is out of date as soon as either changes.
STATE := $(shell cat pyproject.toml constraints.txt Makefile 2>/dev/null | cksum | cut -d' ' -f1)-$(CURDIR)
STAMP := $(VENV)/.stego-installed
EXTRAS := crf-reference,dimred,dev

.DEFAULT_GOAL := help
.PHONY: help install demo test quality check format embedded bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: ## create the environment (VENV=path to choose where) with all that demo and tests need
	@if [ "$$(cat $(STAMP) 2>/dev/null)" != "$(STATE)" ]; then $(MAKE) --no-print-directory reinstall; fi

.PHONY: reinstall
reinstall:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (PyTorch is large: some minutes the first time)"
	@# First from what is already there, so that it works without a network; else from the package index.
	@$(BIN)/python -m pip install -q --no-index --no-build-isolation -c constraints.txt -e '.[$(EXTRAS)]' >/dev/null 2>&1 \
		|| $(BIN)/python -m pip install -q -c constraints.txt -e '.[$(EXTRAS)]'
	@echo '$(STATE)' > $(STAMP)

demo: install ## segment the sample photographs and say where the pictures are
	@$(BIN)/stego predict stego_cli/assets/samples --model embedded --crf --out $(DEMO)

test: install ## all tests; no network, no GPU, nothing outside the checkout
	@$(BIN)/python -m pytest -n auto -m 'not quality'

embedded: install ## build the embedded model again (CAMVID=folder with imgs/ and labels/)
	@$(BIN)/stego fit $(CAMVID) --config configs/fit/embedded.yaml --out stego_cli/assets/embedded.safetensors --overwrite

quality: install ## measure the embedded model on real images (minutes)
	@$(BIN)/python -m pytest -m quality -s

bench: install ## all benchmarks against baselines of the same run, as a table and bench.json (some ten minutes)
	@$(BIN)/python tests/bench/bench_all.py

check: install ## formatting, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: install ## put the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove what was built here (not the environment)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(DEMO)
