SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PY := PYTHONPATH=. .venv/bin/python
ARGS ?=

# Every target but those that are files.
.PHONY: $(shell grep -oE '^[a-z-]+:' $(firstword $(MAKEFILE_LIST)) | tr -d :)

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## make both Python environments, vendor ComfyUI, write the scale models
	@$(PYTHON) scripts/make_env.py .venv requirements-dev.lock --needs-gb 1
	@$(PYTHON) scripts/make_env.py comfy/.venv comfy/requirements.lock --needs-gb 8
	@$(PYTHON) scripts/vendor_comfyui.py
	@comfy/.venv/bin/python comfy/scale_models/write.py build/scale-models

.venv/installed.sha256: requirements-dev.lock
	@$(PYTHON) scripts/make_env.py .venv $< --needs-gb 1

run: setup ## edit the example photo through the worker, into out/
	@$(PY) scripts/run_edit.py $(ARGS)

serve: setup ## gateway and one worker on this machine, on http://127.0.0.1:8787
	@exec env $(PY) scripts/serve.py

gateway: .venv/installed.sha256 ## the gateway alone, with the variables that are set
	@exec env $(PY) -m gateway serve $(ARGS)

worker: setup ## the worker in RunPod's loop, with the RUNPOD_ variables that are set
	@$(PY) scripts/run_worker.py $(ARGS)

test: setup lint types unit contract browser integration ## everything that CI checks

lint: .venv/installed.sha256 ## style, and the arrows between modules
	@.venv/bin/ruff check handler gateway scripts tests comfy benchmarks .runpod
	@.venv/bin/ruff format --check handler gateway scripts tests comfy benchmarks .runpod
	@.venv/bin/lint-imports

types: .venv/installed.sha256 ## mypy, strict
	@.venv/bin/mypy

unit: .venv/installed.sha256 ## tests of single modules
	@.venv/bin/python -m pytest tests/unit $(ARGS)

contract: setup ## our stand-ins against the real ComfyUI, SDK and S3 server; documents against the code
	@.venv/bin/python -m pytest tests/contract $(ARGS)

integration: setup ## the whole worker against the real ComfyUI on the CPU
	@.venv/bin/python -m pytest tests/integration $(ARGS)

browser: .venv/installed.sha256 ## the page in a real browser, which is brought where there is none
	@.venv/bin/python -m pytest tests/browser $(ARGS)

soak: .venv/installed.sha256 ## besiege the gateway with ten seeds of faults, 500 jobs each, on both databases: hours
	@$(PY) -m tests.siege $(ARGS)

format: ## rewrite the code in the one style
	@.venv/bin/ruff check --fix handler gateway scripts tests comfy benchmarks .runpod
	@.venv/bin/ruff format handler gateway scripts tests comfy benchmarks .runpod

PROFILE = $${WORKER_MODELS_PROFILE:+--profile "$$WORKER_MODELS_PROFILE"}

verify-models: .venv/installed.sha256 ## full SHA-256 of the weights in WORKER_MODELS_DIR
	@$(PY) scripts/verify_models.py --models-dir "$${WORKER_MODELS_DIR:-/workspace/ComfyUI/models}" $(PROFILE) $(ARGS)

fetch-models: .venv/installed.sha256 ## fetch the weights of models.lock into WORKER_MODELS_DIR
	@$(PY) scripts/fetch_models.py --into "$${WORKER_MODELS_DIR:-/workspace/ComfyUI/models}" $(PROFILE) $(ARGS)

lock-models: .venv/installed.sha256 ## ask the hub anew what the files of models.lock are
	@$(PY) scripts/lock_models.py $(ARGS)

TARGET ?= worker
IMAGE ?= qwen-image-edit-worker

image: ## build the image with Docker; TARGET=worker-baked for the one with the weights inside
	@docker build --target $(TARGET) --tag $(IMAGE) $(ARGS) .

test-image: ## build the image and try it: with Docker, or as root on Debian with buildah
	@$(PYTHON) scripts/test_image.py $(ARGS)

# IMAGE counts when it was given, not by its default above.
SMOKE_IMAGE := $(if $(filter-out file,$(origin IMAGE)),$(IMAGE))

smoke: $(if $(SMOKE_IMAGE),.venv/installed.sha256,setup) ## a real edit on this machine's GPU, checked; IMAGE=name for the image
	@$(PY) scripts/smoke.py $(if $(SMOKE_IMAGE),--image $(SMOKE_IMAGE)) $(ARGS)

schema: .venv/installed.sha256 ## write the contract of jobs and answers into schema/
	@for of in input output; do $(PY) -m handler schema $$of > schema/$$of.json; done

docs: .venv/installed.sha256 ## write the parts of README.md and docs/ that come from the code
	@$(PY) scripts/write_docs.py

deploy: .venv/installed.sha256 ## make the endpoint at RunPod what deploy.toml says, and try it; ARGS=plan, check, destroy
	@$(PY) -m gateway deploy $(or $(ARGS),apply)

bench: setup ## measure what the worker adds around the GPU; ARGS=NAME for one benchmark
	@$(PY) -m benchmarks $(ARGS)

simulate: .venv/installed.sha256 ## simulate an endpoint under load, to choose its settings; ARGS=--help
	@$(PY) -m benchmarks.simulate $(ARGS)

lock: setup ## resolve the Python locks again
	@scripts/lock-python

clean: ## remove everything that the other commands made, but for weights in build/models
	@rm -rf .venv comfy/.venv comfy/ComfyUI out
	@! [ -d build ] || find build -mindepth 1 -maxdepth 1 ! -name models -exec rm -rf {} +
