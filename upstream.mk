# The programs that nobody here wrote and that the tests run (tests/upstream names their versions).
# Binaries are cached in $(UPSTREAM_BIN), which CARRACK_UPSTREAM_BIN may point at a directory that several
# clones share. Building all of them takes some 15 minutes on two cores with cold caches.

UPSTREAM_BIN ?= $(or $(CARRACK_UPSTREAM_BIN),target/upstream)
UPSTREAM_KUBE := kubectl kube-apiserver kube-controller-manager kube-scheduler
UPSTREAM_VERSION := v1.36.3
UPSTREAM_FLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(UPSTREAM_VERSION)
UPSTREAM_BUILD := CGO_ENABLED=0 go build -trimpath
UPSTREAM_OUT = $(abspath $@)

# What the tests need; `make upstream-all` adds what conformance runs and `make programs` need.
.PHONY: upstream upstream-all
upstream: $(addprefix $(UPSTREAM_BIN)/,kubectl etcd etcdctl kube-apiserver)
upstream-all: upstream $(addprefix $(UPSTREAM_BIN)/,kube-controller-manager kube-scheduler agnhost helm kwok operator e2e.test)

# Module files are the only prerequisites: a binary is built once per set of versions.
$(addprefix $(UPSTREAM_BIN)/,$(UPSTREAM_KUBE)): $(UPSTREAM_BIN)/%: tests/upstream/go.mod
	@mkdir -p $(@D)
	cd tests/upstream && $(UPSTREAM_BUILD) -ldflags "$(UPSTREAM_FLAGS)" -o $(UPSTREAM_OUT) k8s.io/kubernetes/cmd/$*
	@touch $@

$(UPSTREAM_BIN)/agnhost: tests/upstream/go.mod
	@mkdir -p $(@D)
	cd tests/upstream && $(UPSTREAM_BUILD) -ldflags "-s -w" -o $(UPSTREAM_OUT) k8s.io/kubernetes/test/images/agnhost
	@touch $@

# What kube-scheduler's plugins make of cluster states.
$(UPSTREAM_BIN)/scheduler-answers: tests/upstream/go.mod tests/upstream/scheduler/main.go
	@mkdir -p $(@D)
	cd tests/upstream && $(UPSTREAM_BUILD) -ldflags "-s -w" -o $(UPSTREAM_OUT) ./scheduler
	@touch $@

$(UPSTREAM_BIN)/e2e.test: tests/upstream/go.mod
	@mkdir -p $(@D)
	cd tests/upstream && CGO_ENABLED=0 go test -c -trimpath -ldflags "$(UPSTREAM_FLAGS)" -o $(UPSTREAM_OUT) k8s.io/kubernetes/test/e2e
	@touch $@

$(UPSTREAM_BIN)/etcd: tests/upstream/etcd/go.mod
	@mkdir -p $(@D)
	cd tests/upstream/etcd && $(UPSTREAM_BUILD) -ldflags "-s -w" -o $(UPSTREAM_OUT) go.etcd.io/etcd/server/v3
	@touch $@

$(UPSTREAM_BIN)/etcdctl: tests/upstream/etcd/go.mod
	@mkdir -p $(@D)
	cd tests/upstream/etcd && $(UPSTREAM_BUILD) -ldflags "-s -w" -o $(UPSTREAM_OUT) go.etcd.io/etcd/etcdctl/v3
	@touch $@

$(UPSTREAM_BIN)/helm: tests/upstream/helm/go.mod
	@mkdir -p $(@D)
	cd tests/upstream/helm && $(UPSTREAM_BUILD) -ldflags "-s -w" -o $(UPSTREAM_OUT) helm.sh/helm/v4/cmd/helm
	@touch $@

$(UPSTREAM_BIN)/kwok: tests/upstream/kwok/go.mod
	@mkdir -p $(@D)
	cd tests/upstream/kwok && $(UPSTREAM_BUILD) -ldflags "-s -w" -o $(UPSTREAM_OUT) sigs.k8s.io/kwok/cmd/kwok
	@touch $@

# The only one of these that is written here, against libraries that are not.
$(UPSTREAM_BIN)/operator: $(addprefix tests/upstream/operator/,go.mod main.go reconcile.go site.go)
	@mkdir -p $(@D)
	cd tests/upstream/operator && $(UPSTREAM_BUILD) -ldflags "-s -w" -o $(UPSTREAM_OUT) .
	@touch $@
