# Everything a developer runs; the continuous integration calls the same.
.PHONY: run check test bench release test-needs fuzz

run: ## Build and serve the sample configuration with a built-in mock LLM
	cargo run --release -- quickstart

check: ## Format, lints, docs, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	@if ! cargo deny --version >/dev/null 2>&1; then \
	  echo "cargo-deny is not installed (cargo install cargo-deny): licences and advisories were not checked"; \
	else \
	  cargo deny check --hide-inclusion-graph bans licenses sources || exit 1; \
	  if cargo deny fetch db >/dev/null 2>&1; then cargo deny check --hide-inclusion-graph advisories; \
	  else echo "the advisory database cannot be reached: advisories were not checked"; fi; \
	fi

test: test-needs ## Install what the tests need on Debian, then run all of them
	cargo test --workspace --quiet
	scripts/test-clients

test-needs:
	scripts/install-test-needs

fuzz: ## Fuzz the readers of configuration and of the LLM layer (needs nightly Rust and cargo-fuzz, and says so)
	scripts/fuzz

release: ## The binary as it is shipped, optimised by a profile: target/profiled/tollgate
	scripts/build-profiled

bench: release ## Tollgate and nginx side by side (needs nginx with Lua and cjson)
	target/release/tollgate-bench --tollgate target/profiled/tollgate
