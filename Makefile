# `make help` lists the targets.

GO      ?= go
KMOD    := memory/kmod
# The commit goes into the program where git tells it; where it refuses, as it
# does in another user's directory, Go would end the build.
VCS     := $(if $(shell git rev-parse HEAD 2>/dev/null),auto,false)
STATIC  := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(VCS) -ldflags '-s -w'
PREFIX  ?= /usr/local
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
DKMSDIR := /usr/src/offmap-$(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' $(KMOD)/dkms.conf)
GOFILES := go.mod go.sum $(shell find . -name '*.go' -o -path './memory/kmod/*' -o -path './internal/measure/bench/baseline/src/*' -o -name '*.bin') $(wildcard .git/logs/HEAD)

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

# The tests that take minutes, or measure, are scripts/test's.
SLOW := ^offmap/(audit|cmd/offmap|vmm|internal/(lab|measure/.*|render/.*))$$

check: ## check format, vet, staticcheck and the quick unit tests, in about a minute
	@test -z "$$(gofmt -l .)" || { echo "not formatted: $$(gofmt -l .)"; exit 1; }
	$(GO) vet ./...
	scripts/staticcheck
	$(GO) test -short $$($(GO) list ./... | grep -vE '$(SLOW)')

demo: ## boot Linux in secret memory, and show that the host can't read it
	scripts/demo

kmod: ## build the bridge module for the running kernel
	$(MAKE) -C $(KMOD)

kmod-install: ## install the bridge module, so that modprobe finds it (as root)
	$(MAKE) -C $(KMOD) install

install: install-program install-dkms ## install the program, its manual, completion, and the module's source for DKMS (PREFIX, DESTDIR)

# The directories are made one by one: install -D makes parents by the umask.
install-program: bin/offmap
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin share/man/man1 share/doc/offmap/docs \
		share/bash-completion/completions share/fish/vendor_completions.d) $(DESTDIR)$(ZSHDIR)
	install bin/offmap $(DESTDIR)$(PREFIX)/bin/offmap
	bin/offmap man $(DESTDIR)$(PREFIX)/share/man/man1
	bin/offmap completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/offmap
	bin/offmap completion zsh >$(DESTDIR)$(ZSHDIR)/_offmap
	bin/offmap completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/offmap.fish
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/offmap
	install -m 644 docs/*.md $(DESTDIR)$(PREFIX)/share/doc/offmap/docs

install-dkms:
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,lib/udev/rules.d share/doc/offmap-dkms) $(DESTDIR)$(DKMSDIR)
	install -m 644 $(addprefix $(KMOD)/,Kbuild Makefile dkms.conf COPYING bridge.c compat.h main.c module.h offmap.h removed.c) $(DESTDIR)$(DKMSDIR)
	install -m 644 scripts/60-offmap.rules $(DESTDIR)$(PREFIX)/lib/udev/rules.d
	install -m 644 $(KMOD)/README.md $(DESTDIR)$(PREFIX)/share/doc/offmap-dkms

uninstall: ## remove what make install installed (with the same PREFIX and DESTDIR)
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/offmap share/man/man1/offmap.1 share/man/man1/offmap-*.1 \
		share/bash-completion/completions/offmap share/fish/vendor_completions.d/offmap.fish \
		lib/udev/rules.d/60-offmap.rules) $(DESTDIR)$(ZSHDIR)/_offmap
	rm -rf $(addprefix $(DESTDIR)$(PREFIX)/share/doc/,offmap offmap-dkms) $(DESTDIR)$(DKMSDIR)

deb: bin/offmap ## build the Debian packages offmap and offmap-dkms into bin/
	scripts/deb/build

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

.PHONY: build test check demo kmod kmod-install install install-program install-dkms uninstall deb generate docs clean help
