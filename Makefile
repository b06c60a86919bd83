# Everything a fresh machine needs: `make run` (a first result) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROFILE ?=
JOBS ?= 2
FORM ?=

.PHONY: setup run test test-all test-gpu torture lint types imports check lock bench clean help

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## build the environment in .venv

# uv builds the environment from the lock in seconds; it is brought in with pip where it is missing.
$(READY): requirements.lock pyproject.toml
	@command -v uv >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv
	@UV=$$(command -v uv || echo "$(PYTHON) -m uv"); \
	[ -x $(BIN)/python ] || $$UV venv --quiet --python "$$(command -v $(PYTHON))" $(VENV); \
	$$UV pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock && \
	$$UV pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)

run: $(READY)  ## run the profile in force (PROFILE=taco for the real job) and show its results
	@$(if $(PROFILE),$(BIN)/deponij profile use $(PROFILE))
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
	@$(BIN)/deponij results --run "runs/$$(sed -n 's/^profile: *//p' params.yaml)"

test: $(READY)  ## the tests that need neither network nor GPU (JOBS=1: one after the other)
	$(BIN)/python -m pytest -q -m "not slow and not gpu and not torture" -n $(JOBS) --dist loadfile

test-all: $(READY)  ## with the slow ones
	$(BIN)/python -m pytest -q -m "not gpu and not torture"

test-gpu: $(READY)  ## those that need a CUDA device
	$(BIN)/python -m pytest -q -m gpu

# TORTURE_MINUTES bounds it, TORTURE_SEED repeats it, TORTURE_REPORT=FILE keeps the table (docs/torture.md).
torture: $(READY)  ## kills, failing writes, flipped bits, crowds, bad inputs: up to an hour
	$(BIN)/python -m pytest -q -s tests/torture tests/test_flips.py -m "not slow"

lint: $(READY)  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## strict types, everywhere
	$(BIN)/mypy

imports: $(READY)  ## which room may import which
	$(BIN)/lint-imports

check: lint types imports  ## all that needs no running

lock: pyproject.toml  ## compile requirements.lock anew, for all supported Pythons, without index addresses
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements.lock

bench: $(READY)  ## the ratios of docs/benchmarks.md, measured anew (FORM=--whole: at full size, hours)
	$(BIN)/python benchmarks/all.py $(FORM)
	$(BIN)/python benchmarks/redraw.py

clean:  ## remove the environment; data, depot and runs stay
	rm -rf $(VENV)
