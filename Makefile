# Every target first sees to its own environment (.venv, from the lock files); the second time that takes no time.
# Targets that run services are one `exec`: Ctrl-C and a SIGTERM to make reach the services, and none is orphaned.

WITH := sh deploy/local/with-python -m deploy.local.bootstrap
RUN := $(WITH) run
DEVELOP := $(WITH) develop
TRAIN := $(WITH) train
MEASURE := $(WITH) measure

PHOTOS ?= examples/photos
OUT ?= results.csv
BENCH ?= full
URL ?= http://127.0.0.1:8000
N ?= 200
IMAGES ?= localhost/pawqueue
TAG ?= local
DOCKER ?= docker
COMPOSE ?= docker compose
BUILD_FLAGS ?=
SCANNER ?= docker.io/aquasec/trivy:0.57.1

# A single lane waits half of its time for services to start. A file stays in one lane, with what its tests share.
LANES := -n 2 --dist loadfile --no-loadscope-reorder
UNIT_EDGE := contract gateway pawqueue
SERVICES := gateway worker dashboard mlflow
LOCKS := gateway worker worker-gpu dashboard tracking training client performance local redis dev
UV := sh deploy/local/with-python -m deploy.local.uv
COMPILE := $(UV) --directory requirements pip compile -q --universal --python-version 3.11 --no-header

.PHONY: help demo up test test-unit test-unit-edge test-unit-core test-slow conformance coverage packages images test-containers test-kube scan push roll-out chaos soak bench check fix docs lock train data-download mlflow-upload performance clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo:  ## classify a folder of images: PHOTOS=folder OUT=results.csv
	@exec $(RUN) python -m deploy.local demo --photos "$(PHOTOS)" --out "$(OUT)"

up:  ## start all services and keep them running until Ctrl-C
	@exec $(RUN) python -m deploy.local up

test:  ## run the tests that take seconds, in two lanes
	@exec $(DEVELOP) python -m pytest $(LANES) -m "not slow and not long"

test-unit:  ## run the tests that start no service, in two halves side by side
	@$(DEVELOP) true
	@$(MAKE) --no-print-directory --jobs 2 --output-sync test-unit-edge test-unit-core

# Halves of about the same length, cut so that neither imports all libraries.
test-unit-edge:
	@$(DEVELOP) python -m pytest $(addprefix tests/unit/,$(UNIT_EDGE))

test-unit-core:
	@$(DEVELOP) python -m pytest $(filter-out $(addprefix tests/unit/,$(UNIT_EDGE)),$(patsubst %/__init__.py,%,$(wildcard tests/unit/*/__init__.py)))

test-slow:  ## run the tests that take minutes
	@$(DEVELOP) python -m pytest -m slow || { test $$? -eq 5 && echo "No test is marked slow: nothing was run."; }

coverage:  ## run the tests that take seconds and write coverage.xml
	@exec $(DEVELOP) python -m pytest $(LANES) -m "not slow and not long" --cov --cov-report=term --cov-report=xml

conformance:  ## try the gateway with over 5,000 requests made up from its own document (some ten minutes)
	@exec $(DEVELOP) python -m pytest -m long tests/api

chaos:  ## kill workers, gateways and Redis under load for up to 20 minutes; writes chaos.json
	@exec $(DEVELOP) python -m tests.chaos.run

bench:  ## measure beside a bare loop, writes bench.json: BENCH=quick takes 2 minutes, ONLY="serving bulk" some parts
	@exec $(DEVELOP) python -m benchmarks --scale $(BENCH) $(if $(ONLY),--only $(ONLY))

soak:  ## a steady load for 15 minutes: nothing may grow or stay; writes soak.json and soak.png
	@exec $(DEVELOP) python -m tests.soak.run

check:  ## check format, lint, types and import rules; changes nothing
	@$(DEVELOP) ruff format --check .
	@$(DEVELOP) ruff check .
	@$(DEVELOP) mypy
	@$(DEVELOP) lint-imports

fix:  ## mend what the checks can mend by themselves
	@$(DEVELOP) ruff check --fix .
	@$(DEVELOP) ruff format .

docs:  ## write the pages that are made from the code
	@$(DEVELOP) true  # what it says of its set-up must not land in a page
	@$(DEVELOP) python -m contract.settings > docs/settings.md
	@$(DEVELOP) python -m gateway.http.api_page > docs/api.md
	@$(DEVELOP) python -m deploy.prometheus_rule > deploy/k8s/components/monitoring/prometheus-rule.yaml

lock:  ## resolve requirements/*.in into the lock files
	@$(COMPILE) --no-annotate all.in -o constraints.txt
	@for name in $(LOCKS); do \
	  $(COMPILE) --generate-hashes -c constraints.txt $$name.in -o $$name.txt || exit 1; \
	done
	@$(COMPILE) --generate-hashes uv.in -o uv.txt

train:  ## train a model: DATA=folder of labelled images
	@exec $(TRAIN) python -m training.run $(if $(DATA),"$(DATA)")

performance:  ## measure a running service on labelled images: URL=address DIR=folder N=200
	@exec $(MEASURE) python deploy/performance_tracking.py --api-url "$(URL)" --test-dir "$(DIR)" --max-samples "$(N)"

data-download:  ## fetch the public set of labelled images (address and checksum in params.yaml)
	@exec $(TRAIN) python -m training.data.download

mlflow-upload:  ## send the last training result to MLflow, after a run that could not
	@exec $(TRAIN) python -m training.release.tracking

packages:  ## install the Debian packages whose commands the tests need
	@.ci/packages

images:  ## build the four images: IMAGES=prefix TAG=tag
	@for name in $(SERVICES); do \
	  $(DOCKER) build $(BUILD_FLAGS) --build-arg REVISION="$(TAG)" -f Dockerfile.$$name -t "$(IMAGES)-$$name:$(TAG)" . || exit 1; \
	done

test-containers: images  ## build the images and show that docker-compose.yml runs: DOCKER=podman COMPOSE=podman-compose
	@exec $(DEVELOP) python -m tests.containers --engine "$(DOCKER)" --compose "$(COMPOSE)" --images "$(IMAGES)"

test-kube:  ## run the Deployments of the rendered manifests by podman, with the images that `make images` built
	@exec $(DEVELOP) python -m tests.containers.kube

scan:  ## look for known holes in the images: fails on a serious one that has a fix
	@for name in $(SERVICES); do \
	  $(DOCKER) run --rm -v /var/run/docker.sock:/var/run/docker.sock $(SCANNER) image --exit-code 1 --ignore-unfixed \
	    --severity HIGH,CRITICAL "$(IMAGES)-$$name:$(TAG)" || exit 1; \
	done

push:  ## push the images that `make images` built
	@for name in $(SERVICES); do $(DOCKER) push "$(IMAGES)-$$name:$(TAG)" || exit 1; done

roll-out:  ## put the images of TAG on the cluster, try them, go back by itself when they do not serve
	@exec sh deploy/local/with-python -m deploy.roll_out --images "$(IMAGES)" --tag "$(TAG)"

clean:  ## remove the environment and all caches; keeps the state folder and results
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build/lib
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
