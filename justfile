# Short names for what CONTRIBUTING.md describes. `just` lists them.
default:
    @just --list

# The fast loop
check:
    cargo clippy --workspace --all-targets -- -D warnings
    cargo fmt --all --check

test:
    cargo test --workspace

# Everything CI runs
ci:
    .ci/run

# Write generated protobuf code, docs/reasons/ and the default configuration's page anew
generate:
    UPDATE_GENERATED=1 cargo test -p proto -p domain

demo:
    cargo run --release -- demo
