PYTHON ?= python3
# One process for each processor.
PYTEST_ARGS ?= -n auto
BENCH_ARGS ?=
FUZZ_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := constraints/ci.txt
INSTALL := $(PIP) install --quiet --constraint $(CONSTRAINTS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint types pytest wheel test-gpu fuzz bench bench-files bench-gpu cuda-matrix warmup format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: .venv/.setup ## create .venv with blurfast (editable) and everything to test it

.venv/bin/python:
	$(PYTHON) -m venv .venv

# The build backend comes from the constraints too, not from whatever is newest on the day.
.venv/.setup: pyproject.toml hatch_build.py $(CONSTRAINTS) | .venv/bin/python
	$(INSTALL) hatchling editables
	$(INSTALL) --no-build-isolation --editable ".[dev]"
	touch $@

.venv/.bench: .venv/.setup
	$(INSTALL) --editable ".[bench]"
	touch $@

demo: setup ## blur a made-up 400-megapixel micrograph in 400 MB, check it, leave a picture
	$(BIN)/python -m benchmarks.demo

test: lint types pytest wheel ## run every check that CI runs

lint: setup ## check style, formatting and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: setup ## check types
	$(BIN)/mypy

pytest: setup ## run the tests and doctests (PYTEST_ARGS="-k png" to pass options)
	$(BIN)/python -m pytest -m "not wheel" $(PYTEST_ARGS)

wheel: setup ## build the wheel, install it into a clean environment and use it there
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

test-gpu: setup ## run the tests that need a CUDA device, on the one that is there
	$(BIN)/python -m pytest -m gpu tests/test_gpu.py

fuzz: setup ## filter 10,000 damaged files, keep those that crash in build/fuzz (FUZZ_ARGS="--seed 1" to pass options)
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

bench: .venv/.bench ## compare speed and memory with other libraries (BENCH_ARGS to pass options)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-files: .venv/.bench ## compare whole files with other libraries, and with libvips-tools of Debian (BENCH_ARGS)
	$(BIN)/python -m benchmarks.files $(BENCH_ARGS)

bench-gpu: setup ## compare the CPU with the CUDA device that is there (BENCH_ARGS to pass options)
	$(BIN)/python -m benchmarks.gpu $(BENCH_ARGS)

cuda-matrix: setup ## compile all kernels for all kinds of GPUs, and list their registers in build/cuda-matrix.md
	$(BIN)/python -m tests.cuda_matrix

warmup: setup ## compile all kernels for this processor now, not at their first use
	$(BIN)/blurfast warmup

format: setup ## format the code and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove the environment and everything that is built or cached
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find benchmarks blurfast cli tests -name __pycache__ -type d -prune -exec rm -rf {} +
