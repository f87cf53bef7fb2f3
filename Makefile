# `make run` serves for development, `make test` runs every test. Each does all its own set-up, as root
# or with sudo, and says what it installs; what is there already is left alone.

CARGO ?= cargo
DATA_DIR ?= ./strongroom-dev
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run test bench lint setup setup-test

help:
	@echo 'make run     build, make a token, serve on loopback with TLS; everything in $(DATA_DIR)'
	@echo 'make test    every test'
	@echo 'make bench   operations per second: raw PKCS#11, through a worker, over gRPC'
	@echo 'make lint    format, clippy, and the rules of deny.toml where cargo-deny is installed'

run: setup
	$(CARGO) build --release --locked
	@echo
	@echo 'In a second terminal, in this folder:'
	@echo '  export PATH="$(abspath $(TARGET_DIR))/release:$$PATH"'
	@echo '  . $(DATA_DIR)/env'
	@echo
	@exec $(TARGET_DIR)/release/strongroom dev --data-dir $(DATA_DIR)

test: setup-test
	$(CARGO) test --workspace --features failpoints --locked --no-fail-fast

bench: setup
	$(CARGO) bench --locked

# What a release is built as is checked too: without fail-points.
lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) check --workspace --locked
	$(CARGO) clippy --workspace --all-targets --features failpoints --locked -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		echo '$(CARGO) deny check bans licenses sources' && $(CARGO) deny check bans licenses sources; \
	else \
		echo 'deny.toml is not checked: cargo-deny is not installed (cargo install cargo-deny --locked)'; \
	fi

# The commands and files that are looked for, each with its Debian packages. The C compiler is for AWS-LC,
# SQLite and BLAKE3; they need nothing else.
SOFTHSM := $(firstword $(wildcard /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
	/usr/lib64/pkcs11/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so))
compiles = echo '\#include <stdlib.h>' | cc -E - >/dev/null 2>&1
wanted = { $(compiles) || echo gcc libc6-dev; [ -n "$(SOFTHSM)" ] || echo softhsm2; }
# The tests also run on the other PKCS#11 modules that Debian has and that run in software, on PostgreSQL, with age,
# with Python, and with the official Azure SDKs of JavaScript, Go and Java. Debian 12's own Node.js and Go are older
# than those SDKs take (Node.js 20, Go 1.25): newer ones on PATH are used.
SOFTOKN := $(wildcard /usr/lib/*/libsoftokn3.so /usr/lib64/libsoftokn3.so)
POSTGRESQL := $(wildcard /usr/lib/postgresql/*/bin/initdb)
OPENCRYPTOKI := $(wildcard /usr/lib/*/pkcs11/libopencryptoki.so /usr/lib64/pkcs11/libopencryptoki.so)
wanted_by_tests = { command -v openssl >/dev/null || echo openssl; command -v strace >/dev/null || echo strace; \
	[ -n "$(SOFTOKN)" ] || echo libnss3; [ -n "$(OPENCRYPTOKI)" ] || echo opencryptoki; \
	[ -n "$(POSTGRESQL)" ] || echo postgresql; command -v age >/dev/null || echo age; python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv; \
	command -v node >/dev/null || echo nodejs; command -v npm >/dev/null || echo npm; \
	command -v go >/dev/null || echo golang; command -v javac >/dev/null || echo default-jdk-headless; \
	command -v mvn >/dev/null || echo maven; }

# $(call install,PACKAGES): as root or with sudo; without either, says what to type.
define install
	missing=$$($(1) | tr '\n' ' '); missing=$${missing% }; \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "Not on Debian: install what it calls $$missing, then run make again." >&2; exit 1; \
	fi; \
	if [ "$$(id -u)" -eq 0 ]; then as_root='env'; \
	elif command -v sudo >/dev/null; then as_root='sudo env'; \
	else echo "Not installed: $$missing. As root: apt-get install $$missing" >&2; exit 1; fi; \
	echo "Installing Debian packages: $$missing"; \
	$$as_root apt-get -qq update && \
	$$as_root DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $$missing
endef

setup:
	@command -v $(CARGO) >/dev/null || { \
		echo 'Rust 1.95 or newer is not installed (https://rustup.rs), or ~/.cargo/bin is not on PATH.' >&2; exit 1; }
	@$(call install,$(wanted))

setup-test: setup
	@$(call install,$(wanted_by_tests))
