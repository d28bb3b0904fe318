# The entrance for people. Every recipe calls a script or a command that works alone as well.

# List the recipes.
default:
    @just --list

# See what Mimeo does: no configuration, no key, no network.
demo *ARGUMENTS:
    cargo run --release --locked -- demo {{ARGUMENTS}}

# Run the gateway on this machine.
serve *ARGUMENTS:
    cargo run --release --locked -- serve {{ARGUMENTS}}

# Everything that CI runs, installing what it needs.
test *STEPS:
    ./test.sh {{STEPS}}

# The inner loop: tests by name, nothing else.
t *FILTER:
    cargo test --workspace --locked -- {{FILTER}}

# Formatting and lints.
lint:
    ./test.sh fmt lint

# Format.
fmt:
    cargo fmt

# Licences, bans and sources of the dependencies.
deny:
    ./test.sh deny

# What the gateway adds to a request, against the simulated provider.
bench *ARGUMENTS:
    cargo run --release --locked --bin overhead -- {{ARGUMENTS}}

# Twice as much as the simulated provider can make, for two minutes: who is served, who is sent away, is memory flat.
soak *ARGUMENTS:
    cargo build --release --locked
    cargo run --release --locked --bin soak -- {{ARGUMENTS}}

# What to drop when the cache is full: the policy beside others, in dollars saved, on generated traces.
eviction *ARGUMENTS:
    cargo run --release --locked -p mimeo-bench --bin eviction -- {{ARGUMENTS}}

# A month of requests, without a gateway and with each layer: what it costs.
bill *ARGUMENTS:
    cargo build --release --locked
    cargo run --release --locked -p mimeo-bench --bin bill -- {{ARGUMENTS}}

# Write the pages that are made from the code.
docs:
    cargo run --locked -- reference config > docs/config.md
    cargo run --locked -- reference providers > docs/providers.md
    cargo run --locked -- providers schema > providers/schema.json
