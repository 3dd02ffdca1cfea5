# Each target first installs what it needs into .venv (deploy/local/setup.sh), or does nothing if that is up to date.
# Recipes `exec` their command, so Ctrl-C and a SIGTERM sent to make reach it.

SETUP := sh deploy/local/setup.sh
RUN := exec env VIRTUAL_ENV="$(CURDIR)/.venv" PATH="$(CURDIR)/.venv/bin:$$PATH"

LOCKS_run := gateway worker dashboard client local keras2
LOCKS_train := training local
LOCKS_measure := performance local
LOCKS_develop := $(LOCKS_run) performance training tracing dev

PHOTOS ?= examples/photos
OUT ?= results.csv
BENCH ?= full
ON ?= containers
URL ?= http://127.0.0.1:8000
N ?= 200
MINUTES ?= 10
IMAGES ?= localhost/pawqueue
TAG ?= local
DOCKER ?= docker
COMPOSE ?= docker compose
BUILD_FLAGS ?=
PUSH_AS ?= $(IMAGES)
SCANNER ?= docker.io/aquasec/trivy:0.57.1@sha256:5c59e08f980b5d4d503329773480fcea2c9bdad7e381d846fbf9f2ecb8050f6b

# Two processes: one alone would spend half its time waiting for services to start. The tests of a file share fixtures,
# so they run in the same process.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
UNIT_EDGE := contract gateway pawqueue
SERVICES := gateway worker dashboard mlflow
LOCKS := gateway worker worker-gpu dashboard tracing tracking training client performance local redis dev
PEERS := bentoml fastapi litserve mosec rayserve
COMPILE := $(SETUP) uv --directory requirements pip compile -q --universal --python-version 3.11 --no-header

.PHONY: help demo up test test-unit test-unit-edge test-unit-core test-slow conformance coverage packages images test-containers test-kube save scan load push pins roll-out promote-model chaos fuzz hostile soak bench check fix docs lock train data-download mlflow-upload performance clean moved

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

# .venv/.home holds the path of the project when .venv was created. If the project has moved, or the Python of .venv is
# gone, everything is set up again.
MOVED := $(shell test -x .venv/bin/python && test "$$(cat .venv/.home 2>/dev/null)" = "$$(pwd -P)" || echo moved)

# The name of a stamp contains a checksum of all files that determine what is installed. Modification times are not used,
# because unpacked files may have old ones.
READY := .venv/.ready-$(shell { cat requirements/*.txt pyproject.toml deploy/local/setup.sh; echo $(sort $(wildcard */__init__.py)); } | cksum | cut -d ' ' -f 1)-
$(addprefix $(READY),run train measure develop): $(READY)%: $(MOVED)
	@$(SETUP) packages $(foreach lock,$(LOCKS_$*),-r requirements/$(lock).txt)
	@touch $@

# A link to redis-server. If that server is uninstalled, the link breaks and make looks for another one.
.venv/.redis: $(MOVED)
	@$(SETUP) redis

RUN_NEEDS := $(READY)run $(if $(PAWQUEUE_REDIS_URL),,.venv/.redis)
TEST_NEEDS := $(READY)develop .venv/.redis

demo: $(RUN_NEEDS)  ## classify a folder of images with temporary services: PHOTOS=folder OUT=results.csv MODEL=file LABELS=a,b IMPORT="--scale 0..1"
	@$(RUN) python -m deploy.local demo --photos "$(PHOTOS)" --out "$(OUT)" $(if $(MODEL),--import "$(MODEL)" $(if $(LABELS),--labels "$(LABELS)") $(IMPORT))

up: $(RUN_NEEDS)  ## start all services and keep them running until Ctrl-C
	@$(RUN) python -m deploy.local up

test: $(TEST_NEEDS)  ## run the fast tests
	@$(RUN) python -m pytest $(PARALLEL) -m "not slow and not long"

test-unit: $(TEST_NEEDS)  ## run the unit tests in two parallel halves
	@$(MAKE) --no-print-directory --jobs 2 --output-sync test-unit-edge test-unit-core

# Both halves take about the same time, and neither imports all libraries.
test-unit-edge: $(TEST_NEEDS)
	@$(RUN) python -m pytest $(addprefix tests/unit/,$(UNIT_EDGE))

test-unit-core: $(TEST_NEEDS)
	@$(RUN) python -m pytest $(filter-out $(addprefix tests/unit/,$(UNIT_EDGE)),$(patsubst %/__init__.py,%,$(wildcard tests/unit/*/__init__.py)))

test-slow: $(TEST_NEEDS)  ## run the slow tests, which take minutes
	@$(RUN) python -m pytest $(PARALLEL) -m slow

coverage: $(TEST_NEEDS)  ## run the fast tests and write coverage.xml
	@$(RUN) python -m pytest $(PARALLEL) -m "not slow and not long" --cov --cov-report=term --cov-report=xml

conformance: $(TEST_NEEDS)  ## test the gateway with over 5,000 requests generated from its OpenAPI document (ten minutes)
	@$(RUN) python -m pytest -m long tests/api

chaos: $(TEST_NEEDS)  ## kill workers, gateways, notifiers and Redis under load for up to 20 minutes, and write chaos.json
	@$(RUN) python -m tests.chaos.run

fuzz: $(TEST_NEEDS)  ## decode damaged images for MINUTES=10 and report crashes, hangs and what takes too much memory or time
	@$(RUN) python -m tests.fuzz.run --minutes "$(MINUTES)"

hostile: $(TEST_NEEDS) $(if $(filter processes,$(ON)),,images)  ## attack the services of docker-compose.yml, or with ON=processes ones started here; write hostile.json
	@$(RUN) python -m tests.hostile.run --on "$(ON)" --engine "$(DOCKER)" --compose "$(COMPOSE)" --images "$(IMAGES)"

bench: $(TEST_NEEDS)  ## measure throughput and latency, and write bench.json: BENCH=quick ONLY="serving bulk" ROUNDS=5
	@$(RUN) python -m benchmarks --scale $(BENCH) $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

soak: $(TEST_NEEDS)  ## check for leaks under 15 minutes of load, and write soak.json and soak.png
	@$(RUN) python -m tests.soak.run

check: $(TEST_NEEDS)  ## check format, lint, types and import rules
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(RUN) lint-imports

fix: $(TEST_NEEDS)  ## fix format and lint
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

docs: $(TEST_NEEDS)  ## generate docs/settings.md, docs/api.md, the Prometheus rules, the Grafana boards and the users of Redis
	@$(RUN) python -m contract.settings > docs/settings.md
	@$(RUN) python -m gateway.http.api_page > docs/api.md
	@$(RUN) python -m deploy.monitoring.prometheus_rule > deploy/k8s/components/monitoring/prometheus-rule.yaml
	@$(RUN) python -m contract.ledger.users > deploy/redis-users.conf
	@$(RUN) python -m deploy.monitoring.boards

lock:  ## resolve requirements/*.in into the lock files
	@$(COMPILE) --no-annotate all.in -o constraints.txt
	@for name in $(LOCKS); do \
	  $(COMPILE) --generate-hashes -c constraints.txt $$name.in -o $$name.txt || exit 1; \
	done
	@$(COMPILE) --generate-hashes uv.in -o uv.txt
	@$(COMPILE) --generate-hashes --no-deps keras2.in -o keras2.txt
	@for name in $(PEERS); do $(COMPILE) --generate-hashes peers/$$name.in -o peers/$$name.txt || exit 1; done

train: $(READY)train  ## train a model: DATA=folder of labeled images
	@$(RUN) python -m training.run $(if $(DATA),"$(DATA)")

performance: $(READY)measure  ## measure a running service on labeled images: URL=url DIR=folder N=200
	@$(RUN) python deploy/performance_tracking.py --api-url "$(URL)" --test-dir "$(DIR)" --max-samples "$(N)"

data-download: $(READY)train  ## download the public training images (URL and checksum in params.yaml)
	@$(RUN) python -m training.data.download

mlflow-upload: $(READY)train  ## upload the last training run to MLflow, if that failed during training
	@$(RUN) python -m training.release.tracking

packages:  ## install the Debian packages that the tests need
	@.ci/packages

images:  ## build the container images: IMAGES=prefix TAG=tag
	@for name in $(SERVICES); do \
	  $(DOCKER) build $(BUILD_FLAGS) --build-arg REVISION="$(TAG)" -f Dockerfile.$$name -t "$(IMAGES)-$$name:$(TAG)" . || exit 1; \
	done

test-containers: images $(TEST_NEEDS)  ## test docker-compose.yml with these images: DOCKER=podman COMPOSE=podman-compose
	@$(RUN) python -m tests.containers --engine "$(DOCKER)" --compose "$(COMPOSE)" --images "$(IMAGES)"

test-kube: $(TEST_NEEDS)  ## test the Kubernetes manifests with podman and the images of `make images`
	@$(RUN) python -m tests.containers.kube

save:  ## write the images of `make images` to build/images
	@mkdir -p build/images
	@for name in $(SERVICES); do $(DOCKER) save -o "build/images/$$name.tar" "$(IMAGES)-$$name:$(TAG)" || exit 1; done

# The scanner reads files: with the socket of Docker, it could control the machine.
scan: save  ## scan the images; fail on high or critical vulnerabilities that have a fix
	@for name in $(SERVICES); do \
	  $(DOCKER) run --rm -v "$(CURDIR)/build/images:/images:ro" $(SCANNER) image --input "/images/$$name.tar" \
	    --exit-code 1 --ignore-unfixed --severity HIGH,CRITICAL || exit 1; \
	done

load:  ## load the images in build/images
	@for name in $(SERVICES); do $(DOCKER) load -i "build/images/$$name.tar" || exit 1; done

push:  ## push the images of `make images`, under the prefix PUSH_AS
	@for name in $(SERVICES); do \
	  $(DOCKER) tag "$(IMAGES)-$$name:$(TAG)" "$(PUSH_AS)-$$name:$(TAG)" && \
	  $(DOCKER) push "$(PUSH_AS)-$$name:$(TAG)" || exit 1; \
	done

pins:  ## write the current digest of each foreign image into the files that use it
	@$${PYTHON:-python3} deploy/pin_images.py

roll-out:  ## deploy the images of TAG to the cluster, test them, roll back on failure
	@exec "$${PYTHON:-python3}" -m deploy.roll_out --images "$(IMAGES)" --tag "$(TAG)"

promote-model: $(READY)run  ## make a VERSION of a MODEL live in the cluster, as a canary first
	@$(RUN) python -m deploy.promote_model --model "$(MODEL)" --version "$(VERSION)"

clean:  ## remove .venv and all caches; keep state and results
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build/lib
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
