# Every target sets up .venv by itself; it is made anew only when the pins or the package's metadata change.
# The first python that runs (a version manager may list one that does not) and that the pins were made for.
FITS := import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 14))
BASE_PYTHON := $(shell for python in python3.12 python3.13 python3.14 python3; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
SHARE ?= 0
BENCHMARKS := $(basename $(notdir $(shell grep -l __main__ benchmarks/*.py 2>/dev/null)))

.PHONY: check-docs demo test test-site test-slow test-all lint format bench docs lock clean

$(STAMP): requirements.lock pyproject.toml
	@test -n '$(BASE_PYTHON)' || { echo 'smcinfer needs python3.12, python3.13 or python3.14, and none of them runs here' >&2; exit 1; }
	@test -x $(PYTHON) || $(BASE_PYTHON) -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --quiet --no-build-isolation --no-deps -e .
	@touch $@

# `particles` asks for numpy below 2 but runs on the pinned one: installed without its pins.
$(BENCH_STAMP): $(STAMP)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -c requirements.lock 'pymc>=6'
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps 'particles>=0.4'
	@touch $@

demo: $(STAMP) ## run the demonstration into output/demo
	@$(VENV)/bin/smcinfer demo --out output/demo --force
	@$(PYTHON) examples/story.py --out output/demo
	@$(PYTHON) examples/digits.py --out output/demo

test: $(STAMP) ## every test but the slow ones
	@$(PYTHON) -m pytest -n 2 --dist loadfile -m "not slow" $(PYTEST_OPTIONS)

test-slow: $(STAMP) ## one of the four shares of the slow tests: SHARE=0, 1, 2 or 3
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m slow --slow-share $(SHARE) $(PYTEST_OPTIONS)

test-all: $(STAMP) ## every test
	@$(PYTHON) -m pytest -n 2 --dist loadfile

lint: $(STAMP) ## style, format and types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m pyright

format: $(STAMP)
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

bench: $(BENCH_STAMP) ## every benchmark in its quick form; each ends with one line of JSON
	@for name in $(BENCHMARKS); do echo "== $$name"; $(PYTHON) -m benchmarks.$$name --quick || exit 1; done

docs: $(STAMP) ## the figures and the site, into site/
	@$(PYTHON) -m docs.figures
	@$(PYTHON) -m docs.katex
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

test-site: $(STAMP) ## the site that stands in site/, in a browser: formulas, images, search, a narrow screen
	@$(PYTHON) -m pytest tests/site

check-docs: $(STAMP) ## every page, link and docstring of the site, without drawing its figures
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m docs.check

lock: ## pin what .venv holds now
	@sed -n '/^#/p' requirements.lock > requirements.lock.tmp
	@$(PYTHON) -m pip freeze --exclude-editable >> requirements.lock.tmp
	@mv requirements.lock.tmp requirements.lock

clean:
	rm -rf $(VENV) build dist site output *.egg-info
