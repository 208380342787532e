# Every target sets up .venv by itself; it is made anew only when the pins or the package's metadata change.
BASE_PYTHON := $(shell command -v python3.12 || command -v python3)
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
BENCHMARKS := $(basename $(notdir $(shell grep -l __main__ benchmarks/*.py 2>/dev/null)))

.PHONY: demo test test-all lint format bench docs lock clean

$(STAMP): requirements.lock pyproject.toml
	@$(BASE_PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 12) else "smcinfer needs python3.12")'
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
	@$(PYTHON) -m pytest -n 2 --dist loadfile -m "not slow"

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
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

lock: ## pin what .venv holds now
	@sed -n '/^#/p' requirements.lock > requirements.lock.tmp
	@$(PYTHON) -m pip freeze --exclude-editable >> requirements.lock.tmp
	@mv requirements.lock.tmp requirements.lock

clean:
	rm -rf $(VENV) build dist site output *.egg-info
