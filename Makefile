# `make help` lists the targets.

GO      ?= go
KMOD    := memory/kmod
STATIC  := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w'
GOFILES := go.mod go.sum $(shell find . -name '*.go' -o -path './memory/kmod/*' -o -path './internal/measure/bench/baseline/src/*' -o -name '*.bin')

bin/offmap: $(GOFILES) ## build the program, static, into bin/
	$(STATIC) -o guest/initramfs/small.elf ./guest/initramfs/small
	$(STATIC) -tags embed -o $@ ./cmd/offmap

build: bin/offmap

BASELINE := $(wildcard internal/measure/bench/baseline/src/*)

bin/offmap-baseline: $(BASELINE) ## build the C baseline of the benchmarks, for where there is no compiler
	@mkdir -p bin
	$(CC) -O2 -static -pthread -o $@ $(filter %.c,$^)

test: ## run every test (scripts/test installs what is missing first)
	scripts/test

demo: ## boot Linux in secret memory, and show that the host can't read it
	scripts/demo

kmod: ## build the bridge module for the running kernel
	$(MAKE) -C $(KMOD)

kmod-install: ## install the bridge module, so that modprobe finds it (as root)
	$(MAKE) -C $(KMOD) install

generate: ## assemble the embedded payloads again
	$(GO) generate ./...

docs: bin/offmap ## make the generated pages of docs/ again, in the lab on every kernel
	$(GO) run ./internal/render/docgen kernels
	$(GO) run ./internal/render/docgen limits
	$(GO) run ./internal/render/docgen audit

clean: ## remove what was built
	rm -rf bin guest/initramfs/small.elf
	-$(MAKE) -C $(KMOD) clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build test demo kmod kmod-install generate docs clean help
