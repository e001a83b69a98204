# What there is to do here. `make` lists it.

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where cargo-deny is put when it is not installed. A folder that is kept saves building it again.
TOOLS := $(or $(STILLFRAME_TOOLS),$(TARGET)/tools)
CARGO_DENY_VERSION := 0.20.2

# mkfs and its like lie where not every user looks, and some tests pass over what they do not find.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# The pinned release of Rust may be installed as `stable`.
RUSTUP_TOOLCHAIN := $(or $(RUSTUP_TOOLCHAIN),$(shell tests/toolchain.sh))
ifneq ($(RUSTUP_TOOLCHAIN),)
export RUSTUP_TOOLCHAIN
endif

.PHONY: help demo test lint deny bench fixtures clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: ## build the program, scan an instance in a fake of AWS, show the report and the purge receipt
	@tests/setup.sh demo
	cargo build --release --locked --package stillframe-scanner --package stillframe-fake-aws
	@tests/demo.sh $(TARGET)

# The documentation tests go first: some crates have none, and the last lines of a run should be those of tests.
test: ## install what the tests need, then run them all
	@tests/setup.sh tests
	@[ -n "$$STILLFRAME_CORPORA" ] || echo 'STILLFRAME_CORPORA is unset: tests on third-party data are skipped'
	cargo test --workspace --locked --doc
	cargo test --workspace --locked --tests

lint: ## formatting, and clippy with every warning an error
	cargo fmt --all --check
	cargo clippy --workspace --locked --all-targets -- --deny warnings

# Advisories are left out: their database is on line, and a build should pass or fail the same without a network.
# `cargo deny check advisories` looks at them.
deny: ## licences, banned crates and sources of the dependencies
	@PATH="$(TOOLS)/bin:$$PATH"; \
	[ "$$(cargo-deny --version 2>/dev/null)" = 'cargo-deny $(CARGO_DENY_VERSION)' ] || \
		cargo install cargo-deny --locked --version $(CARGO_DENY_VERSION) --root $(TOOLS) || exit 1; \
	cargo-deny --locked check --hide-inclusion-graph licenses bans sources

bench: ## measure against trivy and fls; the first time it builds a Debian tree, as root
	@tests/bench/run.sh

fixtures: ## build the golden disks anew, as root; look at the differences before you commit them
	@tests/setup.sh recipes
	fixtures/recipes/all.sh $(TARGET)/fixtures

clean: ## remove what was built; the bench root and the tools stay
	cargo clean --profile dev
	cargo clean --profile release
	rm -rf $(TARGET)/demo $(TARGET)/fixtures $(TARGET)/bench-work
