# davit. `make` builds bin/davit, `make help` lists the rest.
# Needs Go 1.26 or newer and make. Go fetches the toolchain named below itself.

export GOTOOLCHAIN ?= go1.27.3
export GOFLAGS =
export CGO_ENABLED = 0

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
LDFLAGS    = -s -w -buildid= -X main.version=$(VERSION)
PLATFORMS  = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME  ?= 30s
BENCH     ?=

.PHONY: build test test-long lint cross demo examples bench bench-delta clean help

build: ## bin/davit, and bin/age for recovery by hand
	go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" -o bin/davit ./cmd/davit
	go build -trimpath -buildvcs=false -o bin/age filippo.io/age/cmd/age

test: ## all tests; the examples and the README's commands are among them
	go vet ./...
	go test ./...

test-long: export DAVIT_TEST_LONG = 1
test-long: ## every test and none from the cache, with the race detector where there is a C compiler, and every fuzz target for FUZZTIME
	@if command -v "$${CC:-cc}" >/dev/null; then CGO_ENABLED=1 go test -race -count=1 ./...; else echo "no C compiler: without the race detector"; go test -count=1 ./...; fi
	@set -e; found=0; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			found=$$((found + 1)); echo "fuzz $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done; test $$found -gt 0

lint: ## gofmt, go vet for each system, staticcheck
	@bad=$$(gofmt -l cmd internal manifest store test transfer); test -z "$$bad" || { echo "gofmt -w is due for:"; echo "$$bad"; exit 1; }
	@set -e; for os in linux darwin windows; do echo "go vet for $$os"; GOOS=$$os go vet ./...; done
	go run $(STATICCHECK) ./...

cross: ## bin/OS-ARCH/davit for each system
	@set -e; for p in $(PLATFORMS); do os=$${p%/*}; arch=$${p#*/}; ext=; if test $$os = windows; then ext=.exe; fi; \
		echo "bin/$$os-$$arch/davit$$ext"; \
		GOOS=$$os GOARCH=$$arch go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" -o bin/$$os-$$arch/davit$$ext ./cmd/davit; \
	done

demo: build ## the whole way of a release, on real packages
	@examples/demo/run.sh

examples: build ## every example but the demo
	@set -e; found=0; for run in examples/*/run.sh; do \
		case $$run in examples/demo/*) continue ;; esac; \
		found=$$((found + 1)); echo; echo "== $$run"; $$run; \
	done; test $$found -gt 0

bench: build ## speed, CPU and memory on real data; beside restic where that is installed
	@test/bench/run.sh

bench-delta: ## what new versions of real packages cost as deltas; beside zstd and restic. BENCH=-quick: a handful
	go run ./test/bench/delta $(BENCH)

clean: ## remove bin
	rm -rf bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 13
