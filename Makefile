# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

# Label Studio pins other versions of what detal needs, so it gets an environment of its own.
LABEL_STUDIO := .venv-label-studio

# The oldest and newest versions that pyproject.toml allows, each in an environment of its own.
LOWEST := .venv-lowest
NEWEST := .venv-newest
PYTHON_LOWEST ?= python3.10
TESTS ?= tests

.PHONY: demo test bench check test-browser test-label-studio test-ray test-lowest test-newest \
	bad-inputs fuzz audit constraints clean

demo: $(READY)
	$(BIN)/python tools/select.py --config configs/sandbox.yaml output=runs/demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

# Every bench into runs/bench/results, and one table of them; hours, goes on where it was stopped.
bench: $(READY)
	$(BIN)/python tools/bench/summary.py --run runs/bench

# The report and review pages in Debian's Chromium (apt-get install chromium); skipped without it.
test-browser: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,browser]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/browser

# Ray with what Ray Data needs is 600 MB, so it comes after everything else was tested without it.
test-ray: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m ray tests

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-label-studio: $(READY) $(LABEL_STUDIO)/ready
	DETAL_LS_PYTHON=$(LABEL_STUDIO)/bin/python $(BIN)/python -m pytest -q tests/runs/test_real_label_studio.py

$(LABEL_STUDIO)/ready: Makefile
	$(PYTHON) -m venv $(LABEL_STUDIO)
	$(LABEL_STUDIO)/bin/python -m pip install --quiet label-studio==1.23.2
	touch $@

# Deprecations that old packages see in each other, and files that they leave open, say nothing about
# detal.
LENIENT := -W ignore::DeprecationWarning -W ignore::pytest.PytestUnraisableExceptionWarning

test-lowest:
	$(PYTHON_LOWEST) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[test]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n 2 $(LENIENT) $(TESTS)

test-newest:
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[test]'
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -q -n 2 $(TESTS)

bad-inputs: $(READY)
	$(BIN)/python tools/bench/bad_inputs.py --scratch runs/bad-inputs

# Coverage-guided where atheris can be installed (`pip install atheris`), blind elsewhere.
SECONDS_EACH ?= 600
fuzz: $(READY)
	-$(BIN)/python -m pip install --quiet atheris
	$(BIN)/python tools/bench/fuzz.py --seconds $(SECONDS_EACH) --findings runs/fuzz

# Known vulnerabilities of the pinned versions; needs the network.
audit: $(READY)
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else f"detal needs Python 3.10 to 3.13, {sys.executable} is {v[0]}.{v[1]}: name another with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

# Pins for every supported Python in one file; needs uv.
constraints:
	uv pip compile --universal --python-version 3.10 --no-header --no-annotate --upgrade \
		--extra test --extra dev --extra ray pyproject.toml --output-file constraints.txt
	uv pip compile --resolution lowest-direct --python-version 3.10 --no-header --no-annotate \
		--upgrade --extra test pyproject.toml --output-file constraints-lowest.txt

clean:
	rm -rf .venv $(LABEL_STUDIO) $(LOWEST) $(NEWEST) runs
