# Every target sets up what it needs; nobody has to type another command first.
SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

BIN := .venv/bin

.PHONY: help demo test check docs bench fuzz mutants clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

# Extras are installed once, and again whenever pyproject.toml changes.
$(BIN)/.installed-%: pyproject.toml scripts/install.sh
	@scripts/install.sh $*
	@touch $@

demo: $(BIN)/.installed-examples ## Start an example app and send it a batch
	@$(BIN)/python examples/demo.py

test: $(BIN)/.installed-test ## Run all tests, with full branch coverage of src
	@scripts/need.sh redis-server
	@echo "Running the tests"
	@$(BIN)/python -m pytest --cov=asgi_batch --cov-branch --cov-fail-under=100

check: $(BIN)/.installed-check ## Format, lint, types, layers and sizes
	@echo "Checking format"
	@$(BIN)/ruff format --check src tests examples benchmarks scripts
	@echo "Checking lint"
	@$(BIN)/ruff check src tests examples benchmarks scripts
	@echo "Checking types"
	@$(BIN)/mypy --strict
	@echo "Checking layers"
	@$(BIN)/lint-imports --no-logo
	@echo "Checking sizes"
	@$(BIN)/python scripts/check_sizes.py

docs: $(BIN)/.installed-docs ## Build the documentation into site/, strictly
	@$(BIN)/python scripts/build_docs.py

bench: $(BIN)/.installed-test ## Measure overhead, throughput and memory
	@scripts/need.sh wrk
	@for name in overhead http memory; do \
		echo "Running benchmarks/$$name.py"; \
		$(BIN)/python -m benchmarks.$$name || exit 1; \
	done

fuzz: $(BIN)/.installed-test ## Look for input that breaks something, for ten minutes or so
	@HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest \
		tests/test_fuzz.py tests/test_openapi.py tests/core tests/dialects

mutants: $(BIN)/.installed-mutants ## Mutation testing (takes hours; not in CI)
	@scripts/mutants.sh

clean: ## Remove everything that the other targets made
	rm -rf .cache .venv .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache \
		.schemathesis dist mutants site
	find . -name __pycache__ -prune -exec rm -rf {} +
