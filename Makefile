# make demo | test | check | test-all | coverage | docs | workflows | dist | bench | bench-report | format | clean
# Everything runs in .venv, made on first use with uv when it is there, else with venv and pip.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
DOCS_STAMP := $(VENV)/.installed-docs
WORKFLOWS_STAMP := $(VENV)/.installed-workflows
DIST_STAMP := $(VENV)/.installed-dist
FRAMES_STAMP := $(VENV)/.installed-frames

# Installs what a target needs beside the tests' packages: a dependency group.
define install_group
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --quiet --python $(BIN)/python --group $(1); \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --group $(1); \
	fi
	@touch $@
endef

.PHONY: demo test check test-all coverage docs workflows dist bench bench-report format clean

# A virtual environment that was made halfway has no stamp, and is made again. The demo needs fanout alone.
$(RUN_STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "fanout needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@echo "Installing fanout into $(VENV) (the first time only)"
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$(PYTHON)" "$(VENV)" && \
		uv pip install --quiet --python "$(BIN)/python" --editable .; \
	else \
		"$(PYTHON)" -m venv "$(VENV)" && \
		"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable .; \
	fi
	@touch $@

$(STAMP): $(RUN_STAMP)
	@echo "Installing what the tests need into $(VENV) (the first time only)"
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --quiet --python "$(BIN)/python" --editable . --group dev; \
	else \
		"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" && \
		"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable . --group dev; \
	fi
	@touch $@

demo: $(RUN_STAMP)
	@$(BIN)/python examples/demo.py

# What holds the pages and the public types to the code is part of check.
CHECKED := tests/docs tests/test_typing.py

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow" -n auto --dist loadfile $(CHECKED:%=--ignore=%)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not slow" -n auto $(CHECKED)

# The whole suite, slow tests too, on every Python from 3.11 to 3.14 that this machine has.
test-all:
	@sh tests/every_python.sh

# What the slow tests of the guide to data frames need besides.
$(FRAMES_STAMP): $(STAMP)
	$(call install_group,frames)

# The fast tests with coverage, in subprocesses too; fails below the figure in pyproject.toml. The figure is
# there when a test fails as well; a process that was killed while it wrote its data is named, and left out.
coverage: $(STAMP)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -q -m "not slow" -n auto --dist loadfile; tests=$$?; \
	$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report && exit $$tests

$(DOCS_STAMP): $(STAMP)
	$(call install_group,docs)

# The site in site/; any broken link, anchor or reference is an error.
docs: $(DOCS_STAMP)
	$(BIN)/python -m mkdocs build --strict

$(WORKFLOWS_STAMP): $(STAMP)
	$(call install_group,workflows)

# The workflows against their schema and for holes, and the Dockerfile.
workflows: $(WORKFLOWS_STAMP)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/zizmor --offline .github
	$(BIN)/hadolint examples/Dockerfile

$(DIST_STAMP): $(STAMP)
	$(call install_group,dist)

# Wheel and sdist in dist/, checked as a package index would.
dist: $(DIST_STAMP)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

$(BENCH_STAMP): $(STAMP)
	$(call install_group,bench)

bench: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks

bench-report: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks.report

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-3.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* dist build site
