# One way to run each thing, the same by hand and in CI. `make` alone lists what there is.
.DEFAULT_GOAL := help
BIN := .venv/bin

.PHONY: help setup demo test check lint types contracts format docs lock bench-convert bench-scale bench-memory \
	bench-sizes bench-pieces bench-serve bench-scheduler bench-s3 load conformance conformance-peers clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.synced: uv.lock pyproject.toml infra/bootstrap.sh
	@infra/bootstrap.sh

setup: .venv/.synced  ## make .venv from the lock file

demo: .venv/.synced  ## phantom corpus -> mirror -> check -> serve; prints what to paste in a notebook
	$(BIN)/voxshelf demo

test: .venv/.synced  ## all tests, with a real S3, a real Dask cluster and real HTTP processes
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: lint types contracts  ## all that needs no running: lint, types, import contracts

lint: .venv/.synced
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.synced
	$(BIN)/mypy

contracts: .venv/.synced
	$(BIN)/lint-imports

format: .venv/.synced  ## let ruff format and mend the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.synced  ## write docs/cli.md anew from --help
	$(BIN)/python -m docs.generate

bench-convert: .venv/.synced  ## a full CT, PET and organs map: voxshelf beside nii2zarr, ngff-zarr and the limit
	$(BIN)/python -m bench.convert

bench-scale: .venv/.synced  ## 100 small subjects in this process, with one worker and with two
	$(BIN)/python -m bench.scale

bench-sizes: .venv/.synced  ## what a corpus takes as .nii.gz and as a mirror: make bench-sizes CORPUS=folder
	$(BIN)/python -m bench.sizes $(CORPUS)

bench-memory: .venv/.synced  ## peak memory: what it grows by when a volume doubles, and what was planned
	$(BIN)/python -m bench.memory

bench-pieces: .venv/.synced  ## encoding, means and modes beside what was tried instead
	$(BIN)/python -m bench.pieces

bench-serve: .venv/.synced  ## ranges from a folder and from S3, and one liver: voxshelf beside nginx, zarr-http-server, obstore
	$(BIN)/python -m bench.serve

bench-scheduler: .venv/.synced  ## 15,000 volumes whose jobs do nothing: planning, scheduling, resuming, publishing
	$(BIN)/python -m bench.scheduler

bench-s3: .venv/.synced  ## small subjects over a real S3, with one worker process and with two
	$(BIN)/python -m bench.bucket

load: .venv/.synced  ## 200 clients for a minute, slow readers, hang-ups, and an upstream that freezes in the middle
	$(BIN)/python -m bench.load

conformance: .venv/.synced  ## make conformance URL=http://...: is a Zarr hierarchy served as its clients need it?
	$(BIN)/python tests/conformance $(URL) $(OPTIONS)

conformance-peers: .venv/.synced  ## voxshelf and its peers side by side: the table of docs/conformance.md
	$(BIN)/python tests/conformance/peers.py --into docs/conformance.md

lock:  ## resolve pyproject.toml anew into uv.lock
	uv lock

clean:  ## remove what the targets above made
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo
