# Two commands on a fresh machine with Python >= 3.11 and make: `make demo` and `make test`.
# Both create their own virtual environment in .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

# One process per core: threads inside the linear algebra would only get in each other's way.
test slow: export OPENBLAS_NUM_THREADS = 1
test slow: export OMP_NUM_THREADS = 1

.PHONY: help demo test slow references check format pictures bench witnesses clean

help:
	@echo "make demo      audit real data, offline; ends by naming the report it wrote"
	@echo "make test      the tests (make slow: those that take minutes)"
	@echo "make check     lint, format and types"
	@echo "make references  agreement with independent packages (installed into an environment of their own)"
	@echo "make bench     speed as ratios to bare numpy"
	@echo "make witnesses search the lattice's witnesses again (deterministic)"
	@echo "make pictures  the pictures of the README (needs Chromium and PREFCAL_DATA)"

$(VENV)/.demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prefcal needs Python 3.11 or newer, found " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.demo
	@mkdir -p out
	@$(BIN)/prefcal demo --report out/demo.html

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) -m 'not slow'

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) -m slow

# Apart: these packages bring many others, which nothing else here needs.
references: $(VENV)/.dev
	test -x $(VENV)-references/bin/python || $(PYTHON) -m venv $(VENV)-references
	$(VENV)-references/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test,references]'
	$(VENV)-references/bin/python -m pytest tests/test_references.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_audit.py

witnesses: $(VENV)/.dev
	$(BIN)/python -c 'from prefcal.notions.search import regenerate; [print(m, "items:", len(regenerate(m)), "witnesses") for m in (2, 3, 4, 5)]'

pictures: $(VENV)/.dev
	$(BIN)/python docs/make_pictures.py

clean:
	rm -rf $(VENV) $(VENV)-references out dist build .pytest_cache .mypy_cache .ruff_cache
