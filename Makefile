# Every target sets up what it needs; nobody has to type another command first.
SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

BIN := .venv/bin
# Many tests wait for servers: one process more than two cores have.
PROCESSES := $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 3 ? 3 : n > 6 ? 6 : n)))

.PHONY: help demo test wide check docs bench fuzz chaos mutants soak clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

# Extras are installed once, and again whenever pyproject.toml changes.
$(BIN)/.installed-%: pyproject.toml scripts/install.sh
	@scripts/install.sh $*
	@touch $@

demo: $(BIN)/.installed-examples ## Send batches to example apps, and kill a server in the middle
	@scripts/need.sh redis-server || echo "The demo goes on without it."
	@$(BIN)/python examples/demo.py
	@$(BIN)/python examples/demo_background.py
	@$(BIN)/python examples/demo_shop.py

test: $(BIN)/.installed-test ## Run all tests, with full branch coverage of src
	@scripts/need.sh redis-server pg_ctlcluster=postgresql faketime openssl rabbitmq-server socat chromium tmux
	@scripts/node_modules.sh
	@echo "Running the tests"
	@$(BIN)/python -m pytest -n $(PROCESSES) --dist=worksteal \
		--cov=asgi_batch --cov-branch --cov-fail-under=100

wide: $(BIN)/.installed-test ## Run the tests with all drivers, event loops and servers that there are
	@scripts/need.sh redis-server pg_ctlcluster=postgresql faketime openssl chromium
	@$(BIN)/python -m pytest -n $(PROCESSES) --dist=worksteal -m wide

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
	@scripts/need.sh wrk redis-server pg_ctlcluster=postgresql rabbitmq-server socat
	@for name in overhead http memory background queues client candidates; do \
		echo "Running benchmarks/$$name.py"; \
		$(BIN)/python -m benchmarks.$$name || exit 1; \
	done

soak: $(BIN)/.installed-test ## Run under load and faults for MINUTES=5, and see that nothing grows
	@scripts/need.sh redis-server
	@$(BIN)/python scripts/soak.py $(MINUTES)

fuzz: $(BIN)/.installed-test ## Look for input that breaks something, for ten minutes or so
	@HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest \
		-n auto --maxprocesses=4 \
		tests/test_fuzz.py tests/test_openapi.py tests/test_routes.py tests/core tests/dialects \
		tests/stores/test_model.py

chaos: $(BIN)/.installed-test ## Kill, pause and cut off servers for half an hour; ITERATIONS=500
	@scripts/need.sh redis-server
	@PYTHONPATH=src:tests $(BIN)/python -m chaos.run --iterations $(or $(ITERATIONS),500)

mutants: $(BIN)/.installed-mutants ## Mutation testing (takes hours; not in CI)
	@scripts/mutants.sh

clean: ## Remove everything that the other targets made
	rm -rf .cache .venv .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache \
		.schemathesis dist mutants site
	find . -name __pycache__ -prune -exec rm -rf {} +
