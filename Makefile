# make run    the workbook, executed, in build/book/, and the table dense / pruned, measured live
# make test   ruff, pytest, nbval on every notebook, each cell run twice
# make walk   the site and JupyterLab in headless Chromium, which you install; screenshots in build/walk/
# make release  the assignments for nbgrader, in build/course/
# make lab    the student copies in work/, opened in JupyterLab

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(shell find cspkit data/digits -type f -not -name '*.pyc')
BOOK := README.md $(PACKAGE) $(shell find data/models data/results -type f) $(wildcard notebooks/*.ipynb)
# Two processes at a time use two cores; each keeps to one thread.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: run test walk lab reset install notebooks release clean
.DELETE_ON_ERROR:

run: install
	@$(MAKE) --no-print-directory -j2 build/book/index.html build/headline.csv
	@cat build/headline.txt
	@echo "the workbook: build/book/index.html"

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	CSPKIT_PROGRESS=0 $(BIN)/python -m pytest -n 2 tests
	CSPKIT_PROGRESS=0 $(BIN)/python -m pytest -n 2 --dist loadscope -p tests.run_twice --nbval-lax --nbval-current-env --nbval-cell-timeout=240 \
	    --nbval-sanitize-with tests/nbval_sanitize.cfg -p no:cacheprovider notebooks/*.ipynb

walk: build/book/index.html
	$(BIN)/python tests/benchmarks/walk_site.py build/book build/walk
	$(BIN)/python tests/benchmarks/walk_lab.py build/walk/lab

lab: install
	@$(BIN)/python -m cspkit.teach.work work
	JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter $(BIN)/jupyter lab --notebook-dir=work work/00_start_here.ipynb

# make reset NOTEBOOK=03 starts a student copy anew; the old one moves to work/old/
reset: install
	@test -n "$(NOTEBOOK)" || { echo "make reset needs the number of a notebook: make reset NOTEBOOK=03"; exit 2; }
	@$(BIN)/python -m cspkit.teach.work work --reset $(NOTEBOOK)

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml .ci/preflight.py
	@$(PYTHON) .ci/preflight.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

build/book/index.html: $(BOOK) $(VENV)/installed
	@CSPKIT_PROGRESS=0 $(BIN)/python -m cspkit.teach.book build/book

# Rows are kept as they are measured, so a run that was stopped goes on where it was.
build/headline.csv: $(PACKAGE) $(VENV)/installed
	@mkdir -p build/headline
	@$(BIN)/python -m cspkit compare --methods dense dense+ gmp csp csp+D --sparsities 0.95 --seeds 0 --jobs 1 \
	    --train-dense build/headline --keep build/headline/models --out build/headline/rows.csv > build/headline/table.txt
	@grep -v "^written" build/headline/table.txt > build/headline.txt
	@mv build/headline/rows.csv $@
	@rm -r build/headline

# Executes the notebooks in place and writes the student copies: before a commit that changes them.
notebooks: install
	$(BIN)/python -m cspkit.teach.notebooks
	$(BIN)/python -m cspkit.teach.release build/course --copies

# The course for nbgrader: assignments without solutions, in build/course/release/.
release: install
	$(BIN)/python -m cspkit.teach.release build/course

clean:
	rm -rf build $(VENV)
