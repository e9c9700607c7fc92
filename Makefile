# Everything is installed into .venv, torch once. `make demo` and `make test` need only
# Python >= 3.10, cargo and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)

.PHONY: help demo test lint format bench clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(VENV)/demo.installed ## Attack a small network, repair it without data, show the numbers
	$(BIN)/otbr-fast demo --out demo-output --overwrite

# One thread a test: pytest runs as many at once as there are cores.
test: $(VENV)/dev.installed ## Run the Rust and the Python tests
	cargo test --workspace --quiet
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(VENV)/dev.installed ## Check formatting, lints, types and the stub
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest otbr_fast._core

format: $(VENV)/dev.installed ## Format the code
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/bench.installed ## Compare the solvers with their peers (hours); the tables of docs/benchmarks.md
	$(BIN)/otbr-fast bench --preset readme --out docs/bench --overwrite --update docs/benchmarks.md --update README.md

clean: ## Remove what was built and installed
	rm -rf $(VENV) target python/otbr_fast/_core*.so

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.installed: $(BIN)/python pyproject.toml $(RUST_SOURCES)
	@echo "Installing into $(VENV): torch is large and the Rust code is compiled, so this takes some minutes."
	$(BIN)/python -m pip install --editable '.[demo]'
	touch $@

$(VENV)/bench.installed: $(VENV)/dev.installed
	$(BIN)/python -m pip install --editable '.[bench]'
	touch $@

$(VENV)/dev.installed: $(BIN)/python pyproject.toml $(RUST_SOURCES)
	@echo "Installing into $(VENV): torch is large and the Rust code is compiled, so this takes some minutes."
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@ $(VENV)/demo.installed
