# `make help` lists what there is. The first call installs into $(VENV) and needs the network; later ones do not.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
# More than two cores have: a worker that drives a browser waits for most of its time.
JOBS   ?= 3
ARGS   ?=

BIN  := $(VENV)/bin
PY   := $(BIN)/python
PIP  := $(PY) -m pip
PINS := -c requirements.txt -c .ci/constraints.txt

# What the wheel and the book are made of.
PACKAGE := pyproject.toml $(shell find revode data/sample data/results data/weights -type f \
                                  ! -path '*/__pycache__/*' 2>/dev/null)
BOOK    := _config.yml _toc.yml $(shell find book -type f ! -path '*/__pycache__/*' ! -path '*/.*' 2>/dev/null)

TESTS = CHROMIUM="$$(cat $(VENV)/chromium.txt)" OMP_NUM_THREADS=1 $(PY) -m pytest --dist worksteal
WITHOUT_SITE := --ignore-glob='*/test_site*'
ONLY_SITE := --ignore-glob='*/test_[!s]*' --ignore-glob='*/test_s[!i]*'
# The tests of the package alone, for other versions than the book's.
PACKAGE_TESTS := $(WITHOUT_SITE) --ignore=tests/test_notebooks.py --ignore=tests/test_packaging.py

define install
@echo "Installing$(1) into $(VENV) ..."
@$(PIP) install -q $(1) || \
    { echo "The packages could not be installed, see above; the first call needs the network." >&2; exit 1; }
endef

export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport PYTHONPATH # nothing may be found in the checkout that is not installed

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help book serve test test-oldest test-newest package-tests chromium lint format linkcheck bench pins clean FORCE

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PYTHON=$(PYTHON) VENV=$(VENV) PORT=$(PORT) JOBS=$(JOBS) ARGS (for pytest and the benchmark)"

# ---- the environment, installed once ------------------------------------------------------------------------------

$(VENV)/.made: | .ci/preflight.py
	@command -v "$(PYTHON)" >/dev/null || \
	    { echo "There is no $(PYTHON) here: name a Python 3.11 or newer, as in make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" .ci/preflight.py python
	"$(PYTHON)" -m venv "$(VENV)"
	@touch $@

$(VENV)/.book: $(VENV)/.made requirements.txt .ci/constraints.txt
	@$(PY) .ci/preflight.py disk "$(VENV)"
	$(call install, -r requirements.txt $(PINS))
	@touch $@

$(VENV)/.test: $(VENV)/.book pyproject.toml
	@$(PY) .ci/requirements.py package test > $(VENV)/test.txt
	$(call install, -r $(VENV)/test.txt $(PINS))
	@touch $@

$(VENV)/.lint: $(VENV)/.made pyproject.toml .ci/constraints.txt
	@$(PY) .ci/requirements.py dev > $(VENV)/dev.txt
	$(call install, -r $(VENV)/dev.txt $(PINS))
	@touch $@

# Changes when a file appears or goes, which no file's own date would tell.
$(VENV)/.files: $(VENV)/.made FORCE
	@echo $(PACKAGE) $(BOOK) | cmp -s - $@ || echo $(PACKAGE) $(BOOK) > $@

# The wheel, not the checkout: no chapter can lean on a file that a reader would not have. No network.
$(VENV)/.wheel: $(VENV)/.book $(VENV)/.files $(PACKAGE)
	@rm -rf $(VENV)/wheel
	$(PIP) wheel -q --no-deps --no-build-isolation -w $(VENV)/wheel .
	$(PIP) install -q --no-deps --no-index --force-reinstall $(VENV)/wheel/revode-*.whl
	@touch $@

# ---- the book -----------------------------------------------------------------------------------------------------

# From an empty folder: Jupyter Book's cache would keep outputs of an older revode. Threads that wait for each other
# sleep: where they spin, the default, a cell of one second takes a minute and a half beside another busy process.
_build/.done: $(VENV)/.wheel $(VENV)/.files $(BOOK)
	rm -rf _build
	OMP_WAIT_POLICY=passive PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter-book build . -W --keep-going
	@touch $@

book: _build/.done ## build the book (and install what it needs, the first time)
	@echo "The book is at file://$(CURDIR)/_build/html/index.html (or: make serve)"

serve: book ## serve the book on a local port and open it
	@$(PY) .ci/serve.py _build/html "$(PORT)"

linkcheck: $(VENV)/.wheel ## try every outside link of the book (needs the network)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter-book build . --builder linkcheck

# ---- checks -------------------------------------------------------------------------------------------------------

chromium: $(VENV)/.test
	@$(PY) .ci/chromium.py > $(VENV)/chromium.txt

# The book is built while the tests that do not need it run. Exit status 5: ARGS chose no test of this half.
test: chromium $(VENV)/.wheel ## run all tests, those in a browser too (part of them: ARGS="-k shear")
	@$(MAKE) --no-print-directory book > $(VENV)/book.txt 2>&1 & book=$$!; \
	$(TESTS) -n 2 $(WITHOUT_SITE) $(ARGS); first=$$?; \
	wait $$book || { cat $(VENV)/book.txt; exit 1; }; \
	$(TESTS) -n $(JOBS) $(ONLY_SITE) $(ARGS); case $$first$$? in 00|05|50) ;; *) exit 1 ;; esac

test-oldest: ## run the package's tests with the oldest versions that pyproject.toml allows
	@$(MAKE) --no-print-directory package-tests VENV=$(VENV)-oldest LOWEST=--lowest \
	    ARGS="-o filterwarnings=default $(ARGS)"

test-newest: ## run the package's tests with the newest versions there are (needs the network)
	@$(MAKE) --no-print-directory package-tests VENV=$(VENV)-newest UPGRADE=--upgrade ARGS="$(ARGS)"

package-tests: $(VENV)/.made
	@$(PY) .ci/preflight.py disk "$(VENV)"
	@$(PY) .ci/requirements.py $(LOWEST) package test > $(VENV)/test.txt
	$(call install, $(UPGRADE) -r $(VENV)/test.txt)
	@$(PIP) freeze | grep -iE '^(torch|torchvision|numpy|matplotlib|ipywidgets|anywidget|tqdm)=='
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal $(PACKAGE_TESTS) $(ARGS)

lint: $(VENV)/.lint ## check style, format, and that notebooks have no outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --keep-id --verify book/*.ipynb

format: $(VENV)/.lint ## mend what lint complains about, where a tool can
	$(BIN)/nbstripout --keep-id book/*.ipynb
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.wheel ## time and memory beside plain autograd and checkpointing (see benchmarks/)
	$(PY) -m benchmarks $(ARGS)

pins: $(VENV)/.test $(VENV)/.lint ## write what is installed now to .ci/constraints.txt (after a change of pins)
	@$(PY) .ci/requirements.py --freeze > $(VENV)/pins.txt && cp $(VENV)/pins.txt .ci/constraints.txt

clean: ## remove all that was built, the environments too
	rm -rf _build dist .pytest_cache .ruff_cache $(VENV) $(VENV)-oldest $(VENV)-newest
	find revode tests book benchmarks .ci -name __pycache__ -prune -exec rm -rf {} +
