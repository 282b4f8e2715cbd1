# Requires only python3 and make. Each target installs its requirements in .venv once.
#   make PYTHON=/path/to/python3.13 test    another Python
#   make test ARGS="-k lease -x"            arguments for pytest

PYTHON ?= python3
ARGS ?=
PORT ?= 8000
BIN := .venv/bin
# One worker more than cores, at most 4, because many tests wait for timers and for other processes.
WORKERS ?= $(shell n=$$(($$(nproc 2>/dev/null || echo 2) + 1)); [ "$$n" -gt 4 ] && n=4; echo $$n)

# What needs a browser, clients of others, type checkers or servers that may be killed runs in .ci/run only.
ALL_TESTS := not destructive and not browser and not third_party and not types

# All dependency groups, for the pins. `dev` includes `test` and `lint`.
GROUPS := $(addprefix --group ,dev postgres mysql celery tasks-db browser docs)

# With this variable set, as in many images, each worker rewrites the assertions of all tests again (7 s of CPU).
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo serve serve-celery serve-tasks test test-all coverage lint format types imports migrations messages matrix
.PHONY: docs docs-serve screenshots constraints clean setup setup-workers setup-lint setup-docs

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup  ## cancel invoices at two sandbox providers on 127.0.0.1 and show the results
	@$(BIN)/python example_project/demo.py $(ARGS)

serve: setup  ## start the example project: a small shop, its admin and the sandbox
	@$(BIN)/python example_project/serve.py $(ARGS)

serve-celery: setup-workers  ## start the example project with Celery workers and beat (requires Redis; EXAMPLE_REDIS_URL)
	@$(BIN)/python example_project/serve.py --workers celery $(ARGS)

serve-tasks: setup-workers  ## start the example project with database workers of Django's task framework
	@$(BIN)/python example_project/serve.py --workers tasks $(ARGS)

test: setup  ## run the tests, without those marked slow
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-all: setup  ## run the slow tests too
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "$(ALL_TESTS)" $(ARGS)

coverage: setup  ## run the tests and require a branch coverage of 95 %
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal -m "$(ALL_TESTS)" $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=95

lint: setup-lint  ## check the rules and the format with ruff
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: setup-lint  ## fix the code with ruff
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: setup-lint  ## run mypy --strict on the package, and mypy and pyright on code that uses it and on the docs
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -m types tests/typing

imports: setup-lint  ## check the layer contracts of the imports
	@$(BIN)/lint-imports

migrations: setup  ## check that each model change has a migration
	@DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m django makemigrations --check --dry-run

messages: setup  ## update the translations and compile them (requires gettext)
	@$(BIN)/python tools/messages.py renew

docs: setup-docs  ## build the documentation in build/docs; warnings and broken links are errors
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html --doctree-dir .cache/doctrees docs build/docs

docs-serve: docs  ## build the documentation and serve it on 127.0.0.1 (PORT=8000)
	@echo "http://127.0.0.1:$(PORT)/ (press Ctrl-C to stop)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs $(PORT)

matrix:  ## run the tests on each supported Django and Python
	@bash .ci/run matrix

screenshots:  ## update the screenshots in the docs (requires Debian's chromium)
	@$(PYTHON) tools/bootstrap.py --groups test,browser
	@$(BIN)/python tools/screenshots.py $(ARGS)

constraints:  ## update the pinned versions of the test environment (requires uv on PATH)
	@head -n 2 constraints.txt > constraints.new
	@uv pip compile --quiet --universal --upgrade --python-version 3.11 --all-extras $(GROUPS) \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml >> constraints.new
	@! grep -E '://|^-' constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove generated files
	rm -rf .venv* .cache .coverage* .*_cache .hypothesis build dist htmlcov constraints.new *.egg-info
	rm -rf example_project/var
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup:
	@$(PYTHON) tools/bootstrap.py --groups test

setup-workers:
	@$(PYTHON) tools/bootstrap.py --groups test,postgres,celery,tasks-db

setup-lint:
	@$(PYTHON) tools/bootstrap.py --groups dev

setup-docs:
	@$(PYTHON) tools/bootstrap.py --groups docs
