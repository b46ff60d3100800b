# What a person or a machine does with glimpse; `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8

# For `make demo` on your own pictures: make demo IMAGES=folder QUERY="a red bicycle" MODEL=ViT-B/32
IMAGES ?=
QUERY ?=
MODEL ?=

# Processes that run tests.
JOBS ?= 3

# For the benchmarks: the store that they run on, and options, which --help of each lists.
STORE ?= milvus
BENCH ?=
ROWS ?= 200000
LOAD ?=
FUZZ ?=
SOAK ?=
CHAOS ?=
HOSTILE ?=
FIRST_DAY ?=
CLUSTER ?=
IMAGES ?=
CONTEXT ?=
CORPUS ?=

PROTOS := $(shell find protos -name '*.proto' | sort)
GOOGLEAPIS = $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

.DEFAULT_GOAL := help
.PHONY: help demo test contract chaos soak fuzz hostile corpus rolling audit bench bench-encoder \
	bench-search bench-ingest bench-int8 bench-peers bench-gpu bench-models bench-scale \
	bench-compare first-day \
	load capacity ghz grpcurl kustomize promtool milvus-server check format lint types docs protos api-docs protos-check protos-release \
	k8s-check cluster-test cluster-pods image-check example-go example-go-if-there example-typescript example-typescript-if-there \
	example-java example-java-if-there constraints clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: $(VENV)/.stack ## set everything up, index 1,000 drawn pictures, search them, write build/demo/
	@$(BIN)/python -m demo.run $(if $(IMAGES),--images "$(IMAGES)") $(if $(QUERY),--query "$(QUERY)") $(if $(MODEL),--model "$(MODEL)")

# In their order, so that those that take long do not come last. Most tests wait for processes more than
# they compute, those of the Milvus server most of all: one more process than there are processors.
test: $(VENV)/.dev milvus-server ghz grpcurl kustomize promtool example-go-if-there \
	example-typescript-if-there example-java-if-there ## run every test that needs no GPU and no network
	$(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder

# The server's own address and token come from the environment or from the command line, and are not shown, as do
# MILVUS_DATABASE and MILVUS_TLS_CA_FILE, …_CERT_FILE, …_KEY_FILE: make contract MILVUS_URI=https://milvus:19530
# MILVUS_TOKEN=root:…
contract: $(VENV)/.dev $(if $(MILVUS_URI),,milvus-server) ## hold the stores to their contract; MILVUS_URI=… a server of yours
	@GLIMPSE_TEST_MILVUS_URI="$$MILVUS_URI" $(BIN)/python -m pytest tests/contract $(if $(MILVUS_URI),-k remote)

bench: ## measure encoder, indexing and searches; one table; docs/benchmarks.md's section for this machine
	$(MAKE) bench-encoder bench-ingest bench-search
	$(BIN)/python -m benchmarks.document

# Results go to build/bench/*.json. Options of one: BENCH="--rounds 5 --seconds 10"
bench-encoder: $(VENV)/.dev ## measure the encoder beside the tutorial's loop
	$(BIN)/python -m benchmarks.encoder $(BENCH)

bench-int8: $(VENV)/.dev ## measure on photographs what int8 keeps; BENCH="--images FOLDER"
	$(BIN)/python -m benchmarks.int8 $(BENCH)

bench-models: $(VENV)/.dev ## measure each family of models beside its own library
	$(BIN)/python -m benchmarks.models $(BENCH)

bench-gpu: $(VENV)/.dev ## measure the encoder on this machine's GPU; docs/benchmarks.md's section for it
	$(BIN)/python -m benchmarks.gpu $(BENCH)
	$(BIN)/python -m benchmarks.document build/bench/gpu.json

bench-search: $(VENV)/.dev milvus-server ## measure searches, STORE=milvus or lite
	$(BIN)/python -m benchmarks.search --store $(STORE) $(BENCH)

bench-ingest: $(VENV)/.dev milvus-server ## measure indexing, STORE=milvus or lite
	$(BIN)/python -m benchmarks.ingest --store $(STORE) $(if $(IMAGES),--images "$(IMAGES)") $(BENCH)

bench-peers: $(VENV)/.dev ## measure the alternatives, each in its own environment
	$(BIN)/python -m benchmarks.peers.run $(BENCH)

# Takes half an hour; with ROWS=1000000 an hour and a half, and some 15 GB until it ends. An interrupted run goes on where
# it was; BENCH="--fresh" begins anew, "--only fill build" takes some steps, "--keep" and later "--again transfer" repeat one.
bench-scale: $(VENV)/.dev $(if $(filter milvus,$(STORE)),milvus-server) ## measure a large collection; ROWS=200000, STORE=milvus or lite
	$(BIN)/python -m benchmarks.scale --store $(STORE) --rows $(ROWS) $(BENCH)

bench-compare: $(VENV)/.dev ## hold a run against an earlier one: BASE=file.json, NEW=file.json, LOSS=0.1
	$(BIN)/python -m benchmarks.compare $(BASE) $(NEW) $(if $(LOSS),--loss $(LOSS))

# Reports go to build/load/. Options: LOAD="--only search-32 --by proto"; the program exits with 1 when a
# gate fails, with 3 when ghz cannot be had.
load: $(VENV)/.dev milvus-server ghz ## load the services with ghz, on STORE=lite or milvus
	$(BIN)/python -m tests.load.run --store $(if $(filter file,$(origin STORE)),lite,$(STORE)) $(LOAD)

capacity: $(VENV)/.dev milvus-server ghz ## find the rate that breaks the objective, and what is full then
	$(BIN)/python -m tests.load.capacity --store $(if $(filter file,$(origin STORE)),lite,$(STORE)) $(LOAD)

# Programs that tests start. Nothing to do where they are on the PATH, and kubectl is a kustomize, too.
# Without Go, or where its modules cannot be fetched, the tests that want them are skipped.
ghz grpcurl kustomize promtool:
	@command -v $@ > /dev/null || test -e build/go/$@ || { test $@ = kustomize && command -v kubectl > /dev/null; } \
		|| { command -v go > /dev/null && $(MAKE) --no-print-directory build/go/$@; } \
		|| echo "there is no $@ here: its tests are skipped" >&2

build/go/grpcurl:
	mkdir -p build/go
	GOBIN=$(CURDIR)/build/go go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3

build/go/ghz:
	mkdir -p build/go
	cd tests/load/html && go build -o $(CURDIR)/build/go/ghz-html .
	GOBIN=$(CURDIR)/build/go go install github.com/bojand/ghz/cmd/ghz@v0.121.0

# Options: FUZZ="--seconds 600 --messages 1000000", or --seed of a run to repeat it.
fuzz: $(VENV)/.dev ## do to the services for a minute what nobody sane does; they must bear it
	$(BIN)/python -m tests.robustness.fuzz $(FUZZ)

# Takes half an hour; writes build/bench/hostile.json. HOSTILE="--list", "--only filter bomb", "--full", or "--known": those
# that were measured before they were mended.
hostile: $(VENV)/.dev $(if $(findstring milvus,$(HOSTILE)),milvus-server) ## attack every field of every method; nobody else may notice
	$(BIN)/python -m tests.hostile $(HOSTILE)

# Takes a quarter of an hour; writes build/bench/first_day.json. FIRST_DAY="--only stops --stops 10"
first-day: $(VENV)/.dev milvus-server ghz ## stops, loads, pages, TLS and logs as callers meet them on their first day
	$(BIN)/python -m tests.first_day $(FIRST_DAY)

# Takes ten minutes; writes build/bench/corpus.json. CORPUS="--keep FOLDER" leaves the files there, CORPUS=--quick
# leaves out what takes long: a walk over a million entries, a sync of 100,000 files, a distant object store.
corpus: $(VENV)/.dev milvus-server ## index picture files and folders of every kind and damage, and hold what became of each
	$(BIN)/python -m tests.corpus $(CORPUS)

rolling: $(VENV)/.dev ## replace query and indexer 20 times each under load; no call may fail
	$(BIN)/python -m tests.robustness.rolling

# Takes ten minutes; writes build/bench/soak.json.
soak: $(VENV)/.dev ## load an encoder with all sorts of calls; each answer is checked, memory must stay
	$(BIN)/python -m benchmarks.soak $(SOAK)

# Takes about ten minutes; writes build/bench/upgrade.json. To repeat a run: UPGRADE="--stores lite --seed 7"
upgrade: $(VENV)/.dev milvus-server ## change the model of a collection under searches, writes and kills; no search may fail
	$(BIN)/python -m tests.upgrade $(UPGRADE)

# Takes ten minutes. To repeat a run: CHAOS="--stores lite --seed 7"
chaos: $(VENV)/.dev milvus-server ## kill everything at random while images stream; nothing may be lost
	$(BIN)/python -m tests.chaos $(CHAOS)

# The package carries the Go and C++ server for Linux on x86-64, and does not agree with ours.
milvus-server: $(VENV)/.uv ## a real Milvus for the tests that want one; without it they are skipped
	@test -e build/milvus-server/.done || { rm -rf build/milvus-server \
		&& $(BIN)/uv venv --quiet --python $(BIN)/python build/milvus-server \
		&& $(BIN)/uv pip install --quiet --python build/milvus-server/bin/python \
			"milvus==2.3.5" "setuptools<81" && touch build/milvus-server/.done; } \
		|| echo "there is no Milvus server here: its tests are skipped" >&2

check: lint types protos-check k8s-check ## format, lint, types, contracts, generated code, manifests

format: $(VENV)/.dev ## rewrite the code in the project's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(VENV)/.dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

protos: $(VENV)/.dev api-docs ## generate the stubs and docs/api.md from protos/
	$(call generate_stubs,.)

api-docs: build/protos.binpb ## generate docs/api.md from the comments in protos/
	$(BIN)/python -m protos.reference build/protos.binpb > docs/api.md

# The stubs and docs/api.md are those that the contracts give; the contracts are linted, and break no
# caller of the last released ones.
protos-check: $(VENV)/.dev build/protos.binpb
	$(BIN)/buf lint build/protos.binpb
	$(BIN)/buf breaking build/protos.binpb --against protos/released.binpb
	rm -rf build/stubs && mkdir -p build/stubs
	$(call generate_stubs,build/stubs)
	@cd build/stubs && find . -type f | while read -r stub; do cmp "$$stub" "../../$$stub" \
		|| { echo "generated code is stale: run 'make protos' and commit the result" >&2; exit 1; }; done
	@$(BIN)/python -m protos.reference build/protos.binpb | cmp - docs/api.md \
		|| { echo "docs/api.md is stale: run 'make api-docs' and commit the result" >&2; exit 1; }

protos-release: build/protos.binpb ## make today's contracts those that must not be broken
	cp build/protos.binpb protos/released.binpb

build/protos.binpb: $(PROTOS) $(VENV)/.dev
	mkdir -p build
	$(BIN)/python -m grpc_tools.protoc -Iprotos -I$(GOOGLEAPIS) --include_imports \
		--include_source_info --descriptor_set_out=$@ $(PROTOS:protos/%=%)

define generate_stubs
$(BIN)/python -m grpc_tools.protoc -Iprotos -I$(GOOGLEAPIS) \
	--python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) $(PROTOS:protos/%=%)
endef

docs: $(VENV)/.dev ## write the tables of docs/operations.md that follow from the code
	$(BIN)/python -m docs.generate

# Whoever has kubectl needs nothing else to render manifests; kustomize alone will do.
k8s-check: $(VENV)/.dev kustomize ## images, manifests and what is rendered from them; needs kubectl or kustomize
	$(BIN)/hadolint deploy/docker/*.Dockerfile tests/cluster/dockerfiles/*.Dockerfile
	$(BIN)/yamllint --strict -c deploy/k8s/.yamllint.yaml deploy/k8s deploy/grafana deploy/prometheus tests/k8s \
		tests/cluster
	@command -v kubectl || command -v kustomize || command -v build/go/kustomize || { echo "to render" \
		"manifests, install kubectl 1.27 or newer, or Go, with which 'make kustomize' builds one" >&2; exit 1; }
	$(BIN)/python -m pytest -q tests/k8s/test_manifests.py tests/k8s/test_docs.py

# Kubernetes is built once, which takes about 15 minutes of two processors and 4 GB of disk, and kept in the user's
# cache; from then on, `make test` runs these tests as well. CONTEXT=kind-glimpse does what cluster-pods does in the
# cluster that kubectl knows by that name, as docs/kubernetes.md has it set up.
cluster-test: $(VENV)/.dev ## hold the manifests against a real Kubernetes with simulated nodes; needs Go and kubectl
	$(if $(CONTEXT),$(BIN)/python -m tests.cluster --context $(CONTEXT) $(CLUSTER),$(BIN)/python -m tests.cluster.toolchain)
	$(if $(CONTEXT),,$(BIN)/python -m pytest -n 2 tests/cluster)

# Takes about 40 minutes, and the first time as long to build; writes build/bench/cluster.json. Needs root, and Debian's
# packages that it names. Shorter: CLUSTER="--roll-outs 1 --drains 1 --scale-downs 1 --indexer-roll-outs 1 --kills 1
# --encoder-roll-outs 1 --control-roll-outs 0". IMAGES=--cuda: the encoder's image from its own Dockerfile, 6 GB.
cluster-pods: $(VENV)/.dev ## replace pods under load, on a node in namespaces of its own; no search may fail
	$(BIN)/python -m tests.cluster.toolchain --node
	$(BIN)/python -m tests.cluster.images $(IMAGES)
	$(BIN)/python -m tests.cluster $(CLUSTER)

# Its module replaces others, which `go install` does not take from afar. Rules need no service discovery.
build/go/promtool:
	mkdir -p build/go/promtool.module
	cd build/go/promtool.module && { test -e go.mod || go mod init promtool; } \
		&& go get github.com/prometheus/prometheus/cmd/promtool@v0.313.2 \
		&& go build -tags remove_all_sd -ldflags "-s -w" -o ../promtool github.com/prometheus/prometheus/cmd/promtool

build/go/kustomize:
	mkdir -p build/go
	GOBIN=$(CURDIR)/build/go go install sigs.k8s.io/kustomize/kustomize/v5@v5.5.0

image-check: $(VENV)/.dev ## install each image's packages in an empty folder and start its service
	$(BIN)/hadolint deploy/docker/*.Dockerfile
	$(BIN)/python -m deploy.docker.replay

# Asks the public package index and the databases behind it for every pinned version: needs the
# internet, and is no part of what runs in CI.
audit: $(VENV)/.uv ## look for known vulnerabilities in what constraints.txt pins (needs the internet)
	$(BIN)/uv tool run --quiet pip-audit==2.10.1 --strict --disable-pip --no-deps -r constraints.txt

# The Go example's stubs are generated, not committed: Go callers generate their own in the same way.
example-go: $(VENV)/.dev build/go/.fetched ## build the Go example into build/go/search (needs Go)
	PATH="$(CURDIR)/build/go:$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos -I$(GOOGLEAPIS) \
		--go_out=examples/go --go_opt=module=glimpse \
		--go-grpc_out=examples/go --go-grpc_opt=module=glimpse glimpse/query/v1/query.proto
	cd examples/go && go build -o ../../build/go/search .

build/go/.fetched: examples/go/go.mod
	mkdir -p build/go
	GOBIN=$(CURDIR)/build/go go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.10
	GOBIN=$(CURDIR)/build/go go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
	cd examples/go && go mod download
	touch $@

example-typescript: examples/typescript/build/search.js ## build the TypeScript example (needs Node.js 20 and npm)

examples/typescript/build/search.js: $(addprefix examples/typescript/,package.json tsconfig.json search.ts) $(PROTOS)
	cd examples/typescript && npm install --silent --fetch-retries=1 && npm run --silent build
	touch $@

example-java: examples/java/target/search.jar ## build the Java example (needs a JDK 17 and Maven)

examples/java/target/search.jar: examples/java/pom.xml examples/java/src/main/java/search/Main.java $(PROTOS)
	cd examples/java && MAVEN_OPTS=-XX:TieredStopAtLevel=1 mvn --quiet --batch-mode -Dmaven.test.skip package
	touch $@

# For `make test`: without Go, or where its modules cannot be fetched, the example's test is skipped.
example-go-if-there:
	@if command -v go >/dev/null && $(MAKE) --no-print-directory build/go/.fetched; \
		then $(MAKE) --no-print-directory example-go; \
		else rm -f build/go/search; echo "there is no Go here: its example's test is skipped" >&2; fi

example-typescript-if-there:
	@if command -v npm >/dev/null && $(MAKE) --no-print-directory example-typescript; then :; \
		else rm -rf examples/typescript/build; \
		echo "the TypeScript example is not built here: its test is skipped" >&2; fi

example-java-if-there:
	@if command -v mvn >/dev/null && $(MAKE) --no-print-directory example-java; then :; \
		else rm -f examples/java/target/search.jar; \
		echo "the Java example is not built here: its test is skipped" >&2; fi

constraints: $(VENV)/.uv ## pin the newest versions of all dependencies
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.10 \
		--all-extras --group dev --no-annotate --no-header --no-emit-index-url --output-file constraints.txt

clean: ## remove everything that was built; not the environment
	rm -rf build

# The environment, in two sizes: what the stack needs, and what its developers need besides.
$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "glimpse needs Python 3.10 or newer; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/.stack: $(VENV)/.uv pyproject.toml constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[cli]' --group stack
	@touch $@

$(VENV)/.dev: $(VENV)/.uv pyproject.toml constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[cli,parquet,s3]' --group dev
	@touch $@ $(VENV)/.stack
