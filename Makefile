# Every target installs what it needs first: .venv with the exact versions of requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
# two processes of one thread each are faster than one process of two
TEST_JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=$(TEST_JOBS) --dist=worksteal
# the name holds the folder, since an environment does not work in another one
INSTALLED := .venv/.installed-in$(subst /,-,$(subst $() $(),_,$(CURDIR)))

.PHONY: help install run test check attack bench bench-gpu gate ui site links lock clean
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED) ## create .venv (other targets call this)
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dnr_bench needs Python 3.11 or later; this is %s. Name another with: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@echo "Installing into .venv (some minutes, several GB: PyTorch brings its CUDA libraries) ..."
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv > /dev/null || true  # pip uses one core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch "$@"

run: install ## describe the default neurons; more settings: make run ARGS="scorer=semantic blur=2"
	$(BIN)/dnr-bench $(ARGS)

test: install ## run the tests, except for slow ones
	$(PYTEST) -m "not slow"

check: install ## everything: format, lint, types, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

attack: install ## kill, damage and feed nonsense to everything: about eleven minutes, not part of the tests
	$(BIN)/python -m tests.attack $(ARGS)

bench: install ## measure speed and memory as ratios: about ten minutes on two cores; ARGS=--long for more
	$(BIN)/python -m tests.bench $(ARGS)

bench-gpu: install ## the stages of full-size architectures at random weights on a GPU
	$(BIN)/python -m tests.bench --gpu $(ARGS)

gate: install ## has label quality got worse than conf/baselines/shapes512.yaml? two minutes
	$(BIN)/dnr-bench gate baseline=shapes512 $(ARGS)

ui: install ## open MLflow on what has been run, at http://127.0.0.1:5000
	$(BIN)/dnr-bench ui

SITE := .venv-site/.installed-in$(subst /,-,$(subst $() $(),_,$(CURDIR)))
site: $(SITE) ## build the documentation as a web site, in site/index.html
	.venv-site/bin/sphinx-build --quiet --fail-on-warning --keep-going -c docs -b html . site
	@cp site/README.html site/index.html && echo "written: site/index.html"
$(SITE): docs/requirements.txt
	$(PYTHON) -m venv --clear .venv-site
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch "$@"

links: $(SITE) ## do the links of the documentation lead somewhere? needs the network
	.venv-site/bin/sphinx-build --quiet -c docs -b linkcheck . site/links

lock: ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --extra dev --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --quiet --upgrade pyproject.toml -o requirements.lock

clean: ## remove .venv and everything that runs have made
	rm -rf .venv .venv-site site mlruns/* build *.egg-info
