# The everyday commands. Each calls one command of .venv, which is made first; no logic lives here.

# The first Python that will do; PYTHON=/path/to/python3.11 names another.
ifndef PYTHON
PYTHON := $(firstword $(shell command -v python3.11 2>/dev/null || command -v python3 2>/dev/null))
endif

VENV := .venv/bin
GROUNDWORK := $(VENV)/groundwork
PY := $(VENV)/python

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

# $(error) is make's own one line; help is allowed, it starts nothing.
ifneq ($(filter-out help,$(MAKECMDGOALS)),)
ifneq ($(words $(CURDIR)),1)
$(error groundwork: the path of this checkout has a space in it ("$(CURDIR)"), which make and virtual environments cannot take; move the checkout)
endif
ifeq ($(PYTHON),)
$(error groundwork: no python3.11 or python3 on PATH; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11)
endif
endif

.PHONY: help .venv up down preview status logs psql redis-cli drift verify pr-report pr-comment test check fix bench toolchain lock

## The stack
up: .venv ## Provision the dev stack, migrate, deploy the access container (STACK=dev)
	@$(GROUNDWORK) up $(if $(STACK),--stack $(STACK))

preview: .venv ## Show what `make up` would change, pending migrations by name
	@$(GROUNDWORK) preview $(if $(STACK),--stack $(STACK))

down: .venv ## Stop and remove the stack, keep its data (VOLUMES=1 asks, and drops it too)
	@$(GROUNDWORK) down $(if $(STACK),--stack $(STACK)) $(if $(VOLUMES),--volumes)

status: .venv ## Show the stack's parts, their health and ports
	@$(GROUNDWORK) status $(if $(STACK),--stack $(STACK))

logs: .venv ## Show the containers' logs
	@$(GROUNDWORK) logs $(if $(STACK),--stack $(STACK))

psql: .venv ## Open psql on the stack's database
	@$(GROUNDWORK) psql $(if $(STACK),--stack $(STACK))

redis-cli: .venv ## Open redis-cli on the stack's Redis
	@$(GROUNDWORK) redis-cli $(if $(STACK),--stack $(STACK))

## Environments
drift: .venv ## Look for what differs from the program in what there is; fails where something does (STACK=prod)
	@$(GROUNDWORK) preview --refresh --expect-no-changes $(if $(STACK),--stack $(STACK))

verify: .venv ## Hold a stack's servers against what its outputs promise, wherever it runs (STACK=prod, or OUTPUTS=file)
	@$(PY) -m pytest tests/infra/live $(if $(OUTPUTS),--outputs $(OUTPUTS),--stack $(or $(STACK),dev))

pr-report: .venv ## Write a pull request's report to build/pull-request (STACKS="staging prod" BASE=origin/main)
	@$(PY) -m scripts.pull_request_report $(if $(BASE),--base $(BASE)) $(or $(STACKS),dev)

pr-comment: ## Make or edit the pull request's comment from the report, with GITHUB_TOKEN
	@$(PYTHON) scripts/pull_request_comment.py build/pull-request/comment.md

## Working on groundwork
test: toolchain ## Run every test, on a live stack of its own (K=expression selects, SCALE=full repeats more)
	@$(if $(SCALE),SCALE=$(SCALE) )$(PY) -m $(if $(K),pytest tests -k "$(K)",tests)

check: .venv ## Report what is not clean: format, lint, types, imports, migrations, generated code
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	$(GROUNDWORK) migrate lint
	$(PY) -m scripts.fresh --check
	$(PY) -m scripts.lint_workflows
	$(GROUNDWORK) sql check --offline

fix: .venv ## Format, and repair what can be repaired
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .
	$(PY) -m scripts.fresh

bench: toolchain ## Measure, as ratios in one run
	@$(VENV)/uv pip install --quiet --python $(PY) --require-hashes --requirement tests/bench/requirements.lock
	@$(PY) -m tests.bench

lock: .venv ## Resolve the dependencies anew into requirements.lock and the access image's lock
	@$(PY) -m scripts.lock

## The machine
toolchain: .venv ## Get the Pulumi CLI, its plugins, the Docker engine, the base image
	@$(GROUNDWORK) toolchain

.venv: ## Make the virtual environment from requirements.lock
	@$(PYTHON) ops/toolchain/bootstrap.py

help: ## Show this help
	@awk 'BEGIN { FS = ":[^#]*## " } \
	  /^## / { printf "\n%s\n", substr($$0, 4) } \
	  /^[a-z.-]+:[^#]*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
