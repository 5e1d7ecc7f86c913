# The everyday commands. Each target creates .venv if needed, and then calls one command of it. There is no other logic.

# The default Python. PYTHON=/path/to/python3.11 selects another one.
ifeq ($(origin PYTHON),undefined)
# Each candidate is run, because pyenv puts programs of versions that are not active on PATH.
PYTHON := $(shell for name in python3.11 python3; do $$name -ISc '' 2>/dev/null && command -v $$name && break; done)
endif

# They could replace groundwork's own modules.
unexport PYTHONHOME PYTHONPATH

VENV := .venv/bin
GROUNDWORK := $(VENV)/groundwork
PY := $(VENV)/python

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

# $(error) prints one line and stops. `make help` is always allowed, because it starts nothing.
ifneq ($(filter-out help,$(MAKECMDGOALS)),)
ifneq ($(words $(CURDIR)),1)
$(error groundwork: the path of this checkout has a space in it ("$(CURDIR)"), which make and virtual environments do not support; move the checkout)
endif
# A variable of the shell that is not set must not select the default, as in `make up STACK="$STACK"`.
GIVEN := STACK STACKS VOLUMES OUTPUTS BASE K SCALE PYTHON TERRAFORM_PROVIDER
$(foreach name,$(GIVEN),$(if $(filter undefined file,$(origin $(name))),,$(if $(strip $($(name))),,\
  $(error groundwork: $(name) is given but empty; omit it, or give it a value))))
ifeq ($(PYTHON),)
$(error groundwork: no python3.11 or python3 on PATH; install Python 3.11 or newer, or run make PYTHON=/path/to/python3.11)
endif
endif

.PHONY: help .venv up down preview status logs psql redis-cli drift verify pr-report pr-comment environments test aws-provider check fix client docs screenshots bench sbom audit toolchain lock

## The stack
up: .venv ## Create or update a stack: servers, roles, schema, access service (STACK=dev)
	@$(GROUNDWORK) up $(if $(STACK),--stack $(STACK))

preview: .venv ## Show what `make up` would change, with pending migrations
	@$(GROUNDWORK) preview $(if $(STACK),--stack $(STACK))

down: .venv ## Stop and remove a stack, and keep its data (VOLUMES=1 deletes the data too, after confirmation)
	@$(GROUNDWORK) down $(if $(STACK),--stack $(STACK)) $(if $(VOLUMES),--volumes)

status: .venv ## Show a stack's containers with health and ports
	@$(GROUNDWORK) status $(if $(STACK),--stack $(STACK))

logs: .venv ## Show the logs of a stack's containers
	@$(GROUNDWORK) logs $(if $(STACK),--stack $(STACK))

psql: .venv ## Open psql on a stack's database
	@$(GROUNDWORK) psql $(if $(STACK),--stack $(STACK))

redis-cli: .venv ## Open redis-cli on a stack's Redis
	@$(GROUNDWORK) redis-cli $(if $(STACK),--stack $(STACK))

## Environments
drift: .venv ## Compare a stack with the program, and fail if there is drift (STACK=prod)
	@$(GROUNDWORK) preview --refresh --expect-no-changes $(if $(STACK),--stack $(STACK))

verify: .venv ## Check a stack's servers against its outputs, on Docker or AWS (STACK=prod, or OUTPUTS=file)
	@$(PY) -m pytest tests/infra/live $(if $(OUTPUTS),--outputs $(OUTPUTS),--stack $(or $(STACK),dev))

pr-report: .venv ## Write a pull request's report to build/pull-request (STACKS="staging prod" BASE=origin/main)
	@$(PY) -m scripts.pull_request_report $(if $(BASE),--base $(BASE)) $(or $(STACKS),dev)

pr-comment: ## Create or update the pull request's comment from the report, with GITHUB_TOKEN
	@$(PYTHON) scripts/pull_request_comment.py build/pull-request/comment.md

environments: ## Check on GitHub that only main may deploy to staging and prod, with GITHUB_TOKEN
	@$(PYTHON) scripts/check_environments.py staging prod

## Working on groundwork
test: toolchain ## Run all tests, on a separate stack (K=expression selects, SCALE=full repeats more)
	@$(if $(SCALE),SCALE=$(SCALE) )$(PY) -m $(if $(K),pytest tests -p tests.durations -k "$(K)",tests)

aws-provider: .venv ## Install the real AWS provider for the tests (TERRAFORM_PROVIDER=folder of its unpacked release)
	@nice -n 15 $(PY) -m tests.infra.aws_provider.provider $(TERRAFORM_PROVIDER)

check: .venv ## Check format, lint, types, imports, migrations, generated code
	@$(PY) -m scripts.check

fix: .venv ## Format, fix lint, and render generated files
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .
	$(PY) -m scripts.fresh

client: .venv ## Build the wheel groundwork-client, the data access for applications, into dist
	@$(PY) -m scripts.build_client

docs: .venv ## Build the documentation as a site into build/docs; fails for a broken link
	@$(VENV)/uv pip install --quiet --python $(PY) --require-hashes --requirement scripts/site/requirements.lock
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

screenshots: .venv ## Make the pictures of the README, on a stack of its own; needs Chromium
	@$(PY) -m scripts.screenshots

bench: toolchain ## Run the benchmarks, and write docs/benchmarks.md (PEERS=rust: also compare with Rust's drivers)
	@$(VENV)/uv pip install --quiet --python $(PY) --require-hashes --requirement tests/bench/requirements.lock
	@$(if $(filter undefined,$(origin PEERS)),,PEERS='$(PEERS)' )$(PY) -m tests.bench

sbom: toolchain ## Write bills of materials (CycloneDX) of the images and of .venv into build/sbom (STACK=dev)
	@$(PY) -m scripts.supply_chain.sbom $(or $(STACK),dev)

audit: .venv ## Look for known vulnerabilities of the locked Python packages
	@$(PY) -m scripts.supply_chain.audit

lock: .venv ## Resolve the dependencies into requirements.lock and the access image's lock files
	@$(PY) -m scripts.lock

## The machine
toolchain: .venv ## Install the Pulumi CLI and its plugins, the Docker engine, the base image
	@$(GROUNDWORK) toolchain

.venv: ## Create the virtual environment from requirements.lock
	@$(PYTHON) ops/toolchain/bootstrap.py

help: ## Show this help
	@awk 'BEGIN { FS = ":[^#]*## " } \
	  /^## / { printf "\n%s\n", substr($$0, 4) } \
	  /^[a-z.-]+:[^#]*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
