# Every target sets up what it needs, and is quick the second time.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=
PIP     = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
UV      = $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps
COMMIT  = $(shell git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null)
COMPOSE = GAN_GIT_COMMIT=$(COMMIT) docker compose -f docker-compose.yml $(if $(GPU),-f docker-compose.gpu.yml)
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

.PHONY: help setup train test test-prefect test-kill faults e2e bench gpu-check lint format lock build up down credentials backup restore clean
.DEFAULT_GOAL := help

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## make .venv with both commands in it, from requirements.lock

$(READY): requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gan-train needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "the venv module is missing: apt install python3-venv (Debian, Ubuntu)" >&2; exit 1; }
	@echo "installing requirements.lock into $(VENV) (about 6 GB unpacked)"
	@$(PIP) --require-hashes -r requirements-uv.lock
	@$(UV) --require-hashes -r requirements.lock || \
	  { echo "uv could not install: it reads no settings of pip. Now pip installs, which takes longer" >&2; $(PIP) --require-hashes -r requirements.lock; }
	@$(PIP) --no-build-isolation -e .
	@$(BIN)/python -m benchmarks.compile_kernels
	@touch $@

train: setup     ## train on MNIST and publish into ./store; options by ARGS="--num-steps 3000"
	@$(BIN)/gan-train $(ARGS)

test: setup      ## run the tests that this machine can run, but for the long ones
	@$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 15 $(ARGS)

test-prefect: setup ## run the tests that start Prefect's server or a worker
	@$(BIN)/pytest -m prefect --numprocesses 2 --dist loadscope --no-loadscope-reorder --durations 15 $(ARGS)

test-kill: setup ## kill training 22 times and compare every byte; 62 times by FAULTS=long make test-kill
	@$(BIN)/pytest -m kill --numprocesses 2 --dist worksteal -rP $(ARGS)

faults: setup    ## inject faults of each kind, with controls; FAULTS=long make faults ARGS="-k freeze"
	@$(BIN)/pytest -m faults --numprocesses 2 --dist worksteal --durations 15 $(ARGS)

e2e: setup       ## build and start two stacks, use them and hurt them; long outages by ARGS=--long
	@$(BIN)/pytest -m e2e --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 25 $(ARGS)

bench: setup     ## compare the speed with the published loop and the limit of the hardware; a GPU by ARGS="--device cuda"
	@$(BIN)/python -m benchmarks.bench $(ARGS)

gpu-check: setup ## check everything on this machine's GPU and measure it, in 8 minutes; short on a CPU by ARGS="--device cpu"
	@$(BIN)/gan download >/dev/null
	@$(BIN)/python -m benchmarks.gpu_check $(ARGS)

lint: setup      ## ruff, mypy strict, and the linters of Dockerfile and docker-compose.yml
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/compose-lint check --quiet --no-env --strict-config --skip-suppressed --fail-on medium docker-compose.yml

format: setup    ## put the code into ruff's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock:            ## compile the five lock files anew from pyproject.toml, after make setup
	@$(COMPILE) --extra dev --extra stack --output-file requirements.lock pyproject.toml
	@$(COMPILE) --no-annotate --constraint requirements.lock --extra stack --output-file requirements-app.lock pyproject.toml
	@echo tensorboard | $(COMPILE) --no-annotate --constraint requirements.lock --output-file requirements-tensorboard.lock -
	@echo uv | $(COMPILE) --no-annotate --constraint requirements.lock --output-file requirements-uv.lock -
	@echo jax | $(COMPILE) --no-annotate --constraint requirements.lock --output-file requirements-bench.lock -

build:           ## build the three images of the stack
	@$(COMPOSE) build $(ARGS)

up:              ## start the stack and wait until it works; on a GPU by GPU=1
	@$(COMPOSE) up --build --detach --wait $(ARGS) || \
	  { $(COMPOSE) config --format json | $(PYTHON) -m stack.ports $$($(COMPOSE) ps --services --status running); exit 1; }

down:            ## stop the stack; its data stays, unless ARGS=--volumes
	@$(COMPOSE) down $(ARGS)

credentials:     ## show the stack's passwords, and the lines that point a shell on this machine at it
	@$(COMPOSE) run --rm --no-deps secrets python -m stack.credentials show

backup:          ## save the stack's data in a new folder: make backup DIR=/backups/monday
	@$(PYTHON) -m stack.backup save $(DIR)

restore:         ## put saved data into a stack that has none: make restore DIR=/backups/monday
	@$(PYTHON) -m stack.backup restore $(DIR)

clean:           ## remove what make has made; data/ and store/ stay
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
