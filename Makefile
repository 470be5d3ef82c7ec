PYTHON ?= python3
PIP = .venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt
PACKAGES = shared packages/langchain_jinaclip packages/llamaindex_jinaclip packages/haystack_jinaclip \
	packages/llama_index_embeddings_jinaclip
# Threads of PyTorch that wait leave the core to others. A test that hangs ends its process, which fails it.
# How often a failed test is run again.
RERUNS ?= 0
# Whether a skip that tests/skips.py does not expect fails the run.
SKIPS ?= $(if $(CI),full,list)
PYTEST = OMP_WAIT_POLICY=PASSIVE .venv/bin/python -m pytest -rfER --reruns $(RERUNS) --skips $(SKIPS) \
	-o faulthandler_exit_on_timeout=true
# More processes than two cores, as tests wait, the quick ones most. By file, in the order of tests/order.py: the quick
# first. What takes its time goes to whoever is idle.
IN_ORDER = --numprocesses 4 --dist loadfile --no-loadscope-reorder
WHO_IS_IDLE = --numprocesses 3 --dist worksteal
ANYWHERE = not network and not weights and not gpu and not browser
# Tests start hundreds of processes, each of which would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE
SOURCES = $(wildcard pyproject.toml constraints.txt requirements-dev.txt requirements-core-tests.txt $(addsuffix /pyproject.toml,$(PACKAGES)))

.PHONY: demo test test-all test-versions test-lowest soak fuzz browser check bench docs gpu build clean test-long coverage release-check

demo: .venv/installed  ## a catalogue searched by text, picture and both; one server for three frameworks, a cache, an answer
	.venv/bin/python examples/demo.py
	.venv/bin/python examples/one_server.py

test: .venv/installed  ## the quick tests, in some four minutes on two cores; mteb is not installed for them
	$(PYTEST) $(IN_ORDER) --ignore tests/evaluation/test_mteb.py

test-all: test .venv/installed-all  ## and the slow ones, and those that need mteb: what CI runs
	$(PYTEST) $(WHO_IS_IDLE) -m "slow and not long and $(ANYWHERE)"

test-long: .venv/installed  ## what repeats a claim at scale, and takes long: for people, before a release
	$(PYTEST) $(WHO_IS_IDLE) -m "long and $(ANYWHERE)"

test-versions: .venv/installed  ## the core's tests on the other Pythons that are found, without PyTorch
	.venv/bin/python scripts/test_versions.py

test-lowest: .venv/installed  ## the suites of core and adapters at the lowest versions they declare, without PyTorch
	.venv/bin/python scripts/test_lowest.py

coverage: .venv/installed  ## which branches the core's quick tests take, in subprocesses too; `coverage html` shows the lines
	.venv/bin/python scripts/measure_coverage.py

soak: .venv/installed  ## calls of every kind under faults, for ten minutes or JINACLIP_TEST_SECONDS=
	.venv/bin/python -m tests.soak

fuzz: .venv/installed  ## inputs that were tampered with, for two minutes or JINACLIP_TEST_SECONDS=
	.venv/bin/python -m tests.fuzz

browser: .venv/installed docs  ## what Chromium shows of the crafted image files, stored anew; the pages of server and site; needs chromium
	.venv/bin/python -m tests.images.browser
	.venv/bin/python -m pytest -m browser tests/server tests/docs

docs: .venv/docs  ## the documentation as a site, in site/; a broken link or reference is an error
	.venv/bin/python -m scripts.docs

check: .venv/installed  ## style, types, import table, workflows
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pyright
	.venv/bin/python -m pytest tests/test_architecture.py
	.venv/bin/jactionlint

gpu:  ## tests and figures that need a CUDA device, in ten minutes, into gpu-report.md; by the interpreter PYTHON_GPU=
	$(or $(PYTHON_GPU),.venv/bin/python) scripts/gpu.py

bench: .venv/installed  ## speed, as ratios within one run
	.venv/bin/python benchmarks/imports.py
	.venv/bin/python benchmarks/api.py
	.venv/bin/python benchmarks/rerank.py

build: .venv/installed  ## sdist and wheel of all five distributions, in dist/
	.venv/bin/python scripts/build.py dist

release-check: .venv/installed  ## what would be published: built, judged, installed into an empty environment and used there
	.venv/bin/python scripts/release_check.py

clean:
	rm -rf .venv .venv-3.* .venv-lowest-* dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz

.venv/installed: $(SOURCES)
	@echo "installing into .venv: some minutes the first time"
	$(PYTHON) -m venv .venv
	$(PIP) --requirement requirements-dev.txt --editable "shared[bulk,export,local,rerank,evaluate,redis,sagemaker,serve,testing]" $(addprefix --editable ,$(filter-out shared,$(PACKAGES)))
	touch $@

.venv/docs: .venv/installed requirements-docs.txt
	$(PIP) --requirement requirements-docs.txt
	touch $@

.venv/installed-all: .venv/installed
	$(PIP) --editable "shared[mteb]"
	touch $@
