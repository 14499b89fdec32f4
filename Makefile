# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

# Label Studio pins other versions of what detal needs, so it gets an environment of its own.
LABEL_STUDIO := .venv-label-studio

.PHONY: demo test check test-browser test-label-studio test-ray constraints clean

demo: $(READY)
	$(BIN)/python tools/select.py --config configs/sandbox.yaml output=runs/demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

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

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else f"detal needs Python 3.10 to 3.13, {sys.executable} is {v[0]}.{v[1]}: name another with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

# Pins for every supported Python in one file; needs uv.
constraints:
	uv pip compile --universal --python-version 3.10 --no-header --no-annotate --upgrade \
		--extra test --extra dev --extra ray pyproject.toml --output-file constraints.txt

clean:
	rm -rf .venv $(LABEL_STUDIO) runs
