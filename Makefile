VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
MODULES := $(patsubst %/go.mod,%,$(wildcard ./go.mod lab/go.mod test/*/go.mod))

# Tools are built once for every checkout that pins the same versions.
CACHE := $(or $(GIMBAL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gimbal)
TOOLS := $(CACHE)/tools-$(shell git hash-object tools/go.sum | cut -c1-12)

.PHONY: help build run test test-unit test-stories fuzz bench format lint manifests generate clean bin/lab

help: ## List these tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/gimbal, which is also the kubectl plugin bin/kubectl-gimbal
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/gimbal ./cmd/gimbal
	ln -sf gimbal bin/kubectl-gimbal

run: bin/lab ## Start whole clusters with Gimbal, Contour and Envoy on this machine
	bin/lab up

test: test-unit test-stories ## Run the unit tests, then the stories on the real components

test-unit: bin/lab ## Run the unit tests alone
	bin/lab components
	go test -race ./...
	go test -C lab -race ./...
	go test -C test/bench -race ./...

# The lab's network leads nowhere else, so what the stories need is fetched and compiled before.
# Both packages have clusters: they take turns.
test-stories: bin/lab ## Run the stories alone
	go test -C test/e2e -race -exec true ./... >/dev/null
	bin/lab up -- go test -C test/e2e -race -count 1 -p 1 ./...

FUZZTIME ?= 30s
fuzz: ## Fuzz what untrusted input reaches, each target for FUZZTIME
	@grep -rHo '^func Fuzz[A-Za-z]*' --include=*_test.go internal | while IFS=: read -r file target; do \
		go test "./$$(dirname $$file)" -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) || exit; \
	done

bench: ## Measure on real control planes and write docs/performance.md
	go run -C test/bench . -write ../../docs/performance.md

format: $(TOOLS) ## Format the code as lint wants it
	@for m in $(MODULES); do (cd $$m && $(TOOLS)/golangci-lint fmt) || exit; done

lint: $(TOOLS) manifests ## Check the code's style and that the manifests build
	@for m in $(MODULES); do echo "lint $$m"; (cd $$m && $(TOOLS)/golangci-lint run) || failed=1; done; exit $$failed

manifests: $(TOOLS) ## Render the manifests of deploy to bin/manifests, with Contour's from its Go module
	rm -rf bin/manifests && mkdir -p bin && cp -r deploy bin/manifests
	go mod download -C lab/component/contour github.com/projectcontour/contour
	from="$$(go list -C lab/component/contour -m -f '{{.Dir}}' github.com/projectcontour/contour)/examples" && \
		cat "$$from/render/contour.yaml" >bin/manifests/contour/contour.yaml && \
		cat "$$from/contour/01-crds.yaml" >bin/manifests/contour-crds/01-crds.yaml
	sed -i.orig 's|https://.*/contour/v.*/||' bin/manifests/contour/kustomization.yaml bin/manifests/contour-crds/kustomization.yaml
	cd bin/manifests && for k in . contour-crds upstream upstream/nodeport; do $(TOOLS)/kustomize build $$k -o $$k/rendered.yaml || exit; done

generate: $(TOOLS) ## Rewrite what is generated: deepcopy, CRDs, roles, reference pages
	rm -rf deploy/crds/gimbal.* bin/role
	$(TOOLS)/controller-gen object crd paths=./api/... output:crd:dir=deploy/crds
	go test ./cmd/gimbal -run TestReference -update
	$(TOOLS)/crd-ref-docs --log-level ERROR --source-path api/v1alpha1 --config tools/crd-ref-docs/config.yaml \
		--templates-dir tools/crd-ref-docs/templates --renderer markdown --output-path docs/reference/upstreamcluster.md
	$(TOOLS)/controller-gen rbac:roleName=gimbal-discovery paths=./internal/discovery paths=./internal/central paths=./internal/lease output:dir=bin/role/discovery
	$(TOOLS)/controller-gen rbac:roleName=gimbal-upstream paths=./internal/upstream/kubernetes output:dir=bin/role/upstream
	mv bin/role/discovery/role.yaml deploy/discovery/
	mv bin/role/upstream/role.yaml deploy/upstream/

clean: ## Remove what was built here; the cache of tools and components stays
	rm -rf bin

$(TOOLS):
	rm -rf $@.part
	GOBIN=$@.part CGO_ENABLED=0 go install -C tools tool
	mv $@.part $@

bin/lab:
	go build -C lab -o ../bin/lab ./cmd/lab
